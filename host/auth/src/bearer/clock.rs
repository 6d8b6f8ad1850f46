//! What time it is. Tests have their own clock, so that no test waits for a token to expire.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A clock; clones show the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970, by which tokens are valid.
    pub unix: u64,
    /// Since an arbitrary moment. Never goes back, also if somebody sets the system's clock.
    pub running: Duration,
}

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        let start = Instant::now();
        Self::new(move || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            Now { unix: since.map_or(0, |since| since.as_secs()), running: start.elapsed() }
        })
    }

    /// One that shows what this function returns.
    pub fn new(now: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn now(&self) -> Now {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
