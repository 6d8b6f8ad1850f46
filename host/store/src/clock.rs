//! The clock that says whether a blob has expired, and whether it has been there for long enough to be deleted.

mod steady;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub use steady::{Reading, SteadyClock, TRUSTED};

use crate::expiry::{nanoseconds, time};

/// Says what time it is. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Stopped(Arc<AtomicU64>),
    Steady(Arc<SteadyClock>),
}

impl Clock {
    /// A clock that stands still until it is [set](Self::set), for tests.
    pub fn stopped_at(time: SystemTime) -> Self {
        Self(Source::Stopped(Arc::new(AtomicU64::new(nanoseconds(time)))))
    }

    /// A clock that does not jump.
    pub fn steady(clock: SteadyClock) -> Self {
        Self(Source::Steady(Arc::new(clock)))
    }

    /// Sets a clock that stands still.
    pub fn set(&self, time: SystemTime) {
        if let Source::Stopped(stopped) = &self.0 {
            stopped.store(nanoseconds(time), Ordering::Relaxed);
        }
    }

    /// The time.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Stopped(stopped) => time(stopped.load(Ordering::Relaxed)),
            Source::Steady(steady) => steady.now(),
        }
    }

    /// The time that a blob gets which is stored now, to the nanosecond: the system's, or that of a steady clock if it is
    /// later, so that what is stored while the system's clock is slow does not look older than it is.
    pub fn arrival(&self) -> SystemTime {
        match &self.0 {
            Source::Steady(steady) => steady.arrival(),
            Source::System | Source::Stopped(_) => SystemTime::now(),
        }
    }

    /// How far a steady clock is behind the system's.
    pub fn behind(&self) -> Duration {
        match &self.0 {
            Source::Steady(steady) => steady.behind(),
            Source::System | Source::Stopped(_) => Duration::ZERO,
        }
    }

    /// Whether this time, if there is one, has come.
    pub fn has_passed(&self, expires: Option<SystemTime>) -> bool {
        expires.is_some_and(|expires| expires <= self.now())
    }
}

/// The same clock.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::System, Source::System) => true,
            (Source::Stopped(one), Source::Stopped(other)) => Arc::ptr_eq(one, other),
            (Source::Steady(one), Source::Steady(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Clock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_is_set() {
        let clock = Clock::stopped_at(time(7));
        assert!(clock.has_passed(Some(time(7))) && !clock.has_passed(Some(time(8))));
        assert!(!clock.has_passed(None));
        clock.clone().set(time(8));
        assert!(clock.has_passed(Some(time(8))));
        assert_ne!(clock, Clock::default());
        assert_eq!(clock, clock.clone());
    }
}
