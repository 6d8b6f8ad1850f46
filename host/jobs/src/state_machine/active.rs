//! A job that is queued or running, with those who wait for it and its current attempt.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::job::{Job, Record, State};
use crate::runner::Reporter;

/// A job that is queued or running.
#[derive(Debug)]
pub(super) struct ActiveJob {
    pub(super) record: Record,
    pub(super) state: watch::Sender<State>,
    pub(super) progress: Reporter,
    /// Stops the current attempt.
    pub(super) stop: Option<CancellationToken>,
    /// Whether it was cancelled.
    pub(super) is_cancelled: bool,
}

impl ActiveJob {
    pub(super) fn new(record: Record) -> Self {
        let state = watch::Sender::new(record.job.state);
        let progress = Reporter::default();
        progress.report(record.job.progress.clone());
        Self { record, state, progress, stop: None, is_cancelled: false }
    }

    pub(super) fn job(&self) -> Job {
        Job { progress: self.progress.latest(), ..self.record.job.clone() }
    }

    /// The record after a change, with the progress reported so far. The job itself stays as it is.
    pub(super) fn changed(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut record = self.record.clone();
        record.job.progress = self.progress.latest();
        change(&mut record);
        record
    }

    /// The record without a pause before the next attempt; `None` if it does not wait for one.
    pub(super) fn without_delay(&self) -> Option<Record> {
        self.record.job.next_attempt?;
        Some(self.changed(|record| record.job.next_attempt = None))
    }
}
