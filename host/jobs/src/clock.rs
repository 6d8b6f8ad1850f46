//! The time of day, as a trait so that tests can set it. Pauses use tokio's clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time. It may jump in either direction.
    fn now(&self) -> SystemTime;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Truncates to milliseconds, so that the file and operators see the same times as the calculations
/// use. A clock before 1970 reads as 1970.
pub(crate) fn whole_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let below = Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000));
    UNIX_EPOCH + since.saturating_sub(below)
}

/// Rounds up to milliseconds, for something that must not happen before `time`.
pub(crate) fn milliseconds_up(time: SystemTime) -> SystemTime {
    let cut = whole_milliseconds(time);
    if cut < time { cut + Duration::from_millis(1) } else { cut }
}

/// The time from one moment to another; zero if the clock went back.
pub(crate) fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
