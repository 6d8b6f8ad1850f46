//! Telemetry of instances: traces, from which runs are derived.
//!
//! `otlp` reads what comes, `spans` takes what is kept of it, `mask` removes secrets before anything is stored, `ingest`
//! stores it, and `derive` makes runs of it.
//!
//! A request has at most 8 MiB as it is sent, 64 MiB decompressed, 100 traces, and 8 MiB of what is kept: more is a 413. A
//! span that is longer than 256 KiB, or for which its trace has no room, is dropped, which the reply says
//! (`partial_success`). Of a span, 32 KiB of attributes and events are kept.

pub(crate) mod derive;
pub(crate) mod ingest;
pub(crate) mod mask;
pub(crate) mod otlp;
pub(crate) mod spans;

use std::collections::BTreeMap;

use keepgate_sdk::{Body, Call, Failure, Reply, Request, pipes};
use prost::Message as _;
use serde_json::json;

use crate::caller::{self, Scope};
use crate::instance::Instance;
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::settings::Settings;
use spans::Span;

const PROTOBUF: &str = "application/x-protobuf";
/// The most bytes of a body, as it was sent. A batch of the known clients has a few hundred kilobytes.
const MOST_SENT: u64 = 8 << 20;
/// The most bytes of a body that was compressed.
const MOST_INFLATED: u64 = 64 << 20;
/// The most bytes that are kept of a request.
const MOST_KEPT: usize = 8 << 20;
/// The most traces that the spans of a request are of. Each is at least one commit.
const MOST_TRACES: usize = 100;

/// `GET …/traces`: a client asks whether it may send.
pub(crate) fn probe(call: Call<Settings>) -> Answer {
    let instance = sender(&call)?;
    let media_type = media::accepted(&call.request, Resource::TraceStatus)?;
    let url = call.settings.url(&call.request, &["engines", "telemetry", &instance.id, "traces"]);
    media::reply(200, &media_type, &json!({"trace": url}))
}

/// `POST …/traces`, and `/v1/traces`, where the key says which instance it is.
pub(crate) fn receive(call: Call<Settings>) -> Answer {
    let instance = sender(&call)?;
    require_protobuf(&call.request)?;
    let encoding = encoding(&call.request)?;
    let body = inflated(call.request.body, encoding, MOST_SENT, MOST_INFLATED);
    let (traces, mut rejected) = read(&body)?;
    for (trace, spans) in traces {
        rejected += ingest::store(&instance, &trace, spans)?;
    }
    let mut response = otlp::Response::default();
    if rejected > 0 {
        let error_message =
            "spans were dropped: they are too long, or their trace has too many".to_owned();
        response.partial_success =
            Some(otlp::PartialSuccess { rejected_spans: rejected, error_message });
    }
    Ok(Reply::ok().header("content-type", PROTOBUF).bytes(response.encode_to_vec()))
}

/// The instance that sends telemetry.
pub(crate) fn sender(call: &Call<Settings>) -> Result<Instance, Problem> {
    caller::instance(&call.request, &call.settings, call.segment("instance"), Scope::TelemetryWrite)
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Gzip,
}

/// How the body of a request is encoded; 415 if it cannot be decoded.
pub(crate) fn encoding(request: &Request) -> Result<Encoding, Problem> {
    let encoding = request.header("content-encoding").unwrap_or_default().trim();
    match encoding.to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Plain),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        other => {
            let message =
                format!("Content-Encoding: {other:?} is not known here; send gzip, or nothing");
            Err(Problem::new(415, message).header("accept-encoding", "gzip"))
        }
    }
}

/// The body, decompressed if it is compressed. Reading it fails if it has more bytes than one of these limits.
pub(crate) fn inflated(body: Body, encoding: Encoding, most_sent: u64, most_inflated: u64) -> Body {
    let body = pipes::limit(body, most_sent);
    match encoding {
        Encoding::Plain => body,
        Encoding::Gzip => pipes::limit(pipes::gunzip(body), most_inflated),
    }
}

fn require_protobuf(request: &Request) -> Result<(), Problem> {
    match request.media_type() {
        Some(other) if other != PROTOBUF => {
            let message = format!("the body is {other:?}; send {PROTOBUF}");
            Err(Problem::new(415, message).header("accept", PROTOBUF))
        }
        _ => Ok(()),
    }
}

/// The spans of a request by their traces, and how many were too long.
fn read(body: &Body) -> Result<(BTreeMap<String, Vec<Span>>, i64), Problem> {
    let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    let mut kept = 0;
    let source = || body.read(64 << 10);
    let oversized = otlp::Reader::new(source).spans(&mut |sent| {
        let (trace, span) = Span::keep(sent)?;
        kept += span.size();
        traces.entry(trace).or_default().push(span);
        let message = match kept > MOST_KEPT {
            true => format!("more than {MOST_KEPT} bytes of spans at once"),
            false if traces.len() > MOST_TRACES => {
                format!("spans of more than {MOST_TRACES} traces at once")
            }
            false => return Ok(()),
        };
        Err(Problem::new(413, message))
    });
    match oversized {
        Ok(oversized) => Ok((traces, oversized)),
        Err(Problem::Failure(Failure::TooLarge(most))) => {
            Err(Problem::new(413, format!("the body has more than {most} bytes")))
        }
        Err(problem) => Err(problem),
    }
}
