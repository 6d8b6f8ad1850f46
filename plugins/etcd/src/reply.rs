//! Refusals in JSON. Scripts look for the texts of `message`, so do not change them. `error` says why, for
//! people. A refusal of this surface is a [`Failure::refused`] whose code is the `message`.
//!
//! `refusals.json` declares the same form to the host, for what it refuses without asking the plugin; a test holds the
//! two together.

use keepgate_sdk::{Failure, Reply};
use serde::Serialize;

/// The message of a POST when the backup is stored.
pub(crate) const SAVED: &str = "backup successfully";
/// The message of a POST if it is not stored.
pub(crate) const NOT_SAVED: &str = "failed to save an etcd backup";
pub(crate) const NOT_FOUND: &str = "requested resource is not found";

#[derive(Serialize)]
pub(crate) struct Refusal<'a> {
    pub(crate) message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
}

/// A failure in this surface's form.
pub(crate) fn refusal(failure: &Failure) -> Result<Reply, Failure> {
    let (status, message, error) = match failure {
        // A key that no store accepts is a name that no backup has.
        Failure::NotFound | Failure::Invalid(_) => (404, NOT_FOUND, ""),
        Failure::Denied(why) => (403, "forbidden", why.as_str()),
        Failure::PreconditionFailed => (412, "the backup is another one", ""),
        Failure::TooLarge(_) => {
            (413, "request body too large", "a backup needs no body; send none")
        }
        Failure::OutOfRange(_) => (416, "requested range not satisfiable", ""),
        Failure::Refused(_) if failure.status() == 405 => (405, "method not allowed", ""),
        Failure::Refused(why) if why.code.is_empty() => (failure.status(), failure.message(), ""),
        Failure::Refused(why) => (failure.status(), why.code.as_str(), failure.message()),
        Failure::Internal(_) => (500, "internal error", ""),
        Failure::Unavailable(why) | Failure::Busy(why) => {
            (503, "service unavailable", why.as_str())
        }
        other => (500, "internal error", other.message()),
    };
    let error = (!error.is_empty()).then_some(error);
    Reply::new(status).json(&Refusal { message, error })
}

pub(crate) fn not_saved(error: impl Into<String>) -> Failure {
    Failure::refused(500, NOT_SAVED, error)
}
