//! The trait that runs jobs, and how an attempt reports its progress. The runtime implements
//! [`Runner`] with plugins, tests with scripts.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::job::{Job, MAX_NAME, Progress, shortened};

/// Runs jobs.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Runs one attempt of a job and returns its output, at most [`MAX_OUTPUT`](crate::MAX_OUTPUT)
    /// bytes. If the job is cancelled or the gateway stops, the future is dropped: work that must not
    /// be left half done has to be undone by its destructors or by the next attempt. A panic counts
    /// as a failed attempt.
    ///
    /// An attempt may be repeated although it succeeded, if the gateway ends before it has recorded
    /// the success.
    ///
    /// # Errors
    ///
    /// [`Failed`] says why, and whether another attempt may help.
    async fn run(&self, job: Job, progress: Reporter) -> Result<Vec<u8>, Failed>;
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why; for people, without secrets.
    pub message: String,
    /// Whether another attempt may help. Whether there is one depends on the job's attempts.
    pub again: bool,
}

/// Receives an attempt's progress. It is visible at once and stored with the job's next change of
/// state. Reports after the attempt's end are lost.
#[derive(Clone, Debug, Default)]
pub struct Reporter(Arc<Mutex<Progress>>);

impl Reporter {
    /// Replaces the previous report. A phase of more than [`MAX_NAME`] bytes is truncated.
    pub fn report(&self, progress: Progress) {
        let phase = shortened(progress.phase, MAX_NAME);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Progress { phase, ..progress };
    }

    /// The last report.
    pub fn latest(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
