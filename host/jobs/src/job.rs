//! What a job is, for whoever starts, shows or runs one. The same form, as JSON, is in the file and
//! in what operators are shown: fields may be added (with `#[serde(default)]`), a change of meaning
//! needs another version of the file.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::StartError;

pub(crate) use self::record::Record;
pub use self::user::User;

mod record;
mod user;

/// Most bytes of what a job is given, and of what it returns.
pub const MAX_INPUT: usize = 64 * 1024;
/// Most bytes of what a job returns.
pub const MAX_OUTPUT: usize = 64 * 1024;
/// Most bytes of a message; longer ones are cut.
pub const MAX_MESSAGE: usize = 4 * 1024;
/// Most bytes of a kind, a key, an origin and a phase.
pub const MAX_NAME: usize = 256;
/// Most bytes of what is known of a user, names and values together.
pub const MAX_CLAIMS: usize = 8 * 1024;
/// Most jobs of a mount that wait or run.
pub const MAX_LIVE: usize = 1000;
/// The pause before the second attempt, where whoever starts a job says nothing.
pub const BACKOFF: Duration = Duration::from_secs(30);
/// The longest first pause; longer ones are cut.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a job is tried that another's end starts. Who started that one is not there to try again.
pub const FINAL_ATTEMPTS: u32 = 5;
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
    pub user: Option<User>,
    /// The job whose end started it.
    #[serde(default)]
    pub after: Option<String>,
    /// The kind of job that its own end starts, however it ends.
    #[serde(default)]
    pub finally: Option<String>,
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
    /// Not before this time; set while it waits for its first attempt, if that has a time, or for
    /// another one.
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
    /// The user for whom it works, and by whose rules; their name and method have [`MAX_NAME`] bytes
    /// at most, and what is known of them [`MAX_CLAIMS`].
    pub user: Option<User>,
    /// What it is given; at most [`MAX_INPUT`] bytes.
    pub input: Vec<u8>,
    /// How often it is tried at most, from 1.
    pub attempts: u32,
    /// The pause after the first failed attempt, [`MAX_BACKOFF`] at most. It doubles with each, up to
    /// [`MAX_PAUSE`].
    pub backoff: Duration,
    /// Its first attempt does not begin before this time; none: as soon as it has its turn.
    pub not_before: Option<SystemTime>,
    /// The kind of a job that is started once this one has ended, however it did; at most
    /// [`MAX_NAME`] bytes. Its input is the id of this one, its mount, key and user are this one's, and
    /// it is tried [`FINAL_ATTEMPTS`] times at most.
    pub finally: Option<String>,
    /// What happens where one of its mount, kind and key is there already.
    pub when_busy: WhenBusy,
}

impl NewJob {
    pub(crate) fn check(&self) -> Result<(), StartError> {
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

/// What happens where a job of the same mount, kind and key waits or runs already. One that waits
/// for another attempt counts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBusy {
    /// Waits for its turn.
    Queue,
    /// None is started; the id is that of the youngest that is there and does not wait for a time
    /// later than the new one's own.
    Join,
    /// The same, but only of those of which no attempt has begun; else as `Queue`.
    JoinQueued,
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

/// Cut at a character's end.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
