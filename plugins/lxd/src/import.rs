//! The job that restores a backup: missing profiles are made, in their order, then LXD makes an instance of the bytes,
//! which are streamed from the store. Profiles that a failed restore has made are removed by `tidy`, which also runs if
//! this job is killed.

use keepgate_sdk::jobs::{Job, report_progress};
use keepgate_sdk::{Body, Failure, Part, PutOptions, Store, environment, jobs, json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::layout::{Folder, shown};
use crate::lxd::{Ended, Lxd};
use crate::names::{DEFAULT_PROJECT, Instance};
use crate::settings::Settings;
use crate::{notify, profile};

/// The kind of job.
pub(crate) const KIND: &str = "restore";

/// The input of a job.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    /// The instance of which the backup is.
    pub(crate) instance: String,
    pub(crate) project: String,
    pub(crate) base: String,
    /// The name of the instance to make.
    pub(crate) target: String,
    pub(crate) pool: Option<String>,
    pub(crate) start: bool,
    pub(crate) notify: Option<notify::Wanted>,
}

/// What a restore has made besides the instance.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) profiles: Vec<String>,
}

impl Input {
    pub(crate) fn parse(job: &Job) -> Result<Self, Failure> {
        jobs::input(KIND, &job.input)
    }

    fn project(&self) -> &str {
        if self.project.is_empty() { DEFAULT_PROJECT } else { &self.project }
    }

    pub(crate) fn instance(&self) -> Result<Instance, Failure> {
        Instance::new(self.project(), &self.instance)
    }

    pub(crate) fn target(&self) -> Result<Instance, Failure> {
        Instance::new(self.project(), &self.target)
    }
}

/// Runs the job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let input = Input::parse(job)?;
    let (instance, target) = (input.instance()?, input.target()?);
    notify::started(input.notify.as_ref(), "restore", &instance, &shown(&input.base), job);
    report_progress("profiles", 0, None);
    let (store, folder, lxd) = (Store::open("main")?, Folder::of(&instance), Lxd::of(&target));
    let record = folder.record(&input.base, &job.id);
    make_profiles(&store, &folder, &input, &lxd, &record)?;
    let backup = store.get(&folder.object(&input.base), Part::Whole)?;
    report_progress("importing", 0, Some(backup.info.size));
    let operation = lxd.import(&target.name, input.pool.as_deref(), backup.data)?;
    let ended = lxd.wait(&operation, settings.patience(), &job.id)?;
    if ended == Ended::Forgotten && lxd.instance(&target.name)?.is_none() {
        let why = "LXD has made no instance and does not know why: it was started again";
        return Err(Failure::refused(400, "", why));
    }
    // The instance has the profiles from here on.
    store.delete(&record)?;
    let (name, from) = (target.name.as_str(), shown(&input.base));
    environment::info("backup restored", &[("instance", &name), ("from", &from)]);
    if input.start {
        report_progress("starting", 0, None);
        start(job, &lxd, name, settings)?;
    }
    json::to_vec(&json!({"instance": name}))
}

fn start(job: &Job, lxd: &Lxd, name: &str, settings: &Settings) -> Result<(), Failure> {
    let started = lxd.start(name);
    let started = started.and_then(|operation| lxd.wait(&operation, settings.patience(), &job.id));
    started.map(|_| ()).map_err(|failure| {
        let why = failure.message();
        Failure::refused(400, "", format!("the instance was restored and cannot be started: {why}"))
    })
}

/// Makes the profiles that LXD does not have. Those that it has stay as they are. What is about to be made is recorded
/// first, so that it is known even if this job is killed.
fn make_profiles(
    store: &Store,
    folder: &Folder,
    input: &Input,
    lxd: &Lxd,
    record: &str,
) -> Result<(), Failure> {
    let mut made = Made::default();
    for object in folder.profiles(store, &input.base)? {
        if lxd.profile(&object.name)?.is_some() {
            continue;
        }
        let yaml = store.get(&object.key, Part::Whole)?.data.bytes(profile::LONGEST)?;
        let wanted = profile::from_yaml(&object.name, &yaml)?;
        made.profiles.push(object.name.clone());
        store.put(record, Body::from_bytes(&json::to_vec(&made)?), &PutOptions::replace())?;
        if let Err(failure) = lxd.create_profile(&wanted) {
            if lxd.profile(&object.name)?.is_none() {
                return Err(failure);
            }
            // Somebody else has made it meanwhile, so it stays.
            made.profiles.pop();
            store.put(record, Body::from_bytes(&json::to_vec(&made)?), &PutOptions::replace())?;
        }
    }
    Ok(())
}
