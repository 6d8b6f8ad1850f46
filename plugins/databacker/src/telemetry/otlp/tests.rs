//! Our messages, held to the official ones.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::trace::v1 as official;
use proptest::prelude::*;

use super::*;

/// The spans of a body that comes in pieces of this length.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<Span>, i64), Problem> {
    let mut pieces = bytes.chunks(piece).map(<[u8]>::to_vec);
    let mut spans = Vec::new();
    let oversized = Reader::new(|| Ok(pieces.next())).spans(&mut |span| {
        spans.push(span);
        Ok(())
    })?;
    Ok((spans, oversized))
}

fn text(text: &str) -> common::AnyValue {
    common::AnyValue { value: Some(common::any_value::Value::StringValue(text.to_owned())) }
}

fn pair(key: &str, value: common::AnyValue) -> common::KeyValue {
    common::KeyValue { key: key.to_owned(), value: Some(value), ..Default::default() }
}

fn official_span(name: &str, code: i32, number: i64) -> official::Span {
    let array = common::ArrayValue { values: vec![text("a"), text("b")] };
    let array = common::AnyValue { value: Some(common::any_value::Value::ArrayValue(array)) };
    let number = common::AnyValue { value: Some(common::any_value::Value::IntValue(number)) };
    official::Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "x=y".to_owned(),
        parent_span_id: vec![3; 8],
        flags: 257,
        name: name.to_owned(),
        kind: 1,
        start_time_unix_nano: 5,
        end_time_unix_nano: u64::MAX,
        attributes: vec![pair("list", array), pair("number", number)],
        dropped_attributes_count: 1,
        events: vec![official::span::Event {
            time_unix_nano: 7,
            name: "exception".to_owned(),
            attributes: vec![pair("exception.message", text("why"))],
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![official::span::Link { trace_id: vec![4; 16], ..Default::default() }],
        dropped_links_count: 4,
        status: Some(official::Status { message: "bad".to_owned(), code }),
    }
}

fn request(spans: Vec<official::Span>) -> Vec<u8> {
    let scope = common::InstrumentationScope { name: "s".to_owned(), ..Default::default() };
    let scope_spans =
        official::ScopeSpans { scope: Some(scope), spans, schema_url: "u".to_owned() };
    let resource_spans = official::ResourceSpans {
        resource: Some(Default::default()),
        scope_spans: vec![scope_spans.clone(), official::ScopeSpans::default()],
        schema_url: "u".to_owned(),
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

#[test]
fn what_the_official_messages_say_is_read() {
    let _host = keepgate_sdk::testing::Host::new();
    let sent = official_span("dump", 2, -9);
    let bytes = request(vec![sent.clone(), official_span("upload", 0, 1)]);
    for piece in [1, 2, 7, bytes.len()] {
        let (spans, oversized) = read(&bytes, piece).unwrap();
        assert_eq!((spans.len(), oversized), (2, 0));
        let span = &spans[0];
        assert_eq!((&span.trace_id, &span.span_id), (&sent.trace_id, &sent.span_id));
        assert_eq!((&span.parent_span_id, &span.name), (&sent.parent_span_id, &sent.name));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5, u64::MAX));
        assert_eq!(span.status, Some(Status { message: "bad".to_owned(), code: 2 }));
        let string = |text: &str| Scalar::String(text.to_owned());
        let elements = ["a", "b"].map(|text| Element { value: Some(string(text)) });
        let array = Value::Array(ArrayValue { values: elements.to_vec() });
        assert_eq!(span.attributes[0].value, Some(AnyValue { value: Some(array) }));
        assert_eq!(span.attributes[1].value, Some(AnyValue { value: Some(Value::Int(-9)) }));
        assert_eq!((span.events[0].time_unix_nano, span.events[0].name.as_str()), (7, "exception"));
        assert_eq!(span.events[0].attributes[0].key, "exception.message");
    }
    assert_eq!(Response::default().encode_to_vec(), b"");
}

#[test]
fn depth_and_length_cost_nothing() {
    let _host = keepgate_sdk::testing::Host::new();
    // 20,000 lists in each other, which a decoder that calls itself would not survive. Made by hand, inside out.
    let mut nested = Vec::new();
    for _ in 0..20_000 {
        let mut outer = Vec::new();
        for tag in [1, 5] {
            outer = nested.clone();
            let mut head = Vec::new();
            prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut head);
            prost::encoding::encode_varint(outer.len() as u64, &mut head);
            outer.splice(0..0, head);
            nested.clone_from(&outer);
        }
        nested = outer;
        if nested.len() > 100_000 {
            break;
        }
    }
    let deep = AnyValue::decode(nested.as_slice()).unwrap();
    assert!(matches!(deep.value, Some(Value::Array(_))));
    let mut long = official_span("long", 0, 0);
    long.attributes = vec![pair("x", text(&"x".repeat(usize::try_from(LARGEST_SPAN).unwrap())))];
    let bytes = request(vec![long, official_span("dump", 0, 0)]);
    let (spans, oversized) = read(&bytes, 1000).unwrap();
    assert_eq!((spans.len(), spans[0].name.as_str(), oversized), (1, "dump", 1));
}

#[test]
fn what_is_no_request_is_refused() {
    let _host = keepgate_sdk::testing::Host::new();
    let whole = request(vec![official_span("dump", 0, 0)]);
    for bytes in [
        &whole[..whole.len() - 1],
        b"{\"resourceSpans\":[]}",
        // Field 0; a group; a length that is more than there is; a number that is too long.
        &[0x00, 0x00],
        &[0x0b],
        &[0x0a, 0x05, 0x00],
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        // A span that is longer than what it is in; a text that is not UTF-8.
        &[0x0a, 0x04, 0x12, 0x02, 0x12, 0x02],
        &[0x0a, 0x07, 0x12, 0x05, 0x12, 0x03, 0x2a, 0x01, 0xff],
    ] {
        let problem = read(bytes, 3).unwrap_err();
        let Problem::Failure(failure) = problem else { panic!("{problem:?}") };
        assert_eq!(failure.status(), 400, "{bytes:?}");
        assert!(failure.message().contains("ExportTraceServiceRequest"), "{}", failure.message());
    }
    assert_eq!(read(b"", 1).unwrap(), (Vec::new(), 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1..9_usize) {
        let _host = keepgate_sdk::testing::Host::new();
        let _ = read(&bytes, piece);
    }

    /// A request in which something was changed is read as the official decoder does, or refused by one of them.
    #[test]
    fn damage_is_seen_as_the_official_decoder_sees_it(
        at in 0..300_usize,
        by in 1..255_u8,
        names in prop::collection::vec("\\PC{0,9}", 1..4),
    ) {
        let _host = keepgate_sdk::testing::Host::new();
        let spans = names.iter().map(|name| official_span(name, 1, 3)).collect();
        let mut bytes = request(spans);
        let at = at % bytes.len();
        bytes[at] ^= by;
        let expected = ExportTraceServiceRequest::decode(bytes.as_slice());
        if let (Ok(expected), Ok((spans, _))) = (expected, read(&bytes, 11)) {
            let scopes = expected.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            let names: Vec<_> = scopes.flat_map(|scope| &scope.spans).map(|span| &span.name).collect();
            prop_assert_eq!(names, spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        }
    }
}
