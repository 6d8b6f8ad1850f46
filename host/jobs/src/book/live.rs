//! A job that waits or runs, with those who wait for it and the attempt that is made.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::job::{Job, Record, State};
use crate::runner::Reporter;

/// A job that waits or runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) record: Record,
    pub(super) state: watch::Sender<State>,
    pub(super) progress: Reporter,
    /// Of the attempt that runs.
    pub(super) stop: Option<CancellationToken>,
    /// Somebody wants it to end.
    pub(super) is_cancelled: bool,
}

impl Live {
    pub(super) fn new(record: Record) -> Self {
        let state = watch::Sender::new(record.job.state);
        let progress = Reporter::default();
        progress.report(record.job.progress.clone());
        Self { record, state, progress, stop: None, is_cancelled: false }
    }

    pub(super) fn job(&self) -> Job {
        Job { progress: self.progress.latest(), ..self.record.job.clone() }
    }

    /// What it would be after a change, with what was reported by now.
    pub(super) fn changed(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut record = self.record.clone();
        record.job.progress = self.progress.latest();
        change(&mut record);
        record
    }

    /// The same with its next attempt at once; none where it does not wait for one.
    pub(super) fn hastened(&self) -> Option<Record> {
        self.record.job.next_attempt?;
        Some(self.changed(|record| record.job.next_attempt = None))
    }
}
