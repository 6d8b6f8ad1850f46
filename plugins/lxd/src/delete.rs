//! Removes a backup: exactly this one, the instance's object first, so that it disappears at once.

use keepgate_sdk::jobs::{Job, Options};
use keepgate_sdk::{Call, Failure, Reply, Store, environment, jobs};
use serde::{Deserialize, Serialize};

use crate::layout::{Folder, shown};
use crate::names::Instance;
use crate::settings::Settings;
use crate::{import, query, reply, show};

/// The kind of job that says that a failure need not be shown any more. It does nothing: what is kept of it is the
/// point.
pub(crate) const FORGET: &str = "forget";
/// Jobs that are looked through.
const JOBS: u32 = 1000;

#[derive(Serialize, Deserialize)]
struct Forget {
    job: String,
}

pub(crate) fn delete(call: Call<Settings>) -> Result<Reply, Failure> {
    let (instance, base) = (query::instance(&call)?, query::base(&call)?);
    let job = show::job_of(&instance, &base)?;
    if job.as_ref().is_some_and(show::is_open) {
        return Err(Failure::refused(409, "", "the backup is being made"));
    }
    if is_being_restored(&instance, &base)? {
        return Err(Failure::refused(409, "", "the backup is being restored"));
    }
    let store = Store::open("main")?;
    if remove(&store, &instance, &base)? {
        environment::info(
            "backup removed by request",
            &[("instance", &instance.name), ("name", &shown(&base))],
        );
        return reply::sync::<()>(None);
    }
    let job = job.ok_or(Failure::NotFound)?;
    jobs::start_with(FORGET, &Forget { job: job.id.clone() }, &Options::new(&job.id))?;
    reply::sync::<()>(None)
}

/// Removes a backup; false if there is none.
pub(crate) fn remove(store: &Store, instance: &Instance, base: &str) -> Result<bool, Failure> {
    let folder = Folder::of(instance);
    let is_there = store.delete(&folder.object(base))?.is_some();
    if is_there {
        for profile in folder.profiles(store, base)? {
            store.delete(&profile.key)?;
        }
    }
    Ok(is_there)
}

/// Whether a failure need not be shown any more.
pub(crate) fn is_forgotten(id: &str) -> Result<bool, Failure> {
    let forgets =
        |job: &Job| jobs::input::<Forget>(FORGET, &job.input).is_ok_and(|forget| forget.job == id);
    Ok(jobs::list(FORGET, JOBS)?.iter().any(forgets))
}

fn is_being_restored(instance: &Instance, base: &str) -> Result<bool, Failure> {
    let is_it = |job: &Job| {
        let input = import::Input::parse(job);
        show::is_open(job)
            && input.is_ok_and(|input| {
                input.base == base && input.instance().is_ok_and(|own| own == *instance)
            })
    };
    Ok(jobs::list(import::KIND, JOBS)?.iter().any(is_it))
}
