//! Options of a job, one method for each.

use std::time::Duration;

use super::{Options, WhenBusy};

impl Options {
    /// A job with this key, 256 bytes at most. It is tried once, as soon as the jobs of the same kind and key
    /// that were started before it have ended.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use keepgate_sdk::jobs::{Options, WhenBusy};
    ///
    /// let options = Options::new("main")
    ///     .attempts(3)
    ///     .backoff(Duration::from_secs(1))
    ///     .when_busy(WhenBusy::JoinQueued)
    ///     .finally("tidy");
    /// assert_eq!((options.attempts, options.backoff), (3, Some(1000)));
    /// ```
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            attempts: 1,
            when_busy: WhenBusy::Queue,
            not_before: None,
            backoff: None,
            finally: None,
        }
    }

    /// The maximum number of attempts, from 1.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// What to do if a job of this kind and key is queued or running.
    #[must_use]
    pub fn when_busy(mut self, when_busy: WhenBusy) -> Self {
        self.when_busy = when_busy;
        self
    }

    /// The earliest start, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn not_before(mut self, time: u64) -> Self {
        self.not_before = Some(time);
        self
    }

    /// The pause before the second attempt, in whole milliseconds, at most 30 days. It doubles with each
    /// further attempt, up to ten minutes.
    #[must_use]
    pub fn backoff(mut self, pause: Duration) -> Self {
        self.backoff = Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// The kind of a job that starts when this one has ended, whether or not it succeeded. Its input is this
    /// job's id. See the contract for details.
    #[must_use]
    pub fn finally(mut self, kind: &str) -> Self {
        self.finally = Some(kind.to_owned());
        self
    }
}
