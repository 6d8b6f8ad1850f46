//! The job that makes a backup: LXD makes one of its own, which is streamed into the store. The instance's object is
//! stored last; with it, the backup exists. What is left in LXD and in the store is removed by `tidy`, which also runs
//! if this job is killed.

use std::time::Duration;

use keepgate_sdk::jobs::{Job, report_progress};
use keepgate_sdk::{Body, Failure, PutOptions, Store, Timestamp, environment, jobs, json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::layout::{Folder, shown};
use crate::lxd::{Ended, Lxd, Patience};
use crate::names::{DEFAULT_PROJECT, Instance};
use crate::settings::Settings;
use crate::{info, notify, profile};

/// The kind of job.
pub(crate) const KIND: &str = "backup";
/// Its phase while LXD makes the backup.
const GENERATING: &str = "generating";
/// Its phase while the bytes are stored.
pub(crate) const UPLOADING: &str = "uploading";
/// After this time LXD removes its backup by itself, if the gateway is gone for good.
const EXPIRES: Duration = Duration::from_secs(24 * 3600);
/// lxmin numbers profiles with three digits.
const MOST_PROFILES: usize = 1000;

/// How LXD compresses the backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    #[default]
    Gzip,
    None,
    Zstd,
    Xz,
    Bzip2,
    Lzma,
}

impl Compression {
    pub(crate) fn of(name: Option<&str>) -> Result<Self, Failure> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        serde_json::from_value(name.into()).map_err(|_| {
            Failure::Invalid(format!(
                "compression: {name:?} is not one of gzip, none, zstd, xz, bzip2 and lzma"
            ))
        })
    }
}

/// The input of a job.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    pub(crate) instance: String,
    pub(crate) project: String,
    /// The claimed name.
    pub(crate) base: String,
    /// Makes the backup's name in LXD unique.
    pub(crate) token: String,
    pub(crate) optimize: bool,
    pub(crate) instance_only: bool,
    pub(crate) compression: Compression,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) notify: Option<notify::Wanted>,
}

impl Input {
    pub(crate) fn parse(job: &Job) -> Result<Self, Failure> {
        jobs::input(KIND, &job.input)
    }

    pub(crate) fn instance(&self) -> Result<Instance, Failure> {
        let project = if self.project.is_empty() { DEFAULT_PROJECT } else { &self.project };
        Instance::new(project, &self.instance)
    }

    pub(crate) fn is_of(&self, instance: &Instance) -> bool {
        self.instance().is_ok_and(|own| own == *instance)
    }

    /// The backup's name in LXD.
    pub(crate) fn in_lxd(&self) -> String {
        format!("keepgate-{}", self.token)
    }
}

/// Runs the job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let input = Input::parse(job)?;
    let instance = input.instance()?;
    notify::started(input.notify.as_ref(), "backup", &instance, &shown(&input.base), job);
    report_progress(GENERATING, 0, None);
    let (lxd, store, folder) = (Lxd::of(&instance), Store::open("main")?, Folder::of(&instance));
    let state = lxd.instance(&instance.name)?;
    let state = state.ok_or_else(|| Failure::refused(404, "", "Instance not found"))?;
    if state.profiles.len() > MOST_PROFILES {
        let why = format!("the instance has more than {MOST_PROFILES} profiles");
        return Err(Failure::refused(400, "", why));
    }
    let mut profiles = Vec::new();
    for name in &state.profiles {
        let found = lxd.profile(name)?;
        let found = found.ok_or_else(|| {
            Failure::refused(400, "", format!("the instance's profile {name:?} is gone"))
        })?;
        profiles.push((name, profile::to_yaml(&found)?));
    }
    let optimized = generate(job, &input, &lxd, settings)
        .map_err(|failure| with_pool(failure, &lxd, state.pool()))?;
    for (number, (name, yaml)) in profiles.iter().enumerate() {
        let options = tagged(PutOptions::replace().content_type("application/yaml"), &input);
        store.put(&folder.profile(&input.base, number, name), Body::from_bytes(yaml), &options)?;
    }
    let export = lxd.export(&instance.name, &input.in_lxd())?;
    let data = export.body()?;
    report_progress(UPLOADING, 0, data.length());
    let compressed = input.compression != Compression::None;
    let options = tagged(PutOptions::absent().content_type("application/gzip"), &input)
        .metadata(info::OPTIMIZED, &optimized.to_string())
        .metadata(info::COMPRESSED, &compressed.to_string());
    let stored = store.put(&folder.object(&input.base), data, &options)?;
    let size = stored.info.size;
    let name = shown(&input.base);
    environment::info(
        "backup stored",
        &[("instance", &instance.name), ("name", &name), ("size", &size)],
    );
    json::to_vec(&json!({"name": name, "size": size}))
}

/// Has LXD make the backup, and returns whether it is an optimized one.
fn generate(job: &Job, input: &Input, lxd: &Lxd, settings: &Settings) -> Result<bool, Failure> {
    let instance = &input.instance;
    let name = input.in_lxd();
    let asked = json!({
        "name": name,
        "expires_at": Timestamp::now().saturating_add(EXPIRES),
        "instance_only": input.instance_only,
        "optimized_storage": input.optimize,
        "compression_algorithm": input.compression,
    });
    let operation = lxd.begin_backup(instance, &asked)?;
    // What LXD does before it writes an optimized backup can take long, and it does not say how far it is.
    let patience = Patience { reports_at_once: !input.optimize, ..settings.patience() };
    let ended = lxd.wait(&operation, patience, &job.id)?;
    // A backup that was removed while it was made ends in success.
    let Some(made) = lxd.backup(instance, &name)? else {
        let why = match ended {
            Ended::Success => "LXD has made no backup: somebody removed it meanwhile",
            Ended::Forgotten => {
                "LXD has made no backup and does not know why: it was started again"
            }
        };
        return Err(Failure::refused(400, "", why));
    };
    Ok(made.get("optimized_storage").and_then(serde_json::Value::as_bool).unwrap_or(false))
}

/// LXD's words for a full disk do not always say so, so it is said how full it is.
fn with_pool(failure: Failure, lxd: &Lxd, pool: Option<&str>) -> Failure {
    let Failure::Refused(_) = failure else { return failure };
    match pool.and_then(|pool| lxd.pool_in_words(pool)) {
        Some(words) => {
            Failure::refused(failure.status(), "", format!("{} ({words})", failure.message()))
        }
        None => failure,
    }
}

fn tagged(options: PutOptions, input: &Input) -> PutOptions {
    input.tags.iter().fold(options, |options, (name, value)| options.tag(name, value))
}
