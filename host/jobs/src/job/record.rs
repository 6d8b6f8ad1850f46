//! A job as stored in the file, and the steps of its life that involve no other job. Fields may be
//! added, as in `job`.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    BACKOFF, FINAL_ATTEMPTS, Job, MAX_BACKOFF, MAX_MESSAGE, MAX_PAUSE, NewJob, Progress, State,
    WhenBusy, shortened,
};
use crate::clock::milliseconds_up;

/// What the file stores about a job: what is shown, and what only the dispatcher needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) job: Job,
    /// The pause after the first failed attempt, in milliseconds.
    backoff: u64,
}

impl Record {
    pub(crate) fn new(id: String, new: NewJob, now: SystemTime) -> Self {
        let job = Job {
            id,
            mount: new.mount,
            kind: new.kind,
            key: new.key,
            origin: new.origin,
            schedule: new.schedule,
            user: new.user,
            after: None,
            finally: new.finally,
            input: new.input,
            state: State::Queued,
            attempt: 0,
            attempts: new.attempts,
            progress: Progress::default(),
            created: now,
            started: None,
            ended: None,
            next_attempt: new.not_before.map(milliseconds_up).filter(|time| *time > now),
            message: String::new(),
            output: Vec::new(),
        };
        let backoff = new.backoff.min(MAX_BACKOFF);
        Self { job, backoff: u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The job that the end of this one starts, if any. It queues behind others of its key, so that
    /// two never clean up after the same thing at once.
    pub(crate) fn finally(&self, id: impl FnOnce() -> String, now: SystemTime) -> Option<Self> {
        let Job { id: ended, mount, key, user, finally, .. } = &self.job;
        let new = NewJob {
            mount: mount.clone(),
            kind: finally.clone()?,
            key: key.clone(),
            origin: format!("job {ended}"),
            schedule: None,
            user: user.clone(),
            input: ended.clone().into_bytes(),
            attempts: FINAL_ATTEMPTS,
            backoff: BACKOFF,
            not_before: None,
            finally: None,
            when_busy: WhenBusy::Queue,
        };
        let mut record = Self::new(id(), new, now);
        record.job.after = Some(ended.clone());
        Some(record)
    }

    /// Whether a new job that may begin at `not_before` can join this one: not if this one must
    /// wait for a later time.
    pub(crate) fn can_be_joined(&self, not_before: Option<SystemTime>, now: SystemTime) -> bool {
        let begins = self.job.next_attempt.filter(|_| self.job.attempt == 0);
        let from = not_before.map_or(now, milliseconds_up);
        begins.is_none_or(|begins| begins <= now.max(from))
    }

    /// How long it waits after the current attempt.
    pub(crate) fn pause(&self) -> Duration {
        let first = Duration::from_millis(self.backoff);
        let doublings = self.job.attempt.saturating_sub(1).min(31);
        first.saturating_mul(1 << doublings).min(MAX_PAUSE.max(first))
    }

    /// Whether it only waits for its turn. A time for another attempt that is further off than any
    /// pause comes from a clock that was wrong, and is ignored; a time for the first attempt is what
    /// the caller asked for.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        let is_wrong = |left: Duration| self.job.attempt > 0 && left > self.pause();
        self.job.state == State::Queued
            && self
                .job
                .next_attempt
                .is_none_or(|next| next.duration_since(now).is_ok_and(is_wrong) || next <= now)
    }

    pub(crate) fn end(&mut self, state: State, message: String, now: SystemTime) {
        self.job.state = state;
        self.job.message = shortened(message, MAX_MESSAGE);
        self.job.ended = Some(now);
        self.job.next_attempt = None;
    }

    pub(crate) fn try_again(&mut self, message: String, at: Option<SystemTime>) {
        self.job.state = State::Queued;
        self.job.message = shortened(message, MAX_MESSAGE);
        self.job.next_attempt = at;
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn record(input: &[u8]) -> Record {
        let new = NewJob {
            mount: "/".to_owned(),
            kind: "backup".to_owned(),
            key: "main".to_owned(),
            origin: "etcd".to_owned(),
            schedule: None,
            user: None,
            input: input.to_vec(),
            attempts: 9,
            backoff: BACKOFF,
            not_before: None,
            finally: None,
            when_busy: WhenBusy::Queue,
        };
        Record::new("ID".to_owned(), new, UNIX_EPOCH + Duration::from_millis(1_800_000_000_123))
    }

    #[test]
    fn the_json_form_is_lossless_and_readable() {
        for input in [&b"{\"cluster\":\"main\"}"[..], b"", b"\xff\x00\xfe"] {
            let record = record(input);
            let json = serde_json::to_string(&record).unwrap();
            assert!(json.contains("\"created\":\"2027-01-15T08:00:00.123Z\""), "{json}");
            assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        }
    }

    #[test]
    fn unknown_fields_of_a_later_version_are_ignored() {
        let mut json = serde_json::to_value(record(b"x")).unwrap();
        json["colour"] = "green".into();
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record(b"x"));
    }

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let mut record = record(b"");
        let pauses: Vec<u64> = (1..8)
            .map(|attempt| {
                record.job.attempt = attempt;
                record.pause().as_secs()
            })
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        record.job.attempt = u32::MAX;
        assert_eq!(record.pause(), MAX_PAUSE);
        record.backoff = 3_600_000;
        assert_eq!(record.pause(), Duration::from_secs(3600));
    }

    #[test]
    fn an_attempt_that_a_wrong_clock_put_far_away_is_due() {
        let mut record = record(b"");
        let now = record.job.created;
        record.job.attempt = 1;
        for (seconds, due) in [(0, true), (1, false), (30, false), (31, true), (1_000_000, true)] {
            record.job.next_attempt = Some(now + Duration::from_secs(seconds));
            assert_eq!(record.is_due(now), due, "in {seconds} s");
        }
    }
}
