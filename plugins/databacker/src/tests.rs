//! The protocol's tables, against the in-memory host.

mod config;
mod elsewhere;
mod events;
mod instances;
mod keys;
mod log_streams;
mod logs;
mod pages;
mod retain;
mod runs;
mod schedule;
mod telemetry;
mod tokens;

use keepgate_sdk::testing::{Host, RequestBuilder, TestReply};
use keepgate_sdk::{Content, Failure, Plugin as _};
use serde_json::{Value, json};

use super::Databacker;

/// 2026-01-31 00:00:00 UTC, in nanoseconds.
pub(crate) const NOW: u64 = 1_769_817_600_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const URL: &str = "https://backup.example.com/databacker";

/// A host with an administrator, `ann`, one that only looks, `bob`, and one of the account `acme`, `eve`.
pub(crate) fn host() -> Host {
    host_with(json!({}))
}

pub(crate) fn host_with(further: Value) -> Host {
    let mut settings = json!({
        "url": URL,
        "administrators": [
            {"name": "ann"},
            {"name": "bob", "read_only": true},
            {"name": "eve", "account": "acme"},
        ],
    });
    if let (Some(settings), Value::Object(further)) = (settings.as_object_mut(), further) {
        settings.extend(further);
    }
    let host = Host::new().settings(&settings);
    host.seal_keys(&[&[7; 32]]);
    host.set_now(NOW);
    host
}

/// A request of the administrator `ann`.
pub(crate) fn ann(request: RequestBuilder) -> TestReply {
    request.user("ann").send::<Databacker>()
}

pub(crate) fn send(request: RequestBuilder) -> TestReply {
    request.send::<Databacker>()
}

pub(crate) fn json_of(reply: &TestReply) -> Value {
    serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{error}: {} {}", reply.status, reply.text()))
}

/// Registers an instance and returns it.
pub(crate) fn register(host: &Host, body: &Value) -> Value {
    let reply = ann(host.post("/admin/instances", body.to_string().as_bytes()));
    assert_eq!(reply.status, 201, "{}", reply.text());
    json_of(&reply)
}

#[test]
fn the_form_that_is_declared_is_the_plugins_own() {
    let _host = Host::new();
    let declared: Value = serde_json::from_str(include_str!("../refusals.json")).unwrap();
    let failure = Failure::Denied("because".to_owned());
    let reply = Databacker::refuse(&failure).unwrap();
    let Content::Bytes(body) = reply.content else { panic!() };
    let own: Value = serde_json::from_slice(&body).unwrap();
    let form = declared["body"].to_string().replace("{message}", "because");
    assert_eq!(own, serde_json::from_str::<Value>(&form).unwrap());
}
