//! The job that follows each backup and restore, however it has ended: it removes what is left in LXD and in the store,
//! sends the notification of the end, and applies retention. It is tried again until LXD answers.

use std::time::Duration;

use keepgate_sdk::jobs::{Job, State};
use keepgate_sdk::{Failure, Part, Store, TimeName, Timestamp, environment, job_api, jobs, json};

use crate::import::Made;
use crate::layout::{Folder, shown};
use crate::lxd::{Lxd, Patience};
use crate::names::{FORM, Instance};
use crate::settings::Settings;
use crate::{backup, delete, import, notify};

/// The kind of job.
pub(crate) const KIND: &str = "tidy";
/// For the removal of a backup in LXD.
const REMOVAL: Patience = Patience {
    whole: Duration::from_secs(10 * 60),
    still: Duration::from_secs(10 * 60),
    reports_at_once: false,
};
/// Bytes of what a restore has recorded.
const RECORD: u64 = 1024 * 1024;

/// Runs the job. Its input is the id of the job that has ended.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let id = String::from_utf8_lossy(&job.input);
    let ended = jobs::get(&id)?;
    match ended.kind.as_str() {
        backup::KIND => after_backup(job, &ended, settings)?,
        import::KIND => after_restore(&ended)?,
        kind => {
            return Err(Failure::Invalid(format!("nothing follows a job of the kind {kind:?}")));
        }
    }
    Ok(Vec::new())
}

fn after_backup(job: &Job, ended: &Job, settings: &Settings) -> Result<(), Failure> {
    let input = backup::Input::parse(ended)?;
    let instance = input.instance()?;
    let (store, folder, lxd) = (Store::open("main")?, Folder::of(&instance), Lxd::of(&instance));
    // A job that was killed or cancelled may have stored the backup just before.
    let is_stored = match store.head(&folder.object(&input.base)) {
        Ok(_) => true,
        Err(Failure::NotFound) => false,
        Err(failure) => return Err(failure),
    };
    if !is_stored {
        for profile in folder.profiles(&store, &input.base)? {
            store.delete(&profile.key)?;
        }
    }
    folder.release_name(&store, &input.base)?;
    let name = shown(&input.base);
    let error = (!is_stored).then(|| reason(ended));
    if job.attempt <= 1 {
        let wanted = input.notify.as_ref();
        notify::ended(wanted, "backup", &instance, &name, ended, error.as_deref());
    }
    if let Some(operation) = lxd.delete_backup(&instance.name, &input.in_lxd())? {
        lxd.wait(&operation, REMOVAL, &job.id)?;
    }
    if is_stored {
        apply_retention(&store, &instance, settings)?;
    }
    Ok(())
}

fn after_restore(ended: &Job) -> Result<(), Failure> {
    let input = import::Input::parse(ended)?;
    let (instance, target) = (input.instance()?, input.target()?);
    let (store, folder) = (Store::open("main")?, Folder::of(&instance));
    let error = (ended.state != State::Succeeded).then(|| reason(ended));
    let wanted = input.notify.as_ref();
    notify::ended(wanted, "restore", &instance, &shown(&input.base), ended, error.as_deref());
    let record = folder.record(&input.base, &ended.id);
    let made = match store.get(&record, Part::Whole) {
        Ok(found) => json::parse::<Made>("the record of a restore", &found.data.bytes(RECORD)?)?,
        Err(Failure::NotFound) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let lxd = Lxd::of(&target);
    for profile in made.profiles.iter().rev() {
        // One that LXD has given to the instance after all is in use, and stays.
        match lxd.delete_profile(profile) {
            Err(failure @ Failure::Refused(_)) if failure.status() == 400 => {
                let why = failure.message();
                environment::warn(
                    "profile of a failed restore stays",
                    &[("profile", profile), ("error", &why)],
                );
            }
            removed => removed?,
        }
    }
    store.delete(&record).map(|_| ())
}

/// Why a job has not done its work.
fn reason(ended: &Job) -> String {
    match job_api::reason(ended) {
        "" => "gateway restarted".to_owned(),
        reason => reason.to_owned(),
    }
}

/// Removes backups that the settings' `keep` does not keep; never the newest one.
fn apply_retention(store: &Store, instance: &Instance, settings: &Settings) -> Result<(), Failure> {
    let Some(policy) = &settings.keep else { return Ok(()) };
    let bases = Folder::of(instance).backups(store)?;
    // Whoever named a backup otherwise decides about it.
    let mut names: Vec<TimeName> = bases.iter().filter_map(|base| FORM.parse(base)).collect();
    names.sort();
    for name in policy.expired(&names, Timestamp::now(), |_| false) {
        if delete::remove(store, instance, name.stem())? {
            environment::info(
                "backup removed by retention",
                &[("instance", &instance.name), ("name", &name)],
            );
        }
    }
    Ok(())
}
