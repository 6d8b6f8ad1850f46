//! Properties of all request paths: a second, simpler decoder must agree with the real one.
//! CONTRIBUTING.md explains how to run many cases.

use http::Uri;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/target/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// Pieces that matter for paths, more often than random text has them.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("/".to_owned()),
        2 => Just("%2f".to_owned()),
        1 => Just("%2F".to_owned()),
        1 => Just("..".to_owned()),
        1 => Just("%2e".to_owned()),
        1 => Just("%00".to_owned()),
        1 => Just("%25".to_owned()),
        1 => Just("%".to_owned()),
        1 => Just("?".to_owned()),
        1 => Just("é".to_owned()),
        2 => any::<u8>().prop_map(|byte| format!("%{byte:02x}")),
        2 => any::<char>().prop_map(|character| escape(&character.to_string())),
        2 => "[ -~]",
        4 => "[a-z0-9._~+-]{1,4}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(piece(), 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Escapes every byte but letters and digits, so that the result is unambiguous.
fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn build(segments: &[String], trailing_slash: bool) -> String {
    let mut path: String = segments.iter().map(|segment| format!("/{}", escape(segment))).collect();
    if trailing_slash {
        path.push('/');
    }
    path
}

/// Decodes one segment byte by byte; `None` for an invalid escape.
fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    match raw {
        [] => Some(Vec::new()),
        [b'%', high, low, rest @ ..] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let byte = u8::try_from(digit(high)? * 16 + digit(low)?).unwrap();
            Some([vec![byte], decode(rest)?].concat())
        }
        [b'%', ..] => None,
        [byte, rest @ ..] => Some([vec![*byte], decode(rest)?].concat()),
    }
}

fn parse(path: &str) -> Option<Result<Target, TargetError>> {
    Some(Target::parse(&path.parse::<Uri>().ok()?))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn encoded_segments_decode_to_the_original(
        mut segments in proptest::collection::vec("(?s).{0,6}", 0..6),
        trailing_slash: bool,
    ) {
        // Without a trailing slash, the last segment must not be empty.
        if !trailing_slash && segments.last().is_none_or(String::is_empty) {
            segments.push("x".to_owned());
        }
        let path = build(&segments, trailing_slash);
        let target = parse(&path).unwrap().unwrap();
        prop_assert_eq!(&target.segments, &segments, "{}", path);
        prop_assert_eq!(target.trailing_slash, trailing_slash);
    }

    #[test]
    fn decoding_agrees_with_a_simple_decoder(path in path()) {
        let Some(found) = parse(&path) else { return Ok(()) };
        let uri: Uri = path.parse().unwrap();
        let raw = uri.path().strip_prefix('/').unwrap();
        let mut raws: Vec<&str> = raw.split('/').collect();
        let trailing_slash = raws.last() == Some(&"");
        if trailing_slash {
            raws.pop();
        }
        let decoded: Vec<_> = raws.iter().map(|raw| decode(raw.as_bytes())).collect();
        match found {
            Ok(target) => {
                prop_assert_eq!(target.trailing_slash, trailing_slash);
                let bytes = target.segments.iter().map(|one| Some(one.as_bytes().to_vec()));
                prop_assert_eq!(bytes.collect::<Vec<_>>(), decoded);
                // Encoding and decoding again changes nothing.
                let again = build(&target.segments, target.trailing_slash);
                prop_assert_eq!(parse(&again).unwrap(), Ok(target));
            }
            Err(TargetError::Escape) => prop_assert!(decoded.iter().any(Option::is_none)),
            Err(TargetError::NotUtf8) => {
                let is_text = |bytes: &Option<Vec<u8>>| {
                    bytes.as_ref().is_none_or(|bytes| std::str::from_utf8(bytes).is_ok())
                };
                prop_assert!(!decoded.iter().all(is_text));
            }
            Err(TargetError::NotAPath) => prop_assert!(false, "{} starts with a slash", path),
        }
    }

    #[test]
    fn slashes_within_segments_were_encoded(path in path()) {
        let Some(Ok(target)) = parse(&path) else { return Ok(()) };
        let uri: Uri = path.parse().unwrap();
        let raws = uri.path().split('/').skip(1);
        for (segment, raw) in target.segments.iter().zip(raws) {
            let encoded = raw.to_ascii_lowercase().matches("%2f").count();
            prop_assert_eq!(segment.matches('/').count(), encoded, "{}", raw);
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(uri) = Uri::try_from(bytes) {
            let _ = Target::parse(&uri);
            let _ = query(&uri);
        }
    }

    #[test]
    fn encoded_queries_decode_to_the_original(
        pairs in proptest::collection::vec(("(?s).{0,6}", "(?s).{0,6}"), 0..5),
    ) {
        let write = |(name, value): &(String, String)| format!("{}={}", escape(name), escape(value));
        let written: Vec<String> = pairs.iter().map(write).collect();
        let uri: Uri = format!("/x?{}", written.join("&")).parse().unwrap();
        prop_assert_eq!(query(&uri), pairs);
    }
}
