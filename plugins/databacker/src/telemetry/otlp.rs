//! OTLP traces as they come over the wire: `ExportTraceServiceRequest` in Protocol Buffers.
//!
//! The messages are those of opentelemetry-proto (`trace/v1/trace.proto`, `common/v1/common.proto`), with the official
//! field numbers and only the fields that are read here; all others are skipped. A test holds them to the official
//! crate.
//!
//! A request is read as it comes, one span at a time: only a span is ever decoded as a whole, and a value within a value
//! is skipped, so neither the length of a request nor its depth costs memory.

use keepgate_sdk::Failure;
use prost::Message as _;

use crate::problem::Problem;

/// The longest span that is decoded, in bytes. Those of the known clients have a few hundred.
pub(crate) const LARGEST_SPAN: u64 = 256 << 10;

/// `ExportTraceServiceRequest.resource_spans`
const RESOURCE_SPANS: u64 = 1;
/// `ResourceSpans.scope_spans`
const SCOPE_SPANS: u64 = 2;
/// `ScopeSpans.spans`
const SPANS: u64 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(fixed64, tag = "7")]
    pub(crate) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<Event>,
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    #[prost(fixed64, tag = "1")]
    pub(crate) time_unix_nano: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    /// 0 is unset, 1 is ok, 2 is an error.
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

/// A value, without those that are lists of keys and values, or bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Value {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Array(ArrayValue),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Element>,
}

/// An `AnyValue` in an array: what is nested deeper is skipped, so that nothing here calls itself.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Element {
    #[prost(oneof = "Scalar", tags = "1, 2, 3, 4")]
    pub(crate) value: Option<Scalar>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Scalar {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

/// `ExportTraceServiceResponse`; empty if all spans were taken.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

/// Reads a request from pieces of its body.
pub(crate) struct Reader<S> {
    /// The next piece, which is never empty; none at the end.
    source: S,
    piece: Vec<u8>,
    at: usize,
    /// How many bytes have been read.
    position: u64,
    /// How many spans were too long.
    oversized: i64,
}

impl<S: FnMut() -> Result<Option<Vec<u8>>, Failure>> Reader<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source, piece: Vec::new(), at: 0, position: 0, oversized: 0 }
    }

    /// Hands over all spans, and returns how many were too long and were skipped.
    pub(crate) fn spans(
        mut self,
        take: &mut dyn FnMut(Span) -> Result<(), Problem>,
    ) -> Result<i64, Problem> {
        self.message(None, RESOURCE_SPANS, &mut |reader, end| {
            reader.message(Some(end), SCOPE_SPANS, &mut |reader, end| {
                reader.message(Some(end), SPANS, &mut |reader, end| reader.span(end, take))
            })
        })?;
        Ok(self.oversized)
    }

    fn span(
        &mut self,
        end: u64,
        take: &mut dyn FnMut(Span) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let length = end - self.position;
        if length > LARGEST_SPAN {
            self.oversized += 1;
            return self.skip(length);
        }
        let bytes = self.take(length)?;
        let span = Span::decode(bytes.as_slice())
            .map_err(|error| malformed(format_args!("the span before byte {end}: {error}")))?;
        take(span)
    }

    /// Reads a message up to its end, or to that of the body, and calls `each` at the beginning of each field with this
    /// number, with the place where the field ends.
    fn message(
        &mut self,
        end: Option<u64>,
        wanted: u64,
        each: &mut dyn FnMut(&mut Self, u64) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        loop {
            let is_over = match end {
                Some(end) => self.position >= end,
                None => !self.fill()?,
            };
            if is_over {
                return self.ends_at(end);
            }
            let tag = self.varint()?;
            let (field, wire_type) = (tag >> 3, tag & 7);
            if field == 0 {
                return Err(malformed("there is no field 0"));
            }
            let length = match wire_type {
                0 => {
                    self.varint()?;
                    continue;
                }
                1 => 8,
                2 => self.varint()?,
                5 => 4,
                _ => return Err(malformed(format_args!("there is no type {wire_type} of fields"))),
            };
            let field_end = self.position.checked_add(length);
            let field_end = field_end.filter(|stop| end.is_none_or(|end| *stop <= end));
            let field_end =
                field_end.ok_or_else(|| malformed("a field is longer than what it is in"))?;
            match wire_type == 2 && field == wanted {
                true => {
                    each(self, field_end)?;
                    self.ends_at(Some(field_end))?;
                }
                false => self.skip(length)?,
            }
        }
    }

    fn ends_at(&self, end: Option<u64>) -> Result<(), Problem> {
        match end {
            Some(end) if end != self.position => Err(malformed("a field goes beyond its end")),
            _ => Ok(()),
        }
    }

    /// Makes sure that there is a byte, if the body has one more.
    fn fill(&mut self) -> Result<bool, Problem> {
        while self.at >= self.piece.len() {
            let Some(piece) = (self.source)()? else { return Ok(false) };
            (self.piece, self.at) = (piece, 0);
        }
        Ok(true)
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if !self.fill()? {
                return Err(malformed("it ends in the middle"));
            }
            let byte = self.piece.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            self.position += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number is too long"))
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        self.each_piece(length, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<(), Problem> {
        self.each_piece(length, |_| ())
    }

    fn each_piece(&mut self, length: u64, mut take: impl FnMut(&[u8])) -> Result<(), Problem> {
        let mut rest = length;
        while rest > 0 {
            if !self.fill()? {
                return Err(malformed("it ends in the middle"));
            }
            let there = self.piece.get(self.at..).unwrap_or_default();
            let length = usize::try_from(rest).unwrap_or(usize::MAX).min(there.len());
            take(there.get(..length).unwrap_or_default());
            self.at += length;
            self.position += length as u64;
            rest -= length as u64;
        }
        Ok(())
    }
}

/// What is said of a body that is no request.
fn malformed(why: impl std::fmt::Display) -> Problem {
    Problem::new(400, format!("the body is not an ExportTraceServiceRequest of OTLP: {why}"))
}

#[cfg(test)]
mod tests;
