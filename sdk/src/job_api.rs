//! An HTTP API over a job: start it and wait, or answer 202 at once; look at it; cancel it. The job does the
//! work, so that a client that goes away changes nothing. What differs by surface is said by whoever calls:
//! paths, statuses and the words of a failure.
//!
//! ```
//! use std::time::Duration;
//!
//! use keepgate_sdk::job_api::{self, Outcome};
//! use keepgate_sdk::jobs::Options;
//! use keepgate_sdk::{Call, Failure, Reply, jobs};
//! use serde_json::json;
//!
//! /// POST /exports
//! fn create(call: Call<()>) -> Result<Reply, Failure> {
//!     let id = jobs::start("export", b"", &Options::new("all"))?;
//!     if call.request.prefers_async() {
//!         return job_api::accepted(&call.request, &["exports", &id], &json!({"export": id}));
//!     }
//!     match job_api::wait(&id, Duration::from_secs(60))? {
//!         Outcome::Succeeded(output) => Ok(Reply::ok().json_bytes(output)),
//!         Outcome::Failed(why) => Err(Failure::refused(500, "export_failed", why)),
//!         Outcome::NoTurn => Err(Failure::Busy("another export is running".to_owned())),
//!     }
//! }
//!
//! /// GET /exports/{id}
//! fn status(call: Call<()>) -> Result<Reply, Failure> {
//!     let id: String = call.param("id")?;
//!     let job = job_api::find(&id, "export", |_| true)?;
//!     job_api::status(&job, &json!({"error": job_api::reason(&job)}))
//! }
//!
//! /// DELETE /exports/{id}
//! fn cancel(call: Call<()>) -> Result<Reply, Failure> {
//!     let id: String = call.param("id")?;
//!     job_api::cancel(&job_api::find(&id, "export", |_| true)?)
//! }
//! ```

use std::time::Duration;

use serde::Serialize;

use crate::jobs::{Job, State};
use crate::{Failure, Reply, Request, Timestamp, jobs, json};

/// How long one call to the host waits before it is repeated, in milliseconds.
const ROUND: u64 = 600_000;

/// The end of a job that a request waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded, with this output.
    Succeeded(Vec<u8>),
    /// It failed or was cancelled; the text says why.
    Failed(String),
    /// It did not begin in time and was withdrawn.
    NoTurn,
}

/// Waits until a job begins, for at most `turn`, and then until it ends, however long that takes. A job that
/// has not begun by then is withdrawn, so that no work is done twice.
///
/// Fails with [`Failure::NotFound`] if the mount does not have the job, or no longer keeps it because many
/// others have ended since.
pub fn wait(id: &str, turn: Duration) -> Result<Outcome, Failure> {
    let turn = u64::try_from(turn.as_millis()).unwrap_or(u64::MAX);
    let mut job = jobs::wait(id, State::Queued, turn)?;
    if job.state == State::Queued && jobs::withdraw(id)? {
        return Ok(Outcome::NoTurn);
    }
    while is_open(&job) {
        job = jobs::wait(id, job.state, ROUND)?;
    }
    Ok(match job.state {
        State::Succeeded => Outcome::Succeeded(job.output),
        _ => Outcome::Failed(reason(&job).to_owned()),
    })
}

/// The reply 202 for a job that was started. `Location` is the path of the job below the mount;
/// `Preference-Applied` is present if the client asked not to wait (RFC 7240).
pub fn accepted(request: &Request, path: &[&str], body: &impl Serialize) -> Result<Reply, Failure> {
    let reply = Reply::new(202).json(body)?.header("location", request.url(path));
    Ok(match request.prefers_async() {
        true => reply.header("preference-applied", "respond-async"),
        false => reply,
    })
}

/// A job of this kind whose input fits. Fails with [`Failure::NotFound`] for all others, so that one part of
/// a surface does not show the jobs of another.
pub fn find(id: &str, kind: &str, fits: impl FnOnce(&Job) -> bool) -> Result<Job, Failure> {
    let job = jobs::get(id)?;
    if job.kind == kind && fits(&job) { Ok(job) } else { Err(Failure::NotFound) }
}

/// The status document of a job: 200 whatever the state, and never cached.
///
/// Its members are `job`, `state`, `origin`, `attempt`, `phase`, `done`, `total`, `created`, `started`,
/// `ended` and, while the job waits for another attempt, `error`. Once the job has ended, `result` is its
/// output. If that is not JSON, `failed` has the reply that a client waiting for the job would have got.
pub fn status(job: &Job, failed: &impl Serialize) -> Result<Reply, Failure> {
    let open = is_open(job);
    let status = Status {
        job: &job.id,
        state: state_name(job.state),
        origin: &job.origin,
        attempt: job.attempt,
        phase: &job.progress.phase,
        done: job.progress.done,
        total: job.progress.total,
        created: Timestamp(job.created),
        started: job.started.map(Timestamp),
        ended: job.ended.map(Timestamp),
        error: if open { &job.message } else { "" },
    };
    let reply = Reply::ok().header("cache-control", "no-store");
    if open {
        return reply.json(&status);
    }
    let document = if job.state == State::Succeeded && json::is_valid(&job.output) {
        json::with_member(&status, "result", &job.output)?
    } else {
        json::with_member(&status, "result", &json::to_vec(failed)?)?
    };
    Ok(reply.json_bytes(document))
}

/// Cancels a job and replies with 204. Fails with 409 if it has ended.
pub fn cancel(job: &Job) -> Result<Reply, Failure> {
    if jobs::cancel(&job.id)? {
        return Ok(Reply::new(204));
    }
    Err(Failure::refused(409, "", "the job has ended"))
}

/// The name of a state, as in the status document: `queued`, `running`, `succeeded`, `failed`, `cancelled`.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Running => "running",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

#[derive(Serialize)]
struct Status<'a> {
    job: &'a str,
    state: &'static str,
    origin: &'a str,
    attempt: u32,
    phase: &'a str,
    done: u64,
    total: Option<u64>,
    created: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

fn is_open(job: &Job) -> bool {
    matches!(job.state, State::Queued | State::Running)
}

/// Why a job failed, was cancelled, or waits for another attempt; for people.
pub fn reason(job: &Job) -> &str {
    match job.state {
        State::Cancelled if job.message.is_empty() => "the job was cancelled",
        _ => &job.message,
    }
}

#[cfg(test)]
mod tests;
