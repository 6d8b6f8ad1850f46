//! Backups and restores in progress, as LXD shows its operations.

use std::time::Duration;

use keepgate_sdk::jobs::{Job, State};
use keepgate_sdk::{Call, Failure, Reply, Timestamp, job_api, jobs};
use serde::Serialize;
use serde_json::{Value, json};

use crate::names::Instance;
use crate::settings::Settings;
use crate::{backup, import, notify, reply};

/// The longest time that one request waits, in seconds.
const LONGEST_WAIT: u64 = 3600;

#[derive(Serialize)]
struct Operation<'a> {
    id: &'a str,
    class: &'static str,
    description: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
    status: &'static str,
    status_code: u16,
    resources: Value,
    metadata: Value,
    may_cancel: bool,
    err: &'a str,
    location: &'static str,
}

pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    shown(&find(&call)?.0)
}

/// Waits for the end, or for so many seconds.
pub(crate) fn wait(call: Call<Settings>) -> Result<Reply, Failure> {
    let (mut job, _) = find(&call)?;
    let seconds = match call.request.query("timeout") {
        None | Some("-1" | "") => LONGEST_WAIT,
        Some(text) => text.parse::<u64>().map_err(|_| {
            Failure::Invalid(format!("timeout: {text:?} is not a number of seconds"))
        })?,
    };
    let until = Timestamp::now().saturating_add(Duration::from_secs(seconds.min(LONGEST_WAIT)));
    while matches!(job.state, State::Queued | State::Running) {
        let left = until.since(Timestamp::now()).as_millis();
        if left == 0 {
            break;
        }
        job = jobs::wait(&job.id, job.state, u64::try_from(left).unwrap_or(u64::MAX))?;
    }
    shown(&job)
}

pub(crate) fn cancel(call: Call<Settings>) -> Result<Reply, Failure> {
    let (job, _) = find(&call)?;
    match jobs::cancel(&job.id)? {
        true => reply::sync::<()>(None),
        false => Err(Failure::refused(409, "", "the operation has ended")),
    }
}

/// The job, if this user may have to do with its instance.
fn find(call: &Call<Settings>) -> Result<(Job, Instance), Failure> {
    let id: String = call.param("id")?;
    let job = jobs::get(&id)?;
    let instance = match job.kind.as_str() {
        backup::KIND => backup::Input::parse(&job)?.instance()?,
        import::KIND => import::Input::parse(&job)?.target()?,
        _ => return Err(Failure::NotFound),
    };
    call.settings.check_user(call.request.user(), &instance.name)?;
    Ok((job, instance))
}

fn shown(job: &Job) -> Result<Reply, Failure> {
    let (status, status_code) = match job.state {
        State::Queued => ("Pending", 105),
        State::Running => ("Running", 103),
        State::Succeeded => ("Success", 200),
        State::Failed => ("Failure", 400),
        State::Cancelled => ("Cancelled", 401),
    };
    let is_open = matches!(job.state, State::Queued | State::Running);
    let (description, instance) = match job.kind.as_str() {
        backup::KIND => ("Backing up instance", backup::Input::parse(job)?.instance),
        _ => ("Restoring backup", import::Input::parse(job)?.target),
    };
    let progress = &job.progress;
    reply::sync(Some(Operation {
        id: &job.id,
        class: "task",
        description,
        created_at: Timestamp(job.created),
        updated_at: Timestamp(job.ended.or(job.started).unwrap_or(job.created)),
        status,
        status_code,
        resources: json!({"instances": [format!("/1.0/instances/{instance}")]}),
        metadata: json!({
            "phase": progress.phase,
            "done": progress.done,
            "total": progress.total,
            "notifications": notify::of_operation(&job.id)?,
        }),
        may_cancel: is_open,
        err: if is_open || job.state == State::Succeeded { "" } else { job_api::reason(job) },
        location: "none",
    }))
}
