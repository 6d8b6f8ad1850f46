//! The API of a plugin whose jobs do as their input says.

use serde_json::{Value, json};

use super::*;
use crate::jobs::Options;
use crate::testing::{Host, TestReply};
use crate::{Call, Description, Jobs, Plugin, Router, at};

struct Exports;

impl Plugin for Exports {
    type Settings = Value;

    fn describe() -> Description {
        Description::new("exports", "1").job("export").job("other")
    }

    fn handle(request: Request, settings: Value) -> Result<Reply, Failure> {
        Router::new()
            .route("/exports", at().post(create))
            .route("/exports/{id}", at().get(show).delete(end))
            .handle(request, settings)
    }
}

impl Jobs for Exports {
    fn run_job(job: Job, _: Value) -> Result<Vec<u8>, Failure> {
        jobs::report_progress("exporting", 3, Some(7));
        match job.input.as_slice() {
            b"fail" => Err(Failure::Invalid("as the test wants".to_owned())),
            b"text" => Ok(b"not JSON".to_vec()),
            _ => Ok(br#"{"size":3}"#.to_vec()),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a handler owns its call")]
fn create(call: Call<Value>) -> Result<Reply, Failure> {
    let id = jobs::start("export", &call.request.bytes(100)?, &Options::new("a"))?;
    if call.request.prefers_async() || call.request.query("wait") == Some("never") {
        return accepted(&call.request, &["exports", &id], &json!({"id": id}));
    }
    match wait(&id, Duration::from_secs(1))? {
        Outcome::Succeeded(output) => Ok(Reply::ok().json_bytes(output)),
        Outcome::Failed(why) => Err(Failure::refused(500, "", why)),
        Outcome::NoTurn => Err(Failure::Busy("no turn".to_owned())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a handler owns its call")]
fn show(call: Call<Value>) -> Result<Reply, Failure> {
    let id: String = call.param("id")?;
    let job = find(&id, "export", |job| job.input != b"hidden")?;
    status(&job, &json!({"error": reason(&job)}))
}

#[expect(clippy::needless_pass_by_value, reason = "a handler owns its call")]
fn end(call: Call<Value>) -> Result<Reply, Failure> {
    let id: String = call.param("id")?;
    cancel(&find(&id, "export", |_| true)?)
}

fn host() -> Host {
    let host = Host::new();
    host.runs_jobs_of::<Exports>();
    host.set_now(1_769_903_998_250_000_000);
    host
}

fn post(host: &Host, body: &str) -> TestReply {
    host.post("/exports", body.as_bytes()).send::<Exports>()
}

fn start(host: &Host, body: &str) -> TestReply {
    host.post("/exports", body.as_bytes()).header("prefer", "respond-async").send::<Exports>()
}

fn shown(host: &Host, id: &str) -> Value {
    let reply = host.get(&format!("/exports/{id}")).send::<Exports>();
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn a_request_waits_for_its_job() {
    let host = host();
    let reply = post(&host, "");
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"size":3}"#));
    let reply = post(&host, "fail");
    assert_eq!((reply.status, reply.text().as_str()), (500, "as the test wants"));
}

#[test]
fn a_job_that_gets_no_turn_is_withdrawn() {
    let host = Host::new();
    assert_eq!(post(&host, "").status, 503);
    assert_eq!(host.jobs()[0].state, State::Cancelled);
}

#[test]
fn a_client_that_does_not_wait_is_told_where_to_look() {
    let host = host();
    let reply = start(&host, "");
    assert_eq!((reply.status, reply.text().as_str()), (202, r#"{"id":"job-1"}"#));
    assert_eq!(reply.header("location"), Some("http://localhost/exports/job-1"));
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    let reply = host.post("/exports?wait=never", b"").send::<Exports>();
    assert_eq!((reply.status, reply.header("preference-applied")), (202, None));
}

#[test]
fn the_status_document_has_progress_and_in_the_end_the_result() {
    let host = host();
    start(&host, "");
    let created = "2026-01-31T23:59:58.250Z";
    let queued = json!({
        "job": "job-1", "state": "queued", "origin": "test", "attempt": 0, "phase": "", "done": 0,
        "total": null, "created": created, "started": null, "ended": null,
    });
    assert_eq!(shown(&host, "job-1"), queued);
    host.run_jobs();
    let ended = json!({
        "job": "job-1", "state": "succeeded", "origin": "test", "attempt": 1, "phase": "exporting",
        "done": 3, "total": 7, "created": created, "started": created, "ended": created,
        "result": {"size": 3},
    });
    assert_eq!(shown(&host, "job-1"), ended);
    for (input, why) in [("fail", "as the test wants"), ("text", "")] {
        let id = json!(serde_json::from_slice::<Value>(&start(&host, input).body).unwrap()["id"]);
        host.run_jobs();
        assert_eq!(shown(&host, id.as_str().unwrap())["result"], json!({"error": why}));
    }
}

#[test]
fn a_job_is_cancelled_once() {
    let host = host();
    start(&host, "");
    let cancel = || host.request("DELETE", "/exports/job-1").send::<Exports>();
    assert_eq!(cancel().status, 204);
    assert_eq!((cancel().status, cancel().text()), (409, "the job has ended".to_owned()));
    assert_eq!(shown(&host, "job-1")["result"], json!({"error": "the job was cancelled"}));
}

#[test]
fn jobs_of_others_are_not_found() {
    let host = host();
    start(&host, "hidden");
    let other = jobs::start("other", b"", &Options::new("")).unwrap();
    for id in ["job-1", &other, "job-9"] {
        assert_eq!(host.get(&format!("/exports/{id}")).send::<Exports>().status, 404, "{id}");
    }
}
