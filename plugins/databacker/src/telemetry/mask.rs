//! Secrets in telemetry are masked when it is received, before anything is stored: what is no longer there cannot leak.
//!
//! Masked are user info in URLs and data source names, keys of AWS, private keys in PEM, bearer tokens, and what is
//! assigned to a name such as `password`, `secret` or `token`. Each rule looks at the text once.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

/// What takes the place of a secret.
pub(crate) const MASK: &str = "***";

/// What names of secrets contain, in lower case and without `-` and `_`.
const SECRET_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "signature",
    "authorization",
];
/// What an access key id of AWS begins with.
const ACCESS_KEYS: [&str; 4] = ["AKIA", "ASIA", "ABIA", "ACCA"];
/// The length of a secret access key of AWS.
const SECRET_KEY: usize = 40;

/// The text without secrets.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let mut found = Vec::new();
    user_info(text, &mut found);
    data_source_names(text, &mut found);
    keys(text, &mut found);
    assigned(text, &mut found);
    private_keys(text, &mut found);
    found.retain(|range| !range.is_empty());
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_by_key(|range| range.start);
    let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
    for range in found {
        if range.start >= done {
            masked.push_str(text.get(done..range.start).unwrap_or_default());
            masked.push_str(MASK);
        }
        done = done.max(range.end);
    }
    masked.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Masks the texts in a value, and all of it if it has the name of a secret.
pub(crate) fn value(name: &str, value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                self::value(name, member);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                self::value(name, element);
            }
        }
        other if is_secret(name) => *other = MASK.into(),
        Value::String(own) => {
            if let Cow::Owned(masked) = text(own) {
                *own = masked;
            }
        }
        Value::Number(_) => {}
    }
}

/// Whether a name is that of a secret.
fn is_secret(name: &str) -> bool {
    let plain = |byte: &u8| !matches!(byte, b'-' | b'_' | b'.' | b' ');
    let plain: Vec<u8> = name.bytes().filter(plain).map(|byte| byte.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|known| plain.windows(known.len()).any(|part| part == known.as_bytes()))
}

/// `scheme://USER:PASSWORD@host`, also if somebody has written a slash into the password.
fn user_info(text: &str, found: &mut Vec<Range<usize>>) {
    // Of the word that the URL is in, which may be one with many: where it ends, and its last `@`.
    let (mut end, mut last) = (0, None);
    for (at, _) in text.match_indices("://") {
        let from = at + 3;
        if from > end {
            let word = until(text, from, |c| c.is_whitespace() || "\"'`<>\\".contains(c));
            (end, last) = (from + word.len(), word.rfind('@').map(|at| from + at));
        }
        let url = text.get(from..end).unwrap_or_default();
        let authority = until(url, 0, |c| "/?#".contains(c));
        if let Some(user) = authority.rfind('@') {
            found.push(from..from + user);
            continue;
        }
        // `s3://KEY:SECRET/WITH/SLASHES@host`, but not `https://host:8080/a@b`.
        let Some((_, port)) = authority.split_once(':') else { continue };
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(last) =
            last.filter(|last| *last > from && !is_port && !authority.starts_with('['))
        {
            found.push(from..last);
        }
    }
}

/// `USER:PASSWORD@tcp(host)/database`, as drivers of MySQL write it.
fn data_source_names(text: &str, found: &mut Vec<Range<usize>>) {
    for mark in ["@tcp(", "@unix("] {
        let mut done = 0;
        for (end, _) in text.match_indices(mark) {
            let before = text.get(done..end).unwrap_or_default();
            let word = before.rsplit(|c: char| c.is_whitespace() || "\"'`<>".contains(c)).next();
            found.push(end - word.map_or(0, str::len)..end);
            done = end + mark.len();
        }
    }
}

/// Access keys of AWS and their secrets: 20 capitals and digits with a known beginning, and 40 characters of base64.
fn keys(text: &str, found: &mut Vec<Range<usize>>) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let bytes = text.as_bytes();
    let mut from = 0;
    while from < bytes.len() {
        let run = bytes.get(from..).unwrap_or_default();
        let length = run.iter().take_while(|byte| is_part(**byte)).count();
        if length == 0 {
            from += 1;
            continue;
        }
        let run = text.get(from..from + length).unwrap_or_default();
        if length == SECRET_KEY && is_random(run) {
            found.push(from..from + length);
        }
        let mut at = from;
        for word in run.split(['/', '+']) {
            let is_key = word.len() == 20
                && ACCESS_KEYS.iter().any(|begin| word.starts_with(begin))
                && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            if is_key {
                found.push(at..at + word.len());
            }
            at += word.len() + 1;
        }
        from += length;
    }
}

/// Whether capitals, small letters and digits are as mixed as in a key; a hash in hex and most paths are not.
fn is_random(text: &str) -> bool {
    let count = |is: fn(&u8) -> bool| text.bytes().filter(is).count();
    count(u8::is_ascii_uppercase) >= 4
        && count(u8::is_ascii_lowercase) >= 4
        && count(u8::is_ascii_digit) >= 1
        && count(|byte| *byte == b'/') <= 4
}

/// `password=SECRET`, `"token": "SECRET"`, `Authorization: Bearer SECRET`.
fn assigned(text: &str, found: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (at, _) in text.match_indices(['=', ':']) {
        if at < done {
            continue;
        }
        let before = text.get(..at).unwrap_or_default().trim_end_matches([' ', '"', '\'', '\\']);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = before.trim_end_matches(is_name).len();
        let name = before.get(name.max(floor(before, before.len().saturating_sub(64)))..);
        if !name.is_some_and(is_secret) {
            continue;
        }
        let after = text.get(at + 1..).unwrap_or_default();
        let mut from = at + 1 + (after.len() - after.trim_start_matches([' ', '\\']).len());
        let rest = text.get(from..).unwrap_or_default();
        let quote = rest.chars().next().filter(|c| "\"'`".contains(*c));
        from += usize::from(quote.is_some());
        for scheme in ["bearer ", "basic "] {
            let begin = text.get(from..from + scheme.len()).unwrap_or_default();
            if begin.eq_ignore_ascii_case(scheme) {
                from += scheme.len();
            }
        }
        let secret = match quote {
            Some(quote) => until(text, from, |c| c == quote),
            None => until(text, from, |c| c.is_whitespace() || "&;,\"'`)]}<>".contains(c)),
        };
        let secret = secret.strip_suffix('\\').unwrap_or(secret);
        // "Access denied for user … (using password: YES)"
        if !["yes", "no", "true", "false"].iter().any(|word| secret.eq_ignore_ascii_case(word)) {
            found.push(from..from + secret.len());
            done = from + secret.len();
        }
    }
    for (at, scheme) in text.match_indices("Bearer ") {
        let from = at + scheme.len();
        let token = until(text, from, |c| !c.is_ascii_alphanumeric() && !"-._~+/=".contains(c));
        if token.len() >= 16 {
            found.push(from..from + token.len());
        }
    }
}

/// From the first to the last line of a private key in PEM.
fn private_keys(text: &str, found: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (at, mark) in text.match_indices("PRIVATE KEY-----") {
        if at < done {
            continue;
        }
        let near = floor(text, at.saturating_sub(64));
        let before = text.get(near..at).unwrap_or_default();
        let Some(from) = before.rfind("-----BEGIN ").map(|begin| near + begin) else { continue };
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let length = rest.find(mark).map_or(rest.len(), |end| end + mark.len());
        done = at + mark.len() + length;
        found.push(from..done);
    }
}

/// The text from here to the first character of a kind, or to its end.
fn until(text: &str, from: usize, ends: impl FnMut(char) -> bool) -> &str {
    let rest = text.get(from..).unwrap_or_default();
    let end = rest.find(ends).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// The nearest boundary of a character at or before this place.
pub(crate) fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Not a key of anybody: it is made of pieces, so that no scanner of sources takes it for one.
    fn aws_secret() -> String {
        format!("{}{}", "wJalrXUtnFEMI/K7MDENG", "/bPxRfiCYEXAMPLEKEY")
    }

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        let (secret, key) = (aws_secret(), format!("AKIA{}", "IOSFODNN7EXAMPLE"));
        assert_eq!(secret.len(), SECRET_KEY);
        for (given, expected) in [
            ("s3://user:pw@bucket/path".to_owned(), "s3://***@bucket/path"),
            (
                "push to smb://user@host/share failed".to_owned(),
                "push to smb://***@host/share failed",
            ),
            (format!("s3://{key}:{secret}@bucket/p"), "s3://***@bucket/p"),
            ("https://host:8080/a@b".to_owned(), "https://host:8080/a@b"),
            ("https://[::1]:80/a@b".to_owned(), "https://[::1]:80/a@b"),
            ("file:///var/lib/a".to_owned(), "file:///var/lib/a"),
            ("dial root:p@ss:w@tcp(db:3306)/x".to_owned(), "dial ***@tcp(db:3306)/x"),
            (format!("key {key}."), "key ***."),
            (format!("{secret} is out"), "*** is out"),
            (
                "da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned(),
                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            ),
            ("?a=1&password=x%20y&b=2".to_owned(), "?a=1&password=***&b=2"),
            (
                "X-Amz-Signature=abc&X-Amz-Security-Token=d".to_owned(),
                "X-Amz-Signature=***&X-Amz-Security-Token=***",
            ),
            (r#"{"token": "a b", "n": 1}"#.to_owned(), r#"{"token": "***", "n": 1}"#),
            (r#"{\"secretAccessKey\":\"a\"}"#.to_owned(), r#"{\"secretAccessKey\":\"***\"}"#),
            ("Authorization: Bearer abc.def".to_owned(), "Authorization: Bearer ***"),
            ("sent Bearer abcdefghijklmnop.q".to_owned(), "sent Bearer ***"),
            (
                "Access denied for user 'a'@'b' (using password: YES)".to_owned(),
                "Access denied for user 'a'@'b' (using password: YES)",
            ),
            (
                "k -----BEGIN EC PRIVATE KEY-----\nAA\n-----END EC PRIVATE KEY----- e".to_owned(),
                "k *** e",
            ),
            ("-----BEGIN PRIVATE KEY-----\nAA".to_owned(), "***"),
            ("--password=x".to_owned(), "--password=***"),
            ("password=".to_owned(), "password="),
            (
                "2026-01-31T00:00:00Z dump of db_backup done".to_owned(),
                "2026-01-31T00:00:00Z dump of db_backup done",
            ),
        ] {
            assert_eq!(text(&given), expected, "{given}");
        }
    }

    #[test]
    fn a_value_with_the_name_of_a_secret_is_masked_as_a_whole() {
        let mut given = serde_json::json!({
            "db.password": "x", "AccessKey": 7, "tokens": ["a", "b"], "n": 1, "deep": {"url": "a://b:c@d"},
            "secret": {"a": "b"}, "password": true,
        });
        value("", &mut given);
        let expected = serde_json::json!({
            "db.password": "***", "AccessKey": "***", "tokens": ["***", "***"], "n": 1,
            "deep": {"url": "a://***@d"}, "secret": {"a": "b"}, "password": true,
        });
        assert_eq!(given, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_masked(given in "(\\PC|://|@|=|password|\"|\\\\|:| |@tcp\\(){0,40}") {
            let masked = text(&given);
            prop_assert!(masked.contains(MASK) || masked == given);
        }

        #[test]
        fn what_is_assigned_to_a_password_is_gone(secret in "[a-zA-Z0-9]{9,30}", before in "\\PC{0,9}") {
            let masked = text(&format!("{before} password={secret}")).into_owned();
            prop_assert!(!masked.contains(&secret), "{}", masked);
        }
    }
}
