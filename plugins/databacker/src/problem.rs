//! Refusals in this surface's form, `{"message": TEXT}`, always as `application/json`, so that no client loses the message
//! for want of a media type.
//!
//! `refusals.json` declares the form to the host, for what it refuses without asking the plugin; a test holds the two
//! together.

use std::time::Duration;

use keepgate_sdk::{Failure, Reply};
use serde_json::{Value, json};

/// What a handler returns.
pub(crate) type Answer = Result<Reply, Problem>;

/// How long clients wait before they send again what there was no room for.
const FULL_FOR: Duration = Duration::from_secs(30);

/// Why a handler did not do what was asked.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A failure, which becomes a reply like any other.
    Failure(Failure),
    /// A reply with more than a message: headers, or members of its own.
    Reply(Box<Reply>),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Problem {
    /// A refusal with a message only.
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self::Failure(Failure::refused(status, "", message))
    }

    /// A refusal with further members.
    pub(crate) fn with(status: u16, message: &str, name: &str, value: impl Into<Value>) -> Self {
        Self::json(status, &json!({"message": message, name: value.into()}))
    }

    /// A refusal whose body is in another protocol's form.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        match Reply::new(status).json(body) {
            Ok(reply) => Self::Reply(Box::new(reply)),
            Err(failure) => Self::Failure(failure),
        }
    }

    /// Adds a header.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Reply(reply) => Self::Reply(Box::new(reply.header(name, value))),
            Self::Failure(failure) => match reply(&failure) {
                Ok(reply) => Self::Reply(Box::new(reply.header(name, value))),
                Err(failure) => Self::Failure(failure),
            },
        }
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(404, what)
    }
}

/// What the router gets of a handler.
pub(crate) fn told(answer: Answer) -> Result<Reply, Failure> {
    match answer {
        Ok(reply) => Ok(reply),
        Err(Problem::Reply(reply)) => Ok(*reply),
        // Clients of telemetry drop what is answered with anything but a 429 or some of the 5xx, 507 not among them.
        Err(Problem::Failure(failure @ (Failure::NoSpace | Failure::QuotaExceeded(_)))) => {
            let message = failure.message().to_owned();
            Err(Failure::refused(503, "", message).retry_after(FULL_FOR))
        }
        Err(Problem::Failure(failure)) => Err(failure),
    }
}

/// A failure in this surface's form.
pub(crate) fn reply(failure: &Failure) -> Result<Reply, Failure> {
    Reply::new(failure.status()).json(&json!({"message": failure.message()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_a_503_which_clients_try_again() {
        for failure in [Failure::NoSpace, Failure::QuotaExceeded("10 GB of main".to_owned())] {
            let told = told(Err(failure.into())).unwrap_err();
            let reply = told.reply(reply).unwrap();
            assert_eq!(reply.status, 503);
            assert!(reply.headers.contains(&("retry-after".to_owned(), "30".to_owned())));
        }
    }
}
