//! What starts a backup job, waits for it, and tells of it. No work is done here: a client that goes
//! away changes nothing.

use keepgate_sdk::jobs::{Job, Options, State};
use keepgate_sdk::{Failure, Reply, Request, etcd, jobs};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::backup::{Input, KIND};
use crate::name::rfc3339;
use crate::place::Place;
use crate::reply;
use crate::settings::Settings;

/// A POST needs no body; so many bytes are let pass.
const LARGEST_BODY: u64 = 64 * 1024;
/// A call is waited for so long before it is asked again, in milliseconds.
const ROUND: u64 = 600_000;

/// Makes a backup, or begins to.
pub(crate) fn post(
    place: &Place,
    request: &Request,
    settings: &Settings,
) -> Result<Reply, Failure> {
    if has_large_body(request)? {
        let error = format!("a backup needs no body; at most {LARGEST_BODY} bytes are let pass");
        return reply::refusal(413, "request body too large", &error);
    }
    let clusters = etcd::clusters();
    if !clusters.iter().any(|cluster| cluster == place.cluster()) {
        return reply::not_found(&not_granted(place, &clusters));
    }
    let input = serde_json::to_vec(&Input { cluster: place.cluster().to_owned() })
        .map_err(|error| Failure::Internal(error.to_string()))?;
    let id = match jobs::start(KIND, &input, &Options::new(place.cluster())) {
        Err(Failure::Busy(why)) => return reply::busy(&why),
        Err(Failure::TimedOut) => return Err(Failure::TimedOut),
        Err(failure) => return reply::not_saved(failure.message()),
        Ok(id) => id,
    };
    if prefers_async(request) {
        return accepted(request, &id);
    }
    match wait(&id, settings) {
        // So many others have ended meanwhile that it is forgotten. That is no word about backups.
        Err(Failure::NotFound) => reply::not_saved("nothing is known of the job any more"),
        reply => reply,
    }
}

fn not_granted(place: &Place, clusters: &[String]) -> String {
    let there = match clusters {
        [] => "none is".to_owned(),
        clusters => format!("there are: {}", clusters.join(", ")),
    };
    format!(
        "no cluster named {:?} is granted to this mount; {there}; POST to CLUSTER/api/v1/backup, or \
         for the cluster \"main\" to api/v1/backup",
        place.cluster()
    )
}

/// Reads what has no announced length, as far as it must to know.
fn has_large_body(request: &Request) -> Result<bool, Failure> {
    if let Some(length) = request.body.length() {
        return Ok(length > LARGEST_BODY);
    }
    let mut length = 0;
    while let Some(piece) = request.body.read(u32::MAX)? {
        length += piece.len() as u64;
        if length > LARGEST_BODY {
            return Ok(true);
        }
    }
    Ok(false)
}

/// RFC 7240: the client would rather look later.
fn prefers_async(request: &Request) -> bool {
    let preferences = request.headers.iter().filter(|(name, _)| name == "prefer");
    preferences
        .flat_map(|(_, value)| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

#[derive(Serialize)]
struct Started<'a> {
    message: &'static str,
    job: &'a str,
}

fn accepted(request: &Request, id: &str) -> Result<Reply, Failure> {
    let reply = Reply::new(202).json(&Started { message: "backup started", job: id })?;
    let own = request.segments.iter().map(String::as_str);
    let path: Vec<&str> = own.chain(["jobs", id]).collect();
    Ok(reply.header("location", request.url(&path)).header("preference-applied", "respond-async"))
}

/// Waits for its turn as long as the settings say, and then to its end.
fn wait(id: &str, settings: &Settings) -> Result<Reply, Failure> {
    let limit = settings.wait().map_err(Failure::Internal)?;
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let mut job = jobs::wait(id, State::Queued, limit)?;
    if job.state == State::Queued && jobs::withdraw(id)? {
        return reply::busy("");
    }
    while matches!(job.state, State::Queued | State::Running) {
        job = jobs::wait(id, job.state, ROUND)?;
    }
    if job.state == State::Succeeded {
        return Ok(Reply::ok().header("content-type", "application/json").bytes(job.output));
    }
    reply::not_saved(why(&job))
}

/// Why a job has no output.
fn why(job: &Job) -> &str {
    match job.state {
        State::Cancelled if job.message.is_empty() => "the job was cancelled",
        _ => &job.message,
    }
}

/// What is told of a job.
#[derive(Serialize)]
struct Status<'a> {
    job: &'a str,
    state: &'static str,
    origin: &'a str,
    attempt: u32,
    phase: &'a str,
    /// Bytes.
    done: u64,
    total: Option<u64>,
    created: String,
    started: Option<String>,
    ended: Option<String>,
    /// Why it waits for another attempt.
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// A job of this place; once it has ended, with what a POST would have said.
pub(crate) fn status(place: &Place, id: &str) -> Result<Reply, Failure> {
    let job = of_place(place, id)?;
    let open = matches!(job.state, State::Queued | State::Running);
    let status = Status {
        job: &job.id,
        state: state_name(job.state),
        origin: &job.origin,
        attempt: job.attempt,
        phase: &job.progress.phase,
        done: job.progress.done,
        total: job.progress.total,
        created: rfc3339(job.created),
        started: job.started.map(rfc3339),
        ended: job.ended.map(rfc3339),
        error: if open { &job.message } else { "" },
    };
    let reply = Reply::ok().header("cache-control", "no-store");
    if open {
        return reply.json(&status);
    }
    let is_json = serde_json::from_slice::<IgnoredAny>(&job.output).is_ok();
    let result = if job.state == State::Succeeded && is_json {
        job.output.clone()
    } else {
        reply::not_saved_bytes(why(&job))?
    };
    let mut json =
        serde_json::to_vec(&status).map_err(|error| Failure::Internal(error.to_string()))?;
    // The output is JSON already: it goes in as the last member.
    json.pop();
    json.extend(b",\"result\":");
    json.extend(result);
    json.push(b'}');
    Ok(reply.header("content-type", "application/json").bytes(json))
}

/// Cancels a job of this place.
pub(crate) fn cancel(place: &Place, id: &str) -> Result<Reply, Failure> {
    let job = of_place(place, id)?;
    if jobs::cancel(&job.id)? {
        return Ok(Reply::new(204));
    }
    reply::refusal(409, "the job has ended", "")
}

/// Jobs of other clusters are none here.
fn of_place(place: &Place, id: &str) -> Result<Job, Failure> {
    let job = jobs::get(id)?;
    let ours = job.kind == KIND
        && Input::parse(&job.input).is_ok_and(|input| input.cluster == place.cluster());
    if ours { Ok(job) } else { Err(Failure::NotFound) }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Running => "running",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}
