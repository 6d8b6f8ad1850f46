//! What a job is, for the code that starts, shows or runs one. Its JSON form is both in the file and
//! shown to operators: fields may be added (with `#[serde(default)]`); a change of meaning needs a
//! new version of the file.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::StartError;

pub(crate) use self::record::Record;
pub use self::user::User;

mod record;
mod user;

/// The most bytes of a job's input.
pub const MAX_INPUT: usize = 64 * 1024;
/// The most bytes of a job's output.
pub const MAX_OUTPUT: usize = 64 * 1024;
/// The most bytes of a message; longer ones are truncated.
pub const MAX_MESSAGE: usize = 4 * 1024;
/// The most bytes of a kind, a key, an origin and a phase.
pub const MAX_NAME: usize = 256;
/// The most bytes of a user's claims, names and values together.
pub const MAX_CLAIMS: usize = 8 * 1024;
/// The most jobs of a mount that are queued or running.
pub const MAX_LIVE: usize = 1000;
/// The pause before the second attempt, unless the job sets one.
pub const BACKOFF: Duration = Duration::from_secs(30);
/// The longest first pause; longer ones are shortened to it.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30 * 24 * 3600);
/// The attempts of a job that starts when another ends, because no client waits that could start it again.
pub const FINAL_ATTEMPTS: u32 = 5;
/// The longest pause between attempts, unless the first pause is longer already.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its turn or for its next attempt.
    Queued,
    /// An attempt is running.
    Running,
    /// Ended with success.
    Succeeded,
    /// Ended with a failure and no attempt left.
    Failed,
    /// Was cancelled.
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

    /// Whether the job has ended and will not change any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How far a job is, in a unit of its choice, usually bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// The total, if it is known.
    pub total: Option<u64>,
    /// One or two words for operators.
    pub phase: String,
}

/// A job at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// A ULID: 26 letters and digits that sort in the order of the starts.
    pub id: String,
    /// Path of the mount that it belongs to.
    pub mount: String,
    /// What kind of work it is; defined by the plugin.
    pub kind: String,
    /// At most one job of a mount, kind and key runs at a time.
    pub key: String,
    /// What started it: a plugin's name, `schedule NAME`, or `operator`.
    pub origin: String,
    /// The schedule that its result counts for.
    pub schedule: Option<String>,
    /// The user it works for, whose rules apply.
    #[serde(default)]
    pub user: Option<User>,
    /// The job whose end started it.
    #[serde(default)]
    pub after: Option<String>,
    /// The kind of job that its own end starts, however it ends.
    #[serde(default)]
    pub finally: Option<String>,
    /// Its input. In JSON a string, or `{"hex": "…"}` if it is not UTF-8.
    #[serde(with = "crate::serde_formats::bytes")]
    pub input: Vec<u8>,
    /// Its state.
    pub state: State,
    /// The number of the current or latest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// The most attempts.
    pub attempts: u32,
    /// The last report.
    pub progress: Progress,
    /// When it was started. Times are RFC 3339 in JSON, in milliseconds.
    #[serde(with = "crate::serde_formats::time")]
    pub created: SystemTime,
    /// When its latest attempt began.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub started: Option<SystemTime>,
    /// When it ended.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub ended: Option<SystemTime>,
    /// The next attempt does not begin before this time. Set while the job waits for another attempt,
    /// or for its first one if that has a time.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub next_attempt: Option<SystemTime>,
    /// Why it failed or waits; for people.
    pub message: String,
    /// Its output; in JSON like `input`.
    #[serde(with = "crate::serde_formats::bytes")]
    pub output: Vec<u8>,
}

/// A job to be started.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Path of the mount that it belongs to.
    pub mount: String,
    /// What kind of work it is; at most [`MAX_NAME`] bytes.
    pub kind: String,
    /// At most one job of a mount, kind and key runs at a time; at most [`MAX_NAME`] bytes.
    pub key: String,
    /// What starts it: a plugin's name, `schedule NAME`, or `operator`.
    pub origin: String,
    /// The schedule that its result counts for.
    pub schedule: Option<String>,
    /// The user it works for, whose rules apply. Name and method have at most [`MAX_NAME`] bytes,
    /// the claims at most [`MAX_CLAIMS`].
    pub user: Option<User>,
    /// Its input; at most [`MAX_INPUT`] bytes.
    pub input: Vec<u8>,
    /// The most attempts, at least 1.
    pub attempts: u32,
    /// The pause after the first failed attempt, at most [`MAX_BACKOFF`]. It doubles with each
    /// attempt, up to [`MAX_PAUSE`].
    pub backoff: Duration,
    /// The first attempt does not begin before this time; without one, it begins when it is its turn.
    pub not_before: Option<SystemTime>,
    /// The kind of a job that is started when this one has ended, however it ends; at most
    /// [`MAX_NAME`] bytes. That job's input is the id of this one; it has the same mount, key and user,
    /// and at most [`FINAL_ATTEMPTS`] attempts.
    pub finally: Option<String>,
    /// What happens if there is a job of the same mount, kind and key already.
    pub when_busy: WhenBusy,
}

impl NewJob {
    /// Checks it as [`Jobs::start`](crate::Jobs::start) does, for one that is to be started later.
    ///
    /// # Errors
    ///
    /// [`StartError::Invalid`].
    pub fn check(&self) -> Result<(), StartError> {
        let invalid = |text: String| Err(StartError::Invalid(text));
        if self.kind.is_empty() || self.finally.as_deref() == Some("") {
            return invalid("a job needs a kind".to_owned());
        }
        let names = [("kind", &self.kind), ("key", &self.key), ("origin", &self.origin)];
        let finally = self.finally.iter().map(|kind| ("kind of the job at its end", kind));
        let user = self.user.iter().flat_map(|user| {
            [("user's name", &user.name), ("method that knows the user", &user.method)]
        });
        for (what, name) in names.into_iter().chain(finally).chain(user) {
            if name.len() > MAX_NAME {
                let size = name.len();
                return invalid(format!("the {what} has {size} bytes; at most {MAX_NAME} may be"));
            }
        }
        if let Some(size) = self.user.as_ref().map(User::size).filter(|size| *size > MAX_CLAIMS) {
            return invalid(format!(
                "the claims of the user have {size} bytes; at most {MAX_CLAIMS} are kept with a job"
            ));
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

/// What happens if a job of the same mount, kind and key is queued or running already, including one
/// that waits for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBusy {
    /// The new job waits for its turn.
    Queue,
    /// No job is started. The returned id is that of the youngest existing job that does not wait
    /// for a time later than the new one's own.
    Join,
    /// Like `Join`, but only for jobs that have not begun their first attempt; otherwise like `Queue`.
    JoinQueued,
    /// The start fails with [`StartError::Busy`].
    Refuse,
}

/// Selects jobs for a listing: those that match everything that is set.
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
    pub(crate) fn matches(&self, mount: &str, kind: &str, state: State) -> bool {
        self.mount.as_deref().is_none_or(|wanted| wanted == mount)
            && self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.state.is_none_or(|wanted| wanted == state)
    }
}

/// Truncates a text at a character boundary.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversized_values_are_refused_and_messages_truncated_between_characters() {
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
            not_before: None,
            finally: None,
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
