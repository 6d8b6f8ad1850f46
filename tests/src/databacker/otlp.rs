//! The messages of OTLP that an exporter of traces sends, from the crate of OpenTelemetry, and attributes of spans.

pub use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
pub use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
pub use opentelemetry_proto::tonic::resource::v1::Resource;
pub use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};

/// What can be the value of an attribute.
pub trait ToValue {
    /// As it is sent.
    fn to_value(self) -> Value;
}

impl ToValue for &str {
    fn to_value(self) -> Value {
        Value::StringValue(self.to_owned())
    }
}

impl ToValue for bool {
    fn to_value(self) -> Value {
        Value::BoolValue(self)
    }
}

impl ToValue for i64 {
    fn to_value(self) -> Value {
        Value::IntValue(self)
    }
}

impl ToValue for &[String] {
    fn to_value(self) -> Value {
        let values = self.iter().map(|text| any(text.as_str())).collect();
        Value::ArrayValue(ArrayValue { values })
    }
}

fn any(value: impl ToValue) -> AnyValue {
    AnyValue { value: Some(value.to_value()) }
}

/// An attribute.
pub fn attribute(key: &str, value: impl ToValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}
