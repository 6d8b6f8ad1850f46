//! The protocol's tables, against the in-memory host.

mod files;
mod manifests;
mod sweeps;

use keepgate_sdk::testing::{Host, RequestBuilder, TestReply};
use keepgate_sdk::{Content, Failure, Plugin as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Fest;

/// 2026-01-31 00:00:00 UTC, in nanoseconds.
const NOW: u64 = 1_769_817_600_000_000_000;
const DAY: u64 = 86_400_000_000_000;

fn host(settings: &Value) -> Host {
    let host = Host::new().settings(settings);
    host.runs_jobs_of::<Fest>();
    host.set_now(NOW);
    host
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn send(request: RequestBuilder, user: &str) -> TestReply {
    request.user(user).send::<Fest>()
}

fn json_of(reply: &TestReply) -> Value {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

/// A manifest that names these files by their bytes.
fn manifest(name: &str, timestamp: &str, files: &[(&str, &[u8])]) -> Value {
    let entry = |bytes: &[u8]| json!({"hash": hash(bytes), "size": bytes.len()});
    let files: serde_json::Map<_, _> =
        files.iter().map(|(path, bytes)| ((*path).to_owned(), entry(bytes))).collect();
    json!({"name": name, "timestamp": timestamp, "files": files})
}

fn post(host: &Host, user: &str, manifest: &Value) -> TestReply {
    let text = manifest.to_string();
    send(host.post("/manifests", text.as_bytes()).header("content-type", "application/json"), user)
}

fn put(host: &Host, user: &str, bytes: &[u8]) -> TestReply {
    send(host.request("PUT", &format!("/files/{}", hash(bytes))).body(bytes), user)
}

#[test]
fn the_form_that_is_declared_is_the_plugins_own() {
    let _host = Host::new();
    let declared: Value = serde_json::from_str(include_str!("../refusals.json")).unwrap();
    let failure = Failure::Denied("because".to_owned());
    let reply = Fest::refuse(&failure).unwrap();
    let Content::Bytes(body) = reply.content else { panic!() };
    let own: Value = serde_json::from_slice(&body).unwrap();
    let form = declared["body"].to_string().replace("{code}", "denied");
    let form = form.replace("{message}", "because");
    assert_eq!(own, serde_json::from_str::<Value>(&form).unwrap());
}
