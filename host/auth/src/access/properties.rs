//! Properties of all `Authorization` headers. CONTRIBUTING.md explains how to run many cases.

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderValue;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/access/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

fn headers(value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

/// The name of the scheme, in any case.
fn scheme() -> impl Strategy<Value = String> {
    "[bB][aA][sS][iI][cC]"
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn encoded_credentials_are_parsed(
        scheme in scheme(),
        spaces in 1..4_usize,
        user in proptest::collection::vec(any::<u8>(), 0..12),
        password in proptest::collection::vec(any::<u8>(), 0..12),
        padded: bool,
    ) {
        // The first colon ends the name: passwords may contain colons, names may not.
        let user: Vec<u8> = user.into_iter().filter(|byte| *byte != b':').collect();
        let both = [user.as_slice(), b":", &password].concat();
        let text = if padded { STANDARD.encode(both) } else { STANDARD_NO_PAD.encode(both) };
        let value = format!("{scheme}{}{text}", " ".repeat(spaces));
        let found = basic(&headers(value.as_bytes()).unwrap());
        prop_assert_eq!(found, Some((user, password)));
    }

    #[test]
    fn other_values_are_ignored(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let Some(headers) = headers(&value) else { return Ok(()) };
        let has_scheme = value.to_ascii_lowercase().starts_with(b"basic ");
        prop_assert!(has_scheme || basic(&headers).is_none());
    }

    #[test]
    fn parsed_credentials_were_encoded(scheme in scheme(), text in "[A-Za-z0-9+/=:!_ -]{0,24}") {
        let Some(headers) = headers(format!("{scheme} {text}").as_bytes()) else { return Ok(()) };
        let Some((user, password)) = basic(&headers) else { return Ok(()) };
        prop_assert!(!user.contains(&b':'));
        let canonical = STANDARD_NO_PAD.encode([user.as_slice(), b":", &password].concat());
        prop_assert_eq!(text.trim().trim_end_matches('='), canonical);
    }
}
