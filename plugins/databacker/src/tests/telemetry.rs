//! Traces: how they come in. The runs that are made of them are in `runs`.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use p256::ecdsa::SigningKey;
use prost::Message as _;

use super::keys::{gzip, key_pair, signed};
use super::*;
use crate::layout;
use crate::telemetry as traces;
use keepgate_sdk::Body;

pub(super) const RUN: &str = "550e8400-e29b-41d4-a716-446655440000";

/// An instance with its key.
pub(super) struct Client {
    pub(super) id: String,
    key: SigningKey,
}

impl Client {
    pub(super) fn new(host: &Host) -> Self {
        Self::numbered(host, 1, "")
    }

    pub(super) fn numbered(host: &Host, number: u8, account: &str) -> Self {
        let (key, pem) = key_pair(number);
        let body = json!({"publicKey": pem, "account": account});
        Self { id: register(host, &body)["id"].as_str().unwrap().to_owned(), key }
    }

    /// The request with a token that the instance has signed.
    pub(super) fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        signed(&self.key, &self.id, request)
    }

    fn path(&self) -> String {
        format!("/engines/telemetry/{}/traces", self.id)
    }

    fn post(&self, host: &Host, body: &[u8]) -> TestReply {
        let request =
            host.post(&self.path(), body).header("content-type", "application/x-protobuf");
        send(self.signed(request))
    }

    pub(super) fn sends(&self, host: &Host, spans: &[Span]) {
        let reply = self.post(host, &batch(spans));
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/x-protobuf"));
    }

    pub(super) fn runs(&self, host: &Host, query: &str) -> Vec<Value> {
        let reply = ann(host.get(&format!("/admin/instances/{}/runs{query}", self.id)));
        assert_eq!(reply.status, 200, "{}", reply.text());
        json_of(&reply).as_array().unwrap().clone()
    }

    pub(super) fn last(&self, host: &Host) -> Value {
        json_of(&ann(host.get(&format!("/admin/instances/{}", self.id))))["lastRun"].clone()
    }
}

fn batch(spans: &[Span]) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans: spans.to_vec(), ..Default::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// A span of the trace `trace`, `from` to `to` seconds after [`NOW`].
pub(super) fn span(trace: u8, id: u8, parent: u8, name: &str, from: u64, to: u64) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        start_time_unix_nano: NOW + from * SECOND,
        end_time_unix_nano: NOW + to * SECOND,
        status: Some(Status { message: "completed".to_owned(), code: 1 }),
        ..Default::default()
    }
}

pub(super) fn failed(span: Span, message: &str) -> Span {
    Span { status: Some(Status { message: message.to_owned(), code: 2 }), ..span }
}

pub(super) fn with(mut span: Span, attributes: &[(&str, Any)]) -> Span {
    for (key, value) in attributes {
        let value = Some(AnyValue { value: Some(value.clone()) });
        span.attributes.push(KeyValue { key: (*key).to_owned(), value, ..Default::default() });
    }
    span
}

pub(super) fn text(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

pub(super) fn target(span: Span, name: &str, url: &str) -> Span {
    with(
        span,
        &[
            ("backup.target.name", text(name)),
            ("backup.target.type", text("s3")),
            ("backup.target.url", text(url)),
            ("backup.bytes", Any::IntValue(1000)),
        ],
    )
}

/// The spans of a dump that went well, children first, in three batches.
pub(super) fn dump(trace: u8, run: &str) -> [Vec<Span>; 3] {
    let schemas = ["shop", "wiki"].map(|name| AnyValue { value: Some(text(name)) }).to_vec();
    let schemas = Any::ArrayValue(ArrayValue { values: schemas });
    [
        vec![span(trace, 3, 2, "database_dump", 11, 20), span(trace, 4, 2, "output_tar", 20, 30)],
        vec![
            target(span(trace, 6, 5, "upload", 30, 40), "daily", "s3://bucket/path"),
            target(span(trace, 7, 5, "upload", 40, 50), "weekly", "s3://other/path"),
            span(trace, 5, 2, "upload", 30, 50),
            with(span(trace, 2, 1, "dump", 10, 50), &[("actual-schemas", schemas)]),
        ],
        vec![with(
            span(trace, 1, 0, "run", 5, 60),
            &[
                ("backup.run_id", text(run)),
                ("backup.status", text("ok")),
                ("backup.exit_code", Any::IntValue(0)),
                ("backup.bytes", Any::IntValue(4711)),
            ],
        )],
    ]
}

#[test]
fn a_run_comes_in_three_batches_its_root_last() {
    let host = host();
    let client = Client::new(&host);
    assert_eq!(client.last(&host), Value::Null);
    let [first, second, third] = dump(9, RUN);
    client.sends(&host, &first);
    let running = &client.runs(&host, "")[0];
    assert_eq!(running["id"], "09".repeat(16));
    assert_eq!(running["status"], "running");
    assert_eq!(running["start"], "2026-01-31T00:00:11.000Z");
    assert_eq!((&running["end"], &running["bytes"]), (&Value::Null, &Value::Null));
    client.sends(&host, &second);
    let keys = host.record_keys();
    client.sends(&host, &second);
    assert_eq!(host.record_keys(), keys, "the same batch again is the same record");
    assert_eq!(client.runs(&host, "")[0]["bytes"], 2000);
    client.sends(&host, &third);
    client.sends(&host, &first);

    let runs = client.runs(&host, "");
    let expected = json!([{
        "id": RUN, "instance": client.id, "kind": "dump", "status": "ok",
        "start": "2026-01-31T00:00:05.000Z", "end": "2026-01-31T00:01:00.000Z",
        "bytes": 4711, "exitCode": 0, "message": "", "databases": ["shop", "wiki"],
        "targets": [
            {"name": "daily", "type": "s3", "url": "s3://bucket/path", "status": "ok"},
            {"name": "weekly", "type": "s3", "url": "s3://other/path", "status": "ok"},
        ],
    }]);
    assert_eq!(Value::from(runs), expected);
    assert_eq!(client.last(&host), expected[0]);
    // Nothing is left where it began before the root had come.
    let left = host.record_keys().iter().filter(|key| key.starts_with("r/")).count();
    assert_eq!(left, 1);
    for id in [RUN, &"09".repeat(16)] {
        let reply = ann(host.get(&format!("/admin/runs/{id}")));
        assert_eq!(reply.header("content-type"), Some("application/vnd.databack.run.v1+json"));
        let run = json_of(&reply);
        assert_eq!(run["bytes"], 4711);
        let names: Vec<_> = run["phases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|phase| phase["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["run", "dump", "database_dump", "output_tar", "upload", "upload", "upload"]
        );
        let upload = &run["phases"][4];
        assert_eq!(upload["attributes"]["backup.target.name"], "daily");
        assert_eq!(
            (&upload["status"], &upload["end"]),
            (&json!("ok"), &json!("2026-01-31T00:00:40.000Z"))
        );
    }
}

#[test]
fn the_order_in_which_spans_come_does_not_matter() {
    let (mut results, all) = (Vec::new(), dump(9, RUN));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let host = host();
        let client = Client::new(&host);
        for index in order {
            client.sends(&host, &all[index]);
        }
        let mut runs = client.runs(&host, "");
        runs[0]["instance"] = Value::Null;
        results.push((runs, client.last(&host)["bytes"].clone()));
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
}

#[test]
fn no_secret_is_stored() {
    let host = host();
    let client = Client::new(&host);
    let secret = "hunter2hunter2";
    let key = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    let leaky = with(
        failed(
            span(1, 2, 1, &format!("pruneTarget s3://{key}:{secret}@bucket"), 0, 1),
            &format!("token={secret}"),
        ),
        &[
            ("target", text(&format!("smb://user:{secret}@host/share"))),
            ("db.password", text(secret)),
            (
                "ids",
                Any::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text(&key)) }] }),
            ),
        ],
    );
    client.sends(
        &host,
        &[leaky, failed(span(1, 1, 0, "run", 0, 1), &format!("dial root:{secret}@tcp(db:3306)/"))],
    );
    for name in host.record_keys() {
        let value = String::from_utf8_lossy(&host.record(&name).unwrap()).into_owned();
        assert!(!value.contains(secret) && !value.contains(&key), "{name}: {value}");
    }
    assert_eq!(client.runs(&host, "")[0]["message"], "dial ***@tcp(db:3306)/");
}

#[test]
fn what_is_no_trace_is_refused() {
    let host = host();
    let client = Client::new(&host);
    let good = batch(&dump(1, RUN)[0]);
    let with_type = |kind: &str, body: &[u8]| {
        send(client.signed(host.post(&client.path(), body)).header("content-type", kind)).status
    };
    assert_eq!(with_type("application/json", b"{}"), 415);
    assert_eq!(with_type("application/x-protobuf; x=y", &good), 200);
    assert_eq!(client.post(&host, b"nonsense").status, 400);
    assert_eq!(
        client
            .post(&host, &batch(&[Span { trace_id: vec![1; 3], ..span(1, 1, 0, "run", 0, 1) }]))
            .status,
        400
    );
    assert_eq!(send(host.post(&client.path(), &good)).status, 401);
    let other = Client::numbered(&host, 2, "");
    let foreign = send(other.signed(host.post(&client.path(), &good)));
    assert_eq!(foreign.status, 404);
    let put = send(client.signed(host.request("PUT", &client.path())));
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, HEAD, POST")));
    assert_eq!(send(client.signed(host.get("/v1/traces"))).header("allow"), Some("POST"));
    let mut traces: Vec<Span> = (1..=101).map(|trace| span(trace, 1, 0, "run", 0, 1)).collect();
    assert_eq!(client.post(&host, &batch(&traces)).status, 413);
    traces.pop();
    client.sends(&host, &traces);
}

#[test]
fn bodies_may_be_compressed_but_not_without_bounds() {
    let host = host();
    let client = Client::new(&host);
    let post = |encoding: &str, body: &[u8]| {
        let request =
            host.post("/v1/traces", body).header("content-type", "application/x-protobuf");
        send(client.signed(request.header("content-encoding", encoding)))
    };
    assert_eq!(post("gzip", &gzip(&batch(&dump(1, RUN)[2]))).status, 200);
    assert_eq!(client.runs(&host, "")[0]["status"], "ok");
    let unknown = post("zstd", b"");
    assert_eq!((unknown.status, unknown.header("accept-encoding")), (415, Some("gzip")));
    assert_eq!(post("gzip", b"not gzip").status, 400);
    let whole = gzip(&batch(&dump(1, RUN)[2]));
    assert_eq!(post("gzip", &whole[..whole.len() - 9]).status, 400);
    // A field that nobody knows, of 9 MiB.
    let mut long = vec![0x7a];
    prost::encoding::encode_varint(9 << 20, &mut long);
    long.resize(long.len() + (9 << 20), 0);
    assert_eq!(client.post(&host, &long).status, 413);
    // A bomb, which has its own limit.
    let bomb = Body::from_bytes(&gzip(&vec![0; 1 << 20]));
    let body = traces::inflated(bomb, traces::Encoding::Gzip, 64 << 10, 512 << 10);
    assert_eq!(body.bytes(u64::MAX), Err(Failure::TooLarge(512 << 10)));
}

#[test]
fn a_client_asks_whether_it_may_send() {
    let host = host();
    let client = Client::new(&host);
    let url = format!("{URL}/engines/telemetry/{}/traces", client.id);
    for path in [client.path(), format!("/telemetry/{}/traces", client.id)] {
        let reply = send(client.signed(host.get(&path)));
        assert_eq!(
            reply.header("content-type"),
            Some("application/vnd.databack.trace-status.v1+json")
        );
        assert_eq!((reply.status, json_of(&reply)), (200, json!({"trace": url})));
        let head = send(client.signed(host.request("HEAD", &path)));
        assert_eq!((head.status, head.body.len(), head.header("vary")), (200, 0, Some("accept")));
        assert_eq!(send(client.signed(host.get(&path)).header("accept", "text/html")).status, 406);
    }
}

#[test]
fn a_full_table_is_a_503_and_the_next_batch_heals_what_is_missing() {
    let host = host();
    let client = Client::new(&host);
    let [first, second, third] = dump(1, RUN);
    client.sends(&host, &first);
    host.fail_commit(Failure::QuotaExceeded("full".to_owned()));
    let full = client.post(&host, &batch(&second));
    assert_eq!((full.status, full.header("retry-after")), (503, Some("30")));
    // As if the gateway had died after the spans, and before the run.
    let (runs, trace) = (layout::runs(&client.id), layout::trace(&client.id, &"01".repeat(16)));
    let mut lost = keepgate_sdk::records::Commit::new().delete(&trace);
    for key in host.record_keys().iter().filter(|key| key.starts_with(&runs)) {
        lost = lost.delete(key);
    }
    lost.run().unwrap();
    client.sends(&host, &third);
    client.sends(&host, &second);
    let run = &client.runs(&host, "")[0];
    assert_eq!((&run["status"], run["databases"].as_array().unwrap().len()), (&json!("ok"), 2));
    assert_eq!(client.runs(&host, "").len(), 1);
}

#[test]
fn a_trace_has_room_for_so_many_spans_and_for_its_root() {
    let host = host();
    let client = Client::new(&host);
    let long = text(&"x".repeat(4000));
    let big = |number: u8, id: u8| {
        let attributes: Vec<_> = (0..7).map(|_| ("", long.clone())).collect();
        let mut span = with(span(1, id, 1, "database_dump", 1, 2), &attributes);
        for (index, attribute) in span.attributes.iter_mut().enumerate() {
            attribute.key = format!("a{index}");
        }
        span.span_id[0] = number;
        span
    };
    for number in 0..9 {
        let spans: Vec<Span> = (1..=18).map(|id| big(number, id)).collect();
        let reply = client.post(&host, &batch(&spans));
        assert_eq!(reply.status, 200);
        let response = ExportTraceServiceResponse::decode(reply.body.as_slice()).unwrap();
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
        assert_eq!(rejected > 0, number == 8, "{number}: {rejected}");
    }
    client.sends(&host, &[span(1, 1, 0, "run", 0, 3)]);
    assert_eq!(client.last(&host)["status"], "ok");
    let run = json_of(&ann(host.get(&format!("/admin/runs/{}", "01".repeat(16)))));
    assert!(run["droppedSpans"].as_u64().unwrap() > 0);
}
