//! What may go wrong. Nothing here knows of HTTP; whoever wires jobs chooses statuses.

use std::path::PathBuf;

/// Jobs cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// Another process has the file.
    #[error("{} is in use by another gateway; stop that one, or give this one another file", .0.display())]
    InUse(PathBuf),
    /// There is no such file.
    #[error("there is no {}: no gateway has kept jobs there yet", .0.display())]
    Missing(PathBuf),
    /// Another version of the gateway wrote the file.
    #[error(
        "{} has layout {found}, and this gateway knows layout {known}; use the gateway that wrote \
         it, or move the file away and lose the history of jobs", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What can be read here.
        known: &'static str,
    },
    /// The file holds something else than jobs, or is damaged.
    #[error(
        "{} cannot be read as a file of jobs ({detail}); move it away to start without a history \
         of jobs", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The disk did not do what it should.
    #[error("{action} {}: {detail}", path.display())]
    File {
        /// What was to be done, as in "opening".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A schedule cannot be used.
    #[error("schedule {name:?}: {reason}")]
    Schedule {
        /// As in the configuration.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A job that was told to stop still runs.
    #[error("job {0} was told to stop, and still runs; look at it again later")]
    StillRuns(String),
    /// A bug: something broke down on the way.
    #[error("the jobs broke down: {0}")]
    Broken(String),
}

/// A job was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The job makes no sense, or is too large; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// One of its kind and key is there already.
    #[error("a job of this kind and key is there already: {id}")]
    Busy {
        /// The youngest of those that are there.
        id: String,
    },
    /// Too many of the mount's jobs wait.
    #[error("{live} jobs of this mount wait or run, and no more may; cancel some")]
    TooMany {
        /// How many there are.
        live: usize,
    },
    /// No schedule of that name is in the configuration.
    #[error("there is no schedule {0:?} in the configuration")]
    UnknownSchedule(String),
    /// The job cannot be kept.
    #[error(transparent)]
    Jobs(#[from] JobsError),
}

/// What an operator wrote of a schedule cannot be used; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub(crate) String);
