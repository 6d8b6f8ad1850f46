//! What a job is, for whoever starts, shows or runs one. The same form, as JSON, is in the file and
//! in what operators are shown: fields may be added (with `#[serde(default)]`), a change of meaning
//! needs another version of the file.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::StartError;

/// Most bytes of what a job is given, and of what it returns.
pub const MAX_INPUT: usize = 64 * 1024;
/// Most bytes of what a job returns.
pub const MAX_OUTPUT: usize = 64 * 1024;
/// Most bytes of a message; longer ones are cut.
pub const MAX_MESSAGE: usize = 4 * 1024;
/// Most bytes of a kind, a key, an origin and a phase.
pub const MAX_NAME: usize = 256;
/// Most jobs of a mount that wait or run.
pub const MAX_LIVE: usize = 1000;
/// The longest pause between attempts, unless the first pause is longer already.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its turn or for its next attempt.
    Queued,
    /// Is being run.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended otherwise, with no attempt left.
    Failed,
    /// Was ended by somebody.
    Cancelled,
}

impl State {
    /// The name that operators see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Nothing will change any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How far a job is, in whatever unit it chose; mostly bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// So much is done.
    pub done: u64,
    /// Of so much, where that is known.
    pub total: Option<u64>,
    /// One or two words for operators.
    pub phase: String,
}

/// A job as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unique; 26 letters and digits, in the order of the starts.
    pub id: String,
    /// Path of the mount that it belongs to.
    pub mount: String,
    /// What is to be done; the plugin knows.
    pub kind: String,
    /// Of the same mount, kind and key one job runs at a time.
    pub key: String,
    /// What started it: a plugin's name, `schedule NAME`, or `operator`.
    pub origin: String,
    /// The schedule that it counts for.
    pub schedule: Option<String>,
    /// The user for whom it works, and by whose rules.
    #[serde(default)]
    pub user: Option<String>,
    /// What it was given. In JSON it is a text, or `{"hex": "…"}` where it is not UTF-8.
    #[serde(with = "crate::form::bytes")]
    pub input: Vec<u8>,
    /// Where it is in its life.
    pub state: State,
    /// Which attempt it is in, or was in last, from 1; 0 before the first.
    pub attempt: u32,
    /// How often it is tried at most.
    pub attempts: u32,
    /// As last reported.
    pub progress: Progress,
    /// When it was started. Times are RFC 3339 in JSON, in milliseconds.
    #[serde(with = "crate::form::time")]
    pub created: SystemTime,
    /// When its latest attempt began.
    #[serde(with = "crate::form::optional_time")]
    pub started: Option<SystemTime>,
    /// When it ended.
    #[serde(with = "crate::form::optional_time")]
    pub ended: Option<SystemTime>,
    /// Not before this time; set while it waits for another attempt.
    #[serde(with = "crate::form::optional_time")]
    pub next_attempt: Option<SystemTime>,
    /// Why it failed, or waits; for people.
    pub message: String,
    /// What it returned; in JSON as `input`.
    #[serde(with = "crate::form::bytes")]
    pub output: Vec<u8>,
}

/// A job to be started.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Path of the mount that it belongs to.
    pub mount: String,
    /// What is to be done; at most [`MAX_NAME`] bytes.
    pub kind: String,
    /// Of the same mount, kind and key one job runs at a time; at most [`MAX_NAME`] bytes.
    pub key: String,
    /// What starts it: a plugin's name, `schedule NAME`, or `operator`.
    pub origin: String,
    /// The schedule that it counts for.
    pub schedule: Option<String>,
    /// The user for whom it works, and by whose rules; at most [`MAX_NAME`] bytes.
    pub user: Option<String>,
    /// What it is given; at most [`MAX_INPUT`] bytes.
    pub input: Vec<u8>,
    /// How often it is tried at most, from 1.
    pub attempts: u32,
    /// The pause after the first failed attempt. It doubles with each, up to [`MAX_PAUSE`].
    pub backoff: Duration,
    /// What happens where one of its mount, kind and key is there already.
    pub when_busy: WhenBusy,
}

impl NewJob {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let invalid = |text: String| Err(StartError::Invalid(text));
        if self.kind.is_empty() {
            return invalid("a job needs a kind".to_owned());
        }
        for (what, name) in [("kind", &self.kind), ("key", &self.key), ("origin", &self.origin)] {
            if name.len() > MAX_NAME {
                let size = name.len();
                return invalid(format!("the {what} has {size} bytes; at most {MAX_NAME} may be"));
            }
        }
        if let Some(size) = self.user.as_ref().map(String::len).filter(|size| *size > MAX_NAME) {
            return invalid(format!("the user's name has {size} bytes; at most {MAX_NAME} may be"));
        }
        if self.input.len() > MAX_INPUT {
            let size = self.input.len();
            return invalid(format!("the input has {size} bytes; at most {MAX_INPUT} may be"));
        }
        if self.attempts == 0 {
            return invalid("a job needs at least one attempt".to_owned());
        }
        Ok(())
    }
}

/// What happens where a job of the same mount, kind and key waits or runs already. One that waits
/// for another attempt counts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBusy {
    /// Waits for its turn.
    Queue,
    /// None is started; the id is that of the youngest that is there.
    Join,
    /// Fails with [`StartError::Busy`].
    Refuse,
}

/// Which jobs are listed: those that agree with all that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Path of the mount.
    pub mount: Option<String>,
    /// The kind.
    pub kind: Option<String>,
    /// The state.
    pub state: Option<State>,
}

impl Filter {
    pub(crate) fn takes(&self, mount: &str, kind: &str, state: State) -> bool {
        self.mount.as_deref().is_none_or(|wanted| wanted == mount)
            && self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.state.is_none_or(|wanted| wanted == state)
    }
}

/// What the file holds of a job: what is shown, and what only the dispatcher needs.
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
            input: new.input,
            state: State::Queued,
            attempt: 0,
            attempts: new.attempts,
            progress: Progress::default(),
            created: now,
            started: None,
            ended: None,
            next_attempt: None,
            message: String::new(),
            output: Vec::new(),
        };
        Self { job, backoff: u64::try_from(new.backoff.as_millis()).unwrap_or(u64::MAX) }
    }

    /// How long it waits after the attempt that it is in.
    pub(crate) fn pause(&self) -> Duration {
        let first = Duration::from_millis(self.backoff);
        let doublings = self.job.attempt.saturating_sub(1).min(31);
        first.saturating_mul(1 << doublings).min(MAX_PAUSE.max(first))
    }

    /// It waits for its turn, and nothing but its turn. A time for the next attempt that is further
    /// off than any pause comes from a clock that was wrong, and is not waited for.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        self.job.state == State::Queued
            && self.job.next_attempt.is_none_or(|next| {
                next.duration_since(now).is_ok_and(|left| left > self.pause()) || next <= now
            })
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

/// Cut at a character's end.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
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
            backoff: Duration::from_secs(30),
            when_busy: WhenBusy::Queue,
        };
        Record::new("ID".to_owned(), new, UNIX_EPOCH + Duration::from_millis(1_800_000_000_123))
    }

    #[test]
    fn the_form_in_the_file_is_what_was_put_in_and_people_can_read_it() {
        for input in [&b"{\"cluster\":\"main\"}"[..], b"", b"\xff\x00\xfe"] {
            let record = record(input);
            let json = serde_json::to_string(&record).unwrap();
            assert!(json.contains("\"created\":\"2027-01-15T08:00:00.123Z\""), "{json}");
            assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        }
    }

    #[test]
    fn fields_of_a_later_version_do_not_disturb() {
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
    fn an_attempt_that_a_wrong_clock_put_far_away_is_not_waited_for() {
        let mut record = record(b"");
        let now = record.job.created;
        record.job.attempt = 1;
        for (seconds, due) in [(0, true), (1, false), (30, false), (31, true), (1_000_000, true)] {
            record.job.next_attempt = Some(now + Duration::from_secs(seconds));
            assert_eq!(record.is_due(now), due, "in {seconds} s");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_and_messages_are_cut_between_characters() {
        let good = NewJob {
            mount: "/".to_owned(),
            kind: "k".repeat(MAX_NAME),
            key: "k".repeat(MAX_NAME),
            origin: String::new(),
            schedule: None,
            user: None,
            input: vec![0; MAX_INPUT],
            attempts: 1,
            backoff: Duration::ZERO,
            when_busy: WhenBusy::Queue,
        };
        assert!(good.check().is_ok());
        let wrong = [
            NewJob { kind: String::new(), ..good.clone() },
            NewJob { kind: "k".repeat(MAX_NAME + 1), ..good.clone() },
            NewJob { key: "k".repeat(MAX_NAME + 1), ..good.clone() },
            NewJob { input: vec![0; MAX_INPUT + 1], ..good.clone() },
            NewJob { attempts: 0, ..good },
        ];
        for wrong in wrong {
            assert!(matches!(wrong.check(), Err(StartError::Invalid(_))), "{wrong:?}");
        }
        assert_eq!(shortened("aäb".to_owned(), 2), "a");
    }
}
