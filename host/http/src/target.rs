//! The path and query of a request, decoded. Nothing is normalised here: segments such as `..` and
//! encoded slashes reach the handler unchanged, because each surface treats them differently and every
//! store refuses such keys.

use std::borrow::Cow;

use http::Uri;
use keepgate_store::Fields;

/// A request's decoded path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Split at `/`, then decoded; without the empty one after a trailing slash.
    pub(crate) segments: Vec<String>,
    /// Whether the path ended with `/`.
    pub(crate) trailing_slash: bool,
}

/// Why a target is invalid; the text is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// `*`, or the authority of CONNECT.
    #[error("the request target is not a path")]
    NotAPath,
    /// Such as `%4` or `%zz`.
    #[error("the path has a percent sign that is not followed by two hex digits")]
    Escape,
    /// Bytes that are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
}

impl Target {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, TargetError> {
        // For `http://host/path` this is only the path, or `/` if it is empty.
        let path = uri.path().strip_prefix('/').ok_or(TargetError::NotAPath)?;
        let (path, trailing_slash) = match path.strip_suffix('/') {
            Some(path) => (Some(path), true),
            None if path.is_empty() => (None, true),
            None => (Some(path), false),
        };
        let segments = match path {
            Some(path) => path.split('/').map(segment).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok(Self { segments, trailing_slash })
    }

    /// The segments of a path that does not parse, as far as they do: to find which mount a client means. `..` and
    /// encoded slashes stay what they are here, too.
    pub(crate) fn approximate(uri: &Uri) -> Vec<String> {
        let decoded = |raw| percent_encoding::percent_decode_str(raw).decode_utf8_lossy();
        let path = uri.path().strip_prefix('/').unwrap_or_default();
        path.split('/').map(|raw| decoded(raw).into_owned()).collect()
    }
}

fn segment(raw: &str) -> Result<String, TargetError> {
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(is_hex(bytes.next()) && is_hex(bytes.next())) {
            return Err(TargetError::Escape);
        }
    }
    let decoded = percent_encoding::percent_decode_str(raw).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| TargetError::NotUtf8)
}

/// The pairs of a query, decoded like a form: `+` is a space, and invalid UTF-8 becomes U+FFFD.
pub(crate) fn query(uri: &Uri) -> Fields {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<(Vec<String>, bool), TargetError> {
        Target::parse(&uri.parse().unwrap()).map(|target| (target.segments, target.trailing_slash))
    }

    fn good(uri: &str, segments: &[&str], trailing_slash: bool) {
        let expected = segments.iter().map(|&segment| segment.to_owned()).collect();
        assert_eq!(parse(uri), Ok((expected, trailing_slash)), "{uri}");
    }

    #[test]
    fn splits_before_decoding() {
        good("/", &[], true);
        good("/a", &["a"], false);
        good("/a/", &["a"], true);
        good("/a/b", &["a", "b"], false);
        good("/a%2Fb/c", &["a/b", "c"], false);
        good("/%72estic", &["restic"], false);
        good("/a%00b", &["a\0b"], false);
        good("/%C3%A9", &["é"], false);
    }

    #[test]
    fn normalises_nothing() {
        good("/a/../b/./c", &["a", "..", "b", ".", "c"], false);
        good("/%2e%2e/%2E", &["..", "."], false);
        good("//", &[""], true);
        good("//a", &["", "a"], false);
        good("/a//", &["a", ""], true);
        good("/a+b", &["a+b"], false);
    }

    #[test]
    fn uses_the_path_of_an_absolute_target() {
        good("http://other.example:80/a/b", &["a", "b"], false);
        good("http://other.example", &[], true);
    }

    #[test]
    fn refuses_invalid_encodings() {
        for uri in ["/%", "/%4", "/a%zz", "/a/%2", "/%%41", "/%+1"] {
            assert_eq!(parse(uri), Err(TargetError::Escape), "{uri}");
        }
        for uri in ["/%ff", "/a/%C3", "/%C0%AF"] {
            assert_eq!(parse(uri), Err(TargetError::NotUtf8), "{uri}");
        }
        assert_eq!(parse("*"), Err(TargetError::NotAPath));
        assert_eq!(parse("host.example:443"), Err(TargetError::NotAPath));
    }

    #[test]
    fn decodes_queries_as_forms() {
        let pairs = query(&"/x?a=1&b=+%2B%26&flag&a=2&%C3%A9=%ff".parse().unwrap());
        let expected = [("a", "1"), ("b", " +&"), ("flag", ""), ("a", "2"), ("é", "\u{fffd}")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(query(&"/x".parse().unwrap()).is_empty());
    }
}
