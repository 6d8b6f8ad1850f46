//! Errors. Nothing here knows HTTP; the code that serves jobs chooses the statuses.

use std::path::PathBuf;

/// Jobs cannot be read or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// Another process has the file.
    #[error("{} is in use by another gateway; stop that one, or give this one another file", .0.display())]
    InUse(PathBuf),
    /// The file does not exist.
    #[error("{} does not exist: no gateway has kept jobs there yet", .0.display())]
    Missing(PathBuf),
    /// Another version of the gateway wrote the file.
    #[error(
        "{} has layout {found}, and this gateway knows layout {known}; use the gateway that wrote \
         it, or move the file away and lose the history of jobs", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The layout named in the file.
        found: String,
        /// The layout that this gateway reads.
        known: &'static str,
    },
    /// The file contains something other than jobs, or is damaged.
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
    /// An I/O error.
    #[error("{action} {}: {detail}", path.display())]
    File {
        /// What failed, such as "cannot open".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A schedule is invalid.
    #[error("schedule {name:?}: {reason}")]
    Schedule {
        /// As in the configuration.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A job was told to stop and is still running.
    #[error("job {0} was told to stop but is still running; check again later")]
    StillRuns(String),
    /// A bug in the gateway.
    #[error("internal error in the job queue: {0}")]
    Broken(String),
}

/// A job was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The job is invalid or too large; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// There is a job of the same kind and key already.
    #[error("a job of this kind and key exists already: {id}")]
    Busy {
        /// The youngest of those jobs.
        id: String,
    },
    /// Too many of the mount's jobs are queued or running.
    #[error("{live} jobs of this mount wait or run, and no more may; cancel some")]
    TooMany {
        /// How many there are.
        live: usize,
    },
    /// The configuration has no schedule of this name.
    #[error("unknown schedule {0:?}; `keepgate jobs schedules` lists them")]
    UnknownSchedule(String),
    /// The job cannot be stored.
    #[error(transparent)]
    Jobs(#[from] JobsError),
}

/// A schedule's settings are invalid; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub(crate) String);
