//! Spans as they are kept: what runs are derived from and shown with, without secrets, and within bounds.
//!
//! The attributes are those of the client's conventions for traces (`backup.*`, `db.*`, `otel.*`), and whatever else a
//! span has.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use super::{mask, otlp};
use crate::problem::Problem;
use keepgate_sdk::Failure;

/// How large a record of spans gets, in bytes, unless one span is larger.
const CHUNK: usize = 64 << 10;
/// The most bytes of the attributes and events of a span.
const MOST_OF_SPAN: usize = 32 << 10;
const LONGEST_NAME: usize = 256;
const LONGEST_TEXT: usize = 4096;
/// How much of a text is looked at for secrets before it is cut.
const LONGEST_READ: usize = 64 << 10;
const MOST_ELEMENTS: usize = 1000;

/// A span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// In hex.
    pub(crate) id: String,
    /// Of the span that it is in, in hex; empty for the root.
    pub(crate) parent: String,
    pub(crate) name: String,
    /// In nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) outcome: Outcome,
    /// What the client says of the outcome.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) attributes: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<Event>,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// In nanoseconds since 1970.
    pub(crate) time: u64,
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) attributes: Map<String, Value>,
}

/// The status of a span in OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Unset,
    Ok,
    Error,
}

/// A record of spans of one trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Of its content, so that spans that come again are the same record.
    pub(crate) hash: String,
    /// The spans as JSON.
    pub(crate) bytes: Vec<u8>,
    pub(crate) spans: Vec<Span>,
}

impl Span {
    /// Takes what is kept of a span, and the trace that it is of. Fails with a 400 if it names none.
    pub(crate) fn keep(sent: otlp::Span) -> Result<(String, Self), Problem> {
        let trace = id(&sent.trace_id, 16, "traceId", &sent.name)?;
        let own = id(&sent.span_id, 8, "spanId", &sent.name)?;
        let parent = match sent.parent_span_id.iter().all(|byte| *byte == 0) {
            true => String::new(),
            false => id(&sent.parent_span_id, 8, "parentSpanId", &sent.name)?,
        };
        let mut room = MOST_OF_SPAN;
        let attributes = attributes(sent.attributes, &mut room);
        let mut events = Vec::new();
        for event in sent.events {
            let name = text(&event.name, LONGEST_NAME);
            let attributes = self::attributes(event.attributes, &mut room);
            match room.checked_sub(length(&name) + 64) {
                Some(left) => room = left,
                None => break,
            }
            events.push(Event { time: event.time_unix_nano, name, attributes });
        }
        let status = sent.status.unwrap_or_default();
        let outcome = match status.code {
            1 => Outcome::Ok,
            2 => Outcome::Error,
            _ => Outcome::Unset,
        };
        let span = Self {
            id: own,
            parent,
            name: text(&sent.name, LONGEST_NAME),
            start: sent.start_time_unix_nano,
            end: sent.end_time_unix_nano,
            outcome,
            message: text(&status.message, LONGEST_TEXT),
            attributes,
            events,
        };
        Ok((trace, span))
    }

    /// An attribute that is a text, and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// An attribute that is a number, or the text of one.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        let value = self.attributes.get(name)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let events = self.events.iter().map(|event| 64 + size(&event.attributes));
        let texts = length(&self.name) + length(&self.message);
        256 + texts + size(&self.attributes) + events.sum::<usize>()
    }
}

fn size(attributes: &Map<String, Value>) -> usize {
    attributes.iter().map(|(name, value)| weight(name, value)).sum()
}

fn weight(name: &str, value: &Value) -> usize {
    let of = |value: &Value| 8 + value.as_str().map_or(24, length);
    length(name) + value.as_array().map_or(of(value), |elements| elements.iter().map(of).sum())
}

/// How many bytes a text takes in JSON.
pub(crate) fn length(text: &str) -> usize {
    let of = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(of).sum()
}

/// An id in hex.
fn id(bytes: &[u8], length: usize, what: &str, span: &str) -> Result<String, Problem> {
    if bytes.len() != length || bytes.iter().all(|byte| *byte == 0) {
        let span = text(span, LONGEST_NAME);
        let found = hex::encode(bytes.get(..32).unwrap_or(bytes));
        let message = format!(
            "the span {span:?}: {what} is {found:?}; it has {length} bytes, not all of them 0"
        );
        return Err(Problem::new(400, message));
    }
    Ok(hex::encode(bytes))
}

/// Those attributes for which there is room, `backup.*` first.
fn attributes(sent: Vec<otlp::KeyValue>, room: &mut usize) -> Map<String, Value> {
    let (first, rest): (Vec<_>, Vec<_>) =
        sent.into_iter().partition(|pair| pair.key.starts_with("backup."));
    let mut kept = Map::new();
    for pair in first.into_iter().chain(rest) {
        let (Some(value), name) = (pair.value.and_then(value), text(&pair.key, LONGEST_NAME))
        else {
            continue;
        };
        let value = masked(&name, value);
        let Some(left) = room.checked_sub(weight(&name, &value)) else { continue };
        *room = left;
        kept.insert(name, value);
    }
    kept
}

/// A value without secrets, and not too long.
fn masked(name: &str, mut value: Value) -> Value {
    mask::value(name, &mut value);
    match value {
        Value::String(text) => cut(&text, LONGEST_TEXT).into(),
        Value::Array(elements) => elements.into_iter().map(|one| masked("", one)).collect(),
        other => other,
    }
}

/// A value as JSON; none for what is not kept.
fn value(sent: otlp::AnyValue) -> Option<Value> {
    let value = match sent.value? {
        otlp::Value::String(text) => cut_at(&text, LONGEST_READ).into(),
        otlp::Value::Bool(is) => is.into(),
        otlp::Value::Int(number) => number.into(),
        otlp::Value::Double(number) => double(number),
        otlp::Value::Array(array) => {
            let elements = array.values.into_iter().take(MOST_ELEMENTS);
            elements.filter_map(|element| element.value.map(scalar)).collect()
        }
    };
    Some(value)
}

fn scalar(sent: otlp::Scalar) -> Value {
    match sent {
        otlp::Scalar::String(text) => cut_at(&text, LONGEST_READ).into(),
        otlp::Scalar::Bool(is) => is.into(),
        otlp::Scalar::Int(number) => number.into(),
        otlp::Scalar::Double(number) => double(number),
    }
}

fn double(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

/// A text without secrets, and not too long. It is masked first, so that no secret is cut in half and stays.
fn text(sent: &str, longest: usize) -> String {
    cut(&mask::text(cut_at(sent, LONGEST_READ)), longest)
}

fn cut(text: &str, longest: usize) -> String {
    match text.len() <= longest {
        true => text.to_owned(),
        false => format!("{}…", cut_at(text, longest)),
    }
}

fn cut_at(text: &str, longest: usize) -> &str {
    text.get(..mask::floor(text, longest.min(text.len()))).unwrap_or_default()
}

/// Spans of one trace as records, in their order.
pub(crate) fn chunks(spans: Vec<Span>) -> Result<Vec<Chunk>, Failure> {
    let (mut chunks, mut current, mut length) = (Vec::new(), Vec::new(), 0);
    for span in spans {
        let size = span.size();
        if length + size > CHUNK && !current.is_empty() {
            chunks.push(chunk(std::mem::take(&mut current))?);
            length = 0;
        }
        length += size;
        current.push(span);
    }
    if !current.is_empty() {
        chunks.push(chunk(current)?);
    }
    Ok(chunks)
}

fn chunk(spans: Vec<Span>) -> Result<Chunk, Failure> {
    let bytes = keepgate_sdk::json::to_vec(&spans)?;
    Ok(Chunk { hash: hex::encode(Sha256::digest(&bytes)), bytes, spans })
}
