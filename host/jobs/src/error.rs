//! Errors. Nothing here knows HTTP; the code that serves jobs chooses the statuses.

use keepgate_datafile::FileError;

/// Jobs cannot be read or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The file cannot be opened, read or written.
    #[error(transparent)]
    File(#[from] FileError),
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
