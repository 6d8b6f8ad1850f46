//! Runs the jobs of copies, and hands all others to the plugins. A run ends when its job is cancelled
//! or the gateway stops: its future is dropped, which leaves nothing half done.

use std::sync::Arc;

use async_trait::async_trait;
use keepgate_copy::{ProgressCallback, Report};
use keepgate_jobs::{Failed, Job, Progress, Reporter, Runner};
use keepgate_runtime::JobRunner;

use super::{Copies, LastRun, MOUNT, OpenCopy};

/// The most bytes of a report that are kept with a job.
const MAX_OUTPUT: usize = keepgate_jobs::MAX_OUTPUT;

/// Runs the jobs of copies and of plugins.
pub(crate) struct CopyRunner {
    plugins: JobRunner,
    current: Box<dyn Fn() -> Copies + Send + Sync>,
}

impl CopyRunner {
    /// `current` returns the copies of the current configuration.
    pub(crate) fn new(
        plugins: JobRunner,
        current: impl Fn() -> Copies + Send + Sync + 'static,
    ) -> Self {
        Self { plugins, current: Box::new(current) }
    }
}

#[async_trait]
impl Runner for CopyRunner {
    async fn run(&self, job: Job, progress: Reporter) -> Result<Vec<u8>, Failed> {
        if job.mount != MOUNT {
            return self.plugins.run(job, progress).await;
        }
        let copy = (self.current)().remove(&job.key);
        match copy {
            Some(copy) => copy.run(&progress).await,
            None => Err(Failed {
                message: format!("the configuration has no [copy.{}] any more", job.key),
                again: false,
            }),
        }
    }
}

impl OpenCopy {
    /// Runs once. The output is the report, as JSON.
    async fn run(self: Arc<Self>, progress: &Reporter) -> Result<Vec<u8>, Failed> {
        let broken = |message: String| Failed { message, again: true };
        let folder = self.folder.clone();
        let made = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)
                .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
            Ok::<_, String>(LastRun::read(&folder))
        });
        let before = match made.await {
            Ok(made) => made.map_err(broken)?,
            Err(error) => return Err(broken(error.to_string())),
        };
        let mut options = self.options();
        options.progress = Some(reporting(progress));
        let (from, to) = (self.from.clone(), self.to.clone());
        let (report, outcome) = Box::pin(keepgate_copy::copy(from, to, options)).await;
        let last = LastRun::next(before, report, &outcome);
        log(&self.name, &last);
        let (folder, kept) = (self.folder.clone(), last.clone());
        match tokio::task::spawn_blocking(move || kept.write(&folder)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(broken(crate::output::explain(&error))),
            Err(error) => return Err(broken(error.to_string())),
        }
        if last.succeeded {
            return Ok(output(last.report));
        }
        // What a person has to look at does not get better by trying again soon.
        let again = outcome.is_err() || !last.report.failed.is_empty();
        Err(Failed { message: last.message, again })
    }
}

fn reporting(progress: &Reporter) -> ProgressCallback {
    let progress = progress.clone();
    ProgressCallback::new(move |now| {
        let phase = format!("{} of {} blobs", now.done_blobs, now.planned_blobs);
        progress.report(Progress { done: now.read_bytes, total: Some(now.planned_bytes), phase });
    })
}

fn log(copy: &str, last: &LastRun) {
    let report = &last.report;
    let (blobs, bytes, removed) = (report.copied.blobs, report.copied.bytes, report.removed.count);
    let seconds = report.duration.as_secs();
    if last.succeeded {
        tracing::info!(copy, blobs, bytes, removed, seconds, "store copied");
    } else {
        let reason = &last.message;
        tracing::error!(
            copy,
            reason,
            blobs,
            bytes,
            removed,
            seconds,
            "store not copied completely"
        );
    }
}

/// The report as JSON, with as many examples as a job can keep.
fn output(mut report: Report) -> Vec<u8> {
    for most in [keepgate_copy::MAX_EXAMPLES, 3, 0] {
        report.keep_examples(most);
        let json = serde_json::to_vec(&report).unwrap_or_default();
        if json.len() <= MAX_OUTPUT {
            return json;
        }
    }
    Vec::new()
}
