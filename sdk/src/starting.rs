//! Ready-made ways to start a job.

use std::time::Duration;

use crate::jobs::{Options, WhenBusy};

impl Options {
    /// A job of this key: tried once, as soon as it has its turn, behind others of its kind and key. A
    /// key is 256 bytes at most; of one kind and key one job runs at a time.
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

    /// Tried so often at most, from 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// What happens where one of this kind and key is there already.
    pub fn when_busy(mut self, when_busy: WhenBusy) -> Self {
        self.when_busy = when_busy;
        self
    }

    /// Does not begin before this time, in nanoseconds since the Unix epoch.
    pub fn not_before(mut self, time: u64) -> Self {
        self.not_before = Some(time);
        self
    }

    /// The pause before the second attempt, in whole milliseconds, 30 days at most. It doubles with each
    /// further one, up to ten minutes.
    pub fn backoff(mut self, pause: Duration) -> Self {
        self.backoff = Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// A kind of job that is started once this one has ended, however it did; its input is this one's
    /// id. See the contract for the rest.
    pub fn finally(mut self, kind: &str) -> Self {
        self.finally = Some(kind.to_owned());
        self
    }
}
