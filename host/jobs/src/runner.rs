//! Who does the work of jobs, and how that one is told and tells how far it is. The runtime
//! implements [`Runner`] with plugins; tests with whatever they like.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::job::{Job, MAX_NAME, Progress, shortened};

/// Does the work of jobs.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Runs one attempt of a job and returns its output, at most [`MAX_OUTPUT`](crate::MAX_OUTPUT)
    /// bytes. Where the job is cancelled or the gateway stops, the future is dropped: what must not
    /// be left half done is to be undone by then, or by the next attempt. A panic is a failed
    /// attempt.
    ///
    /// An attempt may be run again although it succeeded, where the gateway ends before it has
    /// written that down.
    ///
    /// # Errors
    ///
    /// [`Failed`] says why, and whether another attempt makes sense.
    async fn run(&self, job: Job, progress: Reporter) -> Result<Vec<u8>, Failed>;
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why; for people, with no secrets in it.
    pub message: String,
    /// Another attempt may do better. Whether there is one depends on how many the job has.
    pub again: bool,
}

/// Where a runner says how far the job is. It is shown at once and kept with the job's next change
/// of state. What is reported of a job that is over is lost.
#[derive(Clone, Debug, Default)]
pub struct Reporter(Arc<Mutex<Progress>>);

impl Reporter {
    /// Replaces what was reported before. A phase of more than [`MAX_NAME`] bytes is cut.
    pub fn report(&self, progress: Progress) {
        let phase = shortened(progress.phase, MAX_NAME);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Progress { phase, ..progress };
    }

    /// What was reported last.
    pub fn latest(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
