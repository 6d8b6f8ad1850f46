//! The protocol's tables, against the in-memory host.

mod backups;
mod files;
mod jobs;
mod refusals;
mod rotation;
mod routes;

use std::io::Read as _;

use keepgate_sdk::testing::{Host, TestReply, TestSnapshot};
use serde_json::{Value, json};

use super::Etcd;

/// The snapshot of the simulated etcd.
const SNAPSHOT: &[u8] = b"a bolt of keys, and their checksum";
const ENDPOINT: &str = "http://127.0.0.1:2379";
/// 2026-01-31 23:59:58.250 UTC, in nanoseconds.
const NOW: u64 = 1_769_903_998_250_000_000;
const SECOND: u64 = 1_000_000_000;
const FIRST: &str = "snapshot-20260131_235958.tar.gz";

/// A host whose cluster `main` has this many snapshots.
fn host(snapshots: usize, settings: &Value) -> Host {
    let host = Host::new().settings(settings);
    host.cluster("main", &vec![TestSnapshot::new(SNAPSHOT); snapshots]);
    host.runs_jobs_of::<Etcd>();
    host.set_now(NOW);
    host
}

fn send(host: &Host, method: &str, target: &str) -> TestReply {
    host.request(method, target).send::<Etcd>()
}

/// A POST of the cluster `main`.
fn post(host: &Host) -> TestReply {
    host.post("/api/v1/backup", b"").send::<Etcd>()
}

/// Makes a backup at a time, and returns its name.
fn backup_at(host: &Host, now: u64) -> String {
    host.set_now(now);
    let reply = post(host);
    assert_eq!(reply.status, 200, "{}", reply.text());
    json_of(&reply)["filename"].as_str().unwrap().to_owned()
}

/// The JSON body of a reply.
fn json_of(reply: &TestReply) -> Value {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

fn list(host: &Host, target: &str) -> Vec<String> {
    let reply = send(host, "GET", target);
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_value(json_of(&reply)).unwrap()
}

fn names(host: &Host) -> Vec<String> {
    list(host, "/api/v1/backup")
}

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

fn not_found() -> Value {
    json!({"message": "requested resource is not found"})
}
