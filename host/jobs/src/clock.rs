//! What time it is: a trait, so that tests can say. Only the time of day is asked here; pauses are
//! tokio's.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. It may jump, in either direction.
    fn now(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Cut to milliseconds: what the file keeps and people are shown is then the same as what is
/// reckoned with. A clock before 1970 reads as 1970.
pub(crate) fn whole_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let below = Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000));
    UNIX_EPOCH + since.saturating_sub(below)
}

/// The same, but not earlier than the time: for what must not happen before it.
pub(crate) fn milliseconds_up(time: SystemTime) -> SystemTime {
    let cut = whole_milliseconds(time);
    if cut < time { cut + Duration::from_millis(1) } else { cut }
}

/// How long it is from one time to another; nothing where the clock went back.
pub(crate) fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
