//! A point in time that fits into an atomic, so that every byte can update it without a lock.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A point in time, or none.
#[derive(Debug, Default)]
pub(crate) struct Timestamp(AtomicU64);

impl Timestamp {
    /// Sets it to now.
    pub(crate) fn set(&self) {
        self.0.store(now(), Ordering::Relaxed);
    }

    /// Sets it to now unless it is set.
    pub(crate) fn set_if_none(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.set();
        }
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// How much of `limit` is left since this point; `None` if it is not set.
    pub(crate) fn remaining(&self, limit: Duration) -> Option<Duration> {
        let since = self.0.load(Ordering::Relaxed);
        let elapsed = now().saturating_sub(since);
        (since != 0).then(|| Duration::from_millis(millis(limit).saturating_sub(elapsed)))
    }
}

/// Milliseconds since the first call in this process, never 0, which stands for "not set".
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(START.elapsed()).saturating_add(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
