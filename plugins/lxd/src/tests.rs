//! The protocol's tables, against the in-memory host and scripted answers of LXD.

mod backups;
mod requests;
mod restores;

use keepgate_sdk::testing::{Host, TestExchange, TestReply};
use serde_json::{Value, json};

use super::Lxd;

/// 2022-02-16 04:10:40 UTC, in nanoseconds.
const NOW: u64 = 1_644_984_640_000_000_000;
const BASE: &str = "backup_2022-02-16-04-1040";
const NAME: &str = "backup_2022-02-16-04-1040.tar.gz";

fn host(settings: &Value) -> Host {
    let host = Host::new().settings(settings);
    host.runs_jobs_of::<Lxd>();
    host.set_now(NOW);
    host.upstream("lxd", &[]);
    host
}

fn send(host: &Host, method: &str, target: &str) -> TestReply {
    host.request(method, target).send::<Lxd>()
}

/// The JSON body of a reply.
fn json_of(reply: &TestReply) -> Value {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{}", reply.text());
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    serde_json::from_slice(&reply.body).unwrap()
}

/// LXD's answer with this metadata.
fn answers(method: &str, target: &str, metadata: &Value) -> TestExchange {
    let answer =
        json!({"type": "sync", "status": "Success", "status_code": 200, "metadata": metadata});
    TestExchange::new(method, target).json(200, &answer)
}

fn begins(method: &str, target: &str, operation: &str) -> TestExchange {
    let answer =
        json!({"type": "async", "status_code": 100, "operation": operation, "metadata": {}});
    TestExchange::new(method, target).json(202, &answer)
}

fn refuses(method: &str, target: &str, status: u16, error: &str) -> TestExchange {
    let answer = json!({"type": "error", "error": error, "error_code": status, "metadata": null});
    TestExchange::new(method, target).json(status, &answer)
}

/// An operation that has ended.
fn ended(operation: &str, status_code: u16, err: &str) -> TestExchange {
    let target = format!("{operation}/wait?timeout=20");
    answers("GET", &target, &json!({"status_code": status_code, "err": err}))
}

/// The name of the backup in LXD, as the job asked for it.
fn name_in_lxd(host: &Host) -> String {
    let input = &host.jobs().into_iter().find(|job| job.kind == "backup").unwrap().input;
    let input: Value = serde_json::from_slice(input).unwrap();
    format!("keepgate-{}", input["token"].as_str().unwrap())
}
