//! Answers in JSON. The texts of `message` are what scripts look for: they stay as they are. `error`
//! says why, for people.

use keepgate_sdk::{Failure, Level, Reply, environment};
use serde::Serialize;

/// What a POST says when the backup is there.
pub(crate) const SAVED: &str = "backup successfully";
/// What it says when there is none.
pub(crate) const NOT_SAVED: &str = "failed to save an etcd backup";
const NOT_FOUND: &str = "requested resource is not found";
const BUSY: &str = "another backup is running";

#[derive(Serialize)]
struct Refusal<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// A refusal; `error` may be empty.
pub(crate) fn refusal(status: u16, message: &str, error: &str) -> Result<Reply, Failure> {
    let error = (!error.is_empty()).then_some(error);
    Reply::new(status).json(&Refusal { message, error })
}

pub(crate) fn not_found(error: &str) -> Result<Reply, Failure> {
    refusal(404, NOT_FOUND, error)
}

pub(crate) fn not_allowed(allow: &str) -> Result<Reply, Failure> {
    Ok(refusal(405, "method not allowed", "")?.header("allow", allow))
}

pub(crate) fn not_saved(error: &str) -> Result<Reply, Failure> {
    refusal(500, NOT_SAVED, error)
}

/// The body of [`not_saved`].
pub(crate) fn not_saved_bytes(error: &str) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(&Refusal { message: NOT_SAVED, error: Some(error) })
        .map_err(|error| Failure::Internal(error.to_string()))
}

pub(crate) fn busy(error: &str) -> Result<Reply, Failure> {
    Ok(refusal(503, BUSY, error)?.header("retry-after", 5))
}

/// A failure in this surface's form.
pub(crate) fn of_failure(failure: &Failure) -> Option<Reply> {
    let reply = match failure {
        // Only the host knows who let whom wait, which is a 408 or a 504.
        Failure::TimedOut => return None,
        // A key that no store takes is a name that no backup has.
        Failure::NotFound | Failure::Invalid(_) => not_found(""),
        Failure::Denied(why) => refusal(403, "forbidden", why),
        Failure::PreconditionFailed => refusal(412, "the backup is another one", ""),
        Failure::OutOfRange(size) => {
            let reply = refusal(416, "requested range not satisfiable", "");
            reply.map(|reply| reply.header("content-range", format!("bytes */{size}")))
        }
        Failure::Internal(why) => {
            environment::log(Level::Error, why);
            refusal(500, "internal error", "")
        }
        other => refusal(500, "internal error", other.message()),
    };
    reply.ok()
}
