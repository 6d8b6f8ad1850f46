//! Refusals in this surface's form: `{"error": CODE, "message": TEXT}` and whatever else a program may want to know.
//!
//! `refusals.json` declares the form to the host, for what it refuses without asking the plugin; a test holds the two
//! together.

use keepgate_sdk::{Failure, Reply};
use serde_json::{Map, Value};

/// What a handler fails with: a failure, or a refusal with members of its own.
#[derive(Debug)]
pub(crate) enum Problem {
    Failure(Failure),
    Refusal(Box<Refusal>),
}

/// A refusal with members of its own.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) more: Map<String, Value>,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Problem {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let more = Map::new();
        Self::Refusal(Box::new(Refusal { status, code, message: message.into(), more }))
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Self::Refusal(refusal) = &mut self {
            refusal.more.insert(name.to_owned(), value.into());
        }
        self
    }

    /// What the handler returns.
    pub(crate) fn into_reply(self) -> Result<Reply, Failure> {
        match self {
            Self::Failure(failure) => Err(failure),
            Self::Refusal(refusal) => {
                let Refusal { status, code, message, more } = *refusal;
                form(status, code, &message, more)
            }
        }
    }
}

/// A refusal without members of its own.
pub(crate) fn failure(status: u16, code: &str, message: &str) -> Failure {
    Failure::refused(status, code, message)
}

/// A failure in this surface's form.
pub(crate) fn reply(failure: &Failure) -> Result<Reply, Failure> {
    let status = failure.status();
    let code = match failure {
        Failure::Refused(_) if status == 405 => "method_not_allowed".to_owned(),
        Failure::Refused(_) if !failure.code().is_empty() => failure.code().to_owned(),
        Failure::NoSpace => "insufficient_storage".to_owned(),
        failure => failure.case().name.replace('-', "_"),
    };
    form(status, &code, failure.message(), Map::new())
}

fn form(
    status: u16,
    code: &str,
    message: &str,
    more: Map<String, Value>,
) -> Result<Reply, Failure> {
    let mut body = Map::new();
    body.insert("error".to_owned(), code.into());
    body.insert("message".to_owned(), message.into());
    body.extend(more);
    Reply::new(status).json(&body)
}
