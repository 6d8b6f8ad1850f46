//! Answers in LXD's envelopes, in which lxmin's members are too.
//!
//! `refusals.json` declares the form of refusals to the host, for what it refuses without asking the plugin; a test
//! holds the two together.

use std::time::Duration;

use keepgate_sdk::{Call, Failure, Reply, Request};
use serde::Serialize;

use crate::settings::Settings;

/// When to ask again if LXD or the store is away.
const AWAY: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Sync<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<T>,
}

#[derive(Serialize)]
struct Started<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    status_code: u16,
    operation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<T>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: &'a str,
    error_code: u16,
    /// lxmin's name for it.
    code: u16,
    status: &'static str,
    status_code: u16,
}

/// A result.
pub(crate) fn sync<T: Serialize>(metadata: Option<T>) -> Result<Reply, Failure> {
    let answer = Sync { kind: "sync", status: "Success", status_code: 200, metadata };
    Ok(typed(Reply::ok().json(&answer)?))
}

/// Something was started: the job of this id does it.
pub(crate) fn started<T: Serialize>(
    request: &Request,
    settings: &Settings,
    id: &str,
    metadata: Option<T>,
) -> Result<Reply, Failure> {
    let operation = format!("/1.0/operations/{id}");
    let answer = Started {
        kind: "async",
        status: "Operation created",
        status_code: 100,
        operation: &operation,
        metadata,
    };
    let reply = Reply::new(settings.async_status()).json(&answer)?;
    Ok(typed(reply.header("location", request.url(&["1.0", "operations", id]))))
}

/// Whether the gateway serves.
pub(crate) fn health(_: Call<Settings>) -> Result<Reply, Failure> {
    Ok(typed(Reply::ok().header("content-type", "application/json")))
}

fn typed(reply: Reply) -> Reply {
    reply.header("x-content-type-options", "nosniff")
}

/// LXD or the store is away.
pub(crate) fn away(why: &str) -> Failure {
    Failure::Unavailable(why.to_owned()).retry_after(AWAY)
}

/// A failure in this surface's form.
pub(crate) fn refusal(failure: &Failure) -> Result<Reply, Failure> {
    let status = failure.status();
    let error = match failure {
        Failure::NotFound => "not found",
        Failure::TooLarge(_) => "the body is too large; requests need none",
        Failure::Refused(_) if status == 405 => "method not allowed",
        other => other.message(),
    };
    let refusal = Refusal {
        kind: "error",
        error,
        error_code: status,
        code: status,
        status: "",
        status_code: 0,
    };
    Ok(typed(Reply::new(status).json(&refusal)?))
}
