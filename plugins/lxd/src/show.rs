//! One backup: stored, being made, or why it could not be made.

use std::time::Duration;

use keepgate_sdk::jobs::{Job, State};
use keepgate_sdk::{Call, Failure, Reply, Store, Timestamp, jobs};

use crate::names::Instance;
use crate::settings::Settings;
use crate::{backup, delete, info, query, reply};

/// How long the reason is kept why a backup could not be made.
const FAILED_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Jobs that are looked through.
const JOBS: u32 = 1000;

pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    let (instance, base) = (query::instance(&call)?, query::base(&call)?);
    let job = job_of(&instance, &base)?;
    if let Some(job) = job.as_ref().filter(|job| is_open(job)) {
        return reply::sync(Some(info::of_job(&instance, &base, job)));
    }
    match info::stored(&Store::open("main")?, &instance, &base) {
        Err(Failure::NotFound) => match job {
            Some(job) => reply::sync(Some(info::of_job(&instance, &base, &job))),
            None => Err(Failure::NotFound),
        },
        stored => reply::sync(Some(stored?)),
    }
}

/// The job that makes a backup, or failed to and is not forgotten.
pub(crate) fn job_of(instance: &Instance, base: &str) -> Result<Option<Job>, Failure> {
    let is_it = |job: &Job| {
        backup::Input::parse(job).is_ok_and(|input| input.base == base && input.is_of(instance))
    };
    let Some(job) = jobs::list(backup::KIND, JOBS)?.into_iter().find(is_it) else {
        return Ok(None);
    };
    if is_open(&job) {
        return Ok(Some(job));
    }
    let ended = Timestamp(job.ended.unwrap_or(job.created));
    let failed = matches!(job.state, State::Failed | State::Cancelled);
    let is_kept = failed && Timestamp::now().since(ended) < FAILED_FOR;
    Ok(if is_kept && !delete::is_forgotten(&job.id)? { Some(job) } else { None })
}

pub(crate) fn is_open(job: &Job) -> bool {
    matches!(job.state, State::Queued | State::Running)
}
