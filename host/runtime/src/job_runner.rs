//! Runs jobs from the queue of `keepgate_jobs` by the plugins of the mounts that they belong to.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use keepgate_jobs::{Failed, Job, Reporter, Runner};

use crate::generation::Generation;
use keepgate_core::{CallError, Failure};

/// Runs each attempt of a job by the generation that is current when the attempt starts. It finishes on
/// that generation.
pub struct JobRunner {
    current: Box<dyn Fn() -> Arc<Generation> + Send + Sync>,
}

impl JobRunner {
    /// `current` returns the current generation.
    pub fn new(current: impl Fn() -> Arc<Generation> + Send + Sync + 'static) -> Self {
        Self { current: Box::new(current) }
    }
}

#[async_trait]
impl Runner for JobRunner {
    async fn run(&self, job: Job, progress: Reporter) -> Result<Vec<u8>, Failed> {
        let generation = (self.current)();
        let mount = generation.mounts.iter().find(|mount| mount.path() == job.mount).cloned();
        // The job needs the mount only. It must not keep an old generation alive.
        drop(generation);
        let Some(mount) = mount else {
            let message = format!("mount {:?} no longer exists", job.mount);
            return Err(Failed { message, again: false });
        };
        let (path, kind, id) = (job.mount.clone(), job.kind.clone(), job.id.clone());
        mount.clone().run_job(job, progress).await.map_err(|error| {
            if !matches!(error, CallError::Failure(_)) || is_internal(&error) {
                let error = error.to_string();
                if mount.may_log(error.len()) {
                    tracing::error!(mount = path, kind, job = id, %error, "job failed");
                }
            }
            Failed { message: message(&error), again: may_help(&error) }
        })
    }
}

fn is_internal(error: &CallError) -> bool {
    matches!(error, CallError::Failure(Failure::Internal(_)))
}

/// The message that is kept with the job. The plugin may pass it to a client, so it has no internals.
fn message(error: &CallError) -> String {
    match error {
        CallError::Failure(Failure::Internal(_)) => {
            "internal error; see the gateway's log".to_owned()
        }
        CallError::Trapped(_) => "the plugin broke down; see the gateway's log".to_owned(),
        error => error.to_string(),
    }
}

/// Whether another attempt may succeed.
fn may_help(error: &CallError) -> bool {
    use Failure as F;
    match error {
        CallError::Failure(F::NotFound | F::Denied(_) | F::Invalid(_) | F::Unsupported(_)) => false,
        CallError::Failure(F::Refused(refused)) => refused.status >= 500,
        _ => true,
    }
}

impl fmt::Debug for JobRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobRunner")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepgate_core::PluginRefusal;

    #[test]
    fn a_clients_mistake_is_not_retried() {
        let refused = |status| {
            let (code, message) = (String::new(), String::new());
            CallError::from(Failure::Refused(PluginRefusal {
                status,
                code,
                message,
                retry_after: None,
            }))
        };
        for (status, again) in [(400, false), (429, false), (499, false), (500, true), (599, true)]
        {
            assert_eq!(may_help(&refused(status)), again, "{status}");
        }
        assert!(!may_help(&Failure::Denied(String::new()).into()));
        assert!(may_help(&Failure::Unavailable(String::new()).into()));
    }
}
