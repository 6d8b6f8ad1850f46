//! `[jobs]`, the queue of jobs that every mount is granted.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use keepgate_jobs::{FileError, JobsError};
use keepgate_runtime::Grants;
use keepgate_runtime::capability::jobs::JobQueue;
use serde::Deserialize;
use toml::Spanned;

use super::provider::Provider;
use crate::config::{Config, Interval, Mount, Problems};

/// The file of jobs, in the data folder.
pub(crate) const JOBS_FILE: &str = "jobs.redb";

/// `[jobs]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jobs {
    /// If not, plugins cannot start jobs and there can be no schedules.
    pub(crate) enabled: bool,
    /// How many ended jobs of each mount and kind are kept.
    pub(crate) keep: usize,
    pub(crate) keep_for: Option<Interval>,
    /// How many run at the same time.
    pub(crate) at_once: Option<Spanned<usize>>,
}

impl Default for Jobs {
    fn default() -> Self {
        let options = keepgate_jobs::Options::default();
        Self { enabled: true, keep: options.keep, keep_for: None, at_once: None }
    }
}

impl Jobs {
    pub(crate) fn to_jobs(&self) -> keepgate_jobs::Options {
        let default = keepgate_jobs::Options::default();
        keepgate_jobs::Options {
            keep: self.keep,
            keep_for: self.keep_for.map_or(default.keep_for, |interval| interval.0),
            at_once: self.at_once.as_ref().map_or(default.at_once, |most| *most.get_ref()),
        }
    }
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    if let Some(at_once) = &config.jobs.at_once
        && *at_once.get_ref() == 0
    {
        problems.add(at_once.span(), "[jobs] at_once must be at least 1");
    }
}

/// The queue, if the gateway has one.
#[derive(Debug)]
struct OpenQueue(Option<Arc<keepgate_jobs::Jobs>>);

/// Jobs are open already, because they stay the same for as long as the gateway runs.
pub(super) fn open(jobs: Option<Arc<keepgate_jobs::Jobs>>) -> Box<dyn Provider> {
    Box::new(OpenQueue(jobs))
}

#[async_trait]
impl Provider for OpenQueue {
    fn grant(&self, _mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        if let Some(jobs) = &self.0 {
            grants.insert(JobQueue(jobs.clone()));
        }
        Ok(())
    }
}

/// Opens the file of jobs. If another gateway has it open and jobs are not `required`, this gateway goes
/// on without.
pub(super) async fn open_file(
    config: &Config,
    required: bool,
) -> Result<Option<Arc<keepgate_jobs::Jobs>>> {
    if !config.jobs.enabled {
        return Ok(None);
    }
    let (file, options) = (config.data_dir.join(JOBS_FILE), config.jobs.to_jobs());
    let opening = tokio::task::spawn_blocking(move || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok::<_, anyhow::Error>(keepgate_jobs::Jobs::open(&file, options))
    });
    match opening.await?? {
        Ok(jobs) => Ok(Some(jobs)),
        Err(error @ JobsError::File(FileError::InUse(_))) if !required => {
            tracing::warn!(%error, "plugins cannot start jobs in this gateway");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
