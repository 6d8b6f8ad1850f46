//! What clients are told of a backup.

use std::collections::BTreeMap;

use keepgate_sdk::jobs::{Job, State};
use keepgate_sdk::{Failure, Info as Blob, Store, Timestamp};
use serde::Serialize;

use crate::layout::{Folder, shown};
use crate::names::Instance;

/// The metadata of an instance's object, as lxmin has it.
pub(crate) const OPTIMIZED: &str = "optimized";
pub(crate) const COMPRESSED: &str = "compressed";

/// A backup, stored or being made.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Info {
    pub(crate) instance: String,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) optimized: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compressed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<BTreeMap<String, String>>,
    /// While it is being made, and when that has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// A stored backup. Fails with [`Failure::NotFound`] if there is none.
pub(crate) fn stored(store: &Store, instance: &Instance, base: &str) -> Result<Info, Failure> {
    Ok(of_blob(instance, base, store.head(&Folder::of(instance).object(base))?))
}

/// A stored backup, by what the store knows of its instance's object.
pub(crate) fn of_blob(instance: &Instance, base: &str, blob: Blob) -> Info {
    let Blob { size, modified, metadata, tags, .. } = blob;
    let is = |name: &str| metadata.iter().any(|(known, value)| known == name && value == "true");
    Info {
        instance: instance.name.clone(),
        name: shown(base),
        created: Some(Timestamp(modified)),
        size: Some(size),
        optimized: Some(is(OPTIMIZED)),
        compressed: Some(is(COMPRESSED)),
        tags: Some(tags.into_iter().collect()),
        ..Info::default()
    }
}

/// A backup that a job makes or failed to make.
pub(crate) fn of_job(instance: &Instance, base: &str, job: &Job) -> Info {
    let info = Info { instance: instance.name.clone(), name: shown(base), ..Info::default() };
    match job.state {
        State::Queued => Info { state: Some("queued"), progress: Some(0), ..info },
        State::Running if job.progress.phase == crate::backup::UPLOADING => Info {
            state: Some("uploading"),
            size: job.progress.total,
            // A part that is sent again is not counted twice.
            progress: Some(job.progress.total.unwrap_or(u64::MAX).min(job.progress.done)),
            ..info
        },
        State::Running | State::Succeeded => {
            Info { state: Some("generating"), progress: Some(0), ..info }
        }
        State::Failed | State::Cancelled => Info {
            state: Some("failed"),
            error: Some(keepgate_sdk::job_api::reason(job).to_owned()),
            ..info
        },
    }
}
