//! Paths of requests, and which of them are allowed.
//!
//! A rule is compared with the decoded segments of a path. A path that a server could read in another way than it is
//! read here is refused, not normalized: dot segments, empty segments, slashes and backslashes in a segment, also
//! where they show only after a second decoding or before a `;`.

use percent_encoding::percent_decode;

/// What may be in a path beside letters and digits, RFC 3986: unreserved, sub-delims, `:`, `@`, `/`, and `%`.
const PATH: &[u8] = b"-._~!$&'()*+,;=:@/%";
/// What may be in a query beside that.
const QUERY: &[u8] = b"?[]|";

/// The decoded segments of a path.
type Segments = Vec<Vec<u8>>;

/// A prefix of paths: `/1.0` is `/1.0` itself and all below it, `/1.0/` only what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRule {
    segments: Segments,
    below: bool,
}

impl PathRule {
    /// Reads what the operator wrote.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut segments = segments(text)?;
        let below = segments.last().is_some_and(Vec::is_empty);
        if below {
            segments.pop();
        }
        Ok(Self { segments, below })
    }

    /// Whether a path is within this prefix.
    pub(crate) fn allows(&self, path: &[Vec<u8>]) -> bool {
        let longer = !self.below || path.len() > self.segments.len();
        longer && path.starts_with(&self.segments)
    }
}

/// Checks path and query of a request, and returns the decoded segments of the path.
pub(crate) fn check_target(target: &str) -> Result<Segments, String> {
    let (path, query) =
        target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if let Some(bad) = query.unwrap_or_default().chars().find(|c| !is_one_of(*c, &[PATH, QUERY])) {
        return Err(format!("the query contains {bad:?}, which has to be percent-encoded"));
    }
    segments(path)
}

fn is_one_of(c: char, more: &[&[u8]]) -> bool {
    let within = |byte: u8| more.iter().any(|more| more.contains(&byte));
    c.is_ascii_alphanumeric() || u8::try_from(c).is_ok_and(within)
}

/// The decoded segments of an unambiguous path.
fn segments(path: &str) -> Result<Segments, String> {
    let rest = path.strip_prefix('/').ok_or("a path has to begin with `/`")?;
    if let Some(bad) = path.chars().find(|c| !is_one_of(*c, &[PATH])) {
        return Err(format!("the path contains {bad:?}, which has to be percent-encoded"));
    }
    let mut segments: Segments = Vec::new();
    for segment in rest.split('/') {
        // Only the last may be empty: `/a/` is not `/a`.
        if segments.last().is_some_and(Vec::is_empty) {
            return Err("the path contains an empty segment".to_owned());
        }
        segments.push(decoded(segment)?);
    }
    Ok(segments)
}

/// Decodes a segment once, and refuses it if anything in it is special at any depth of decoding.
fn decoded(segment: &str) -> Result<Vec<u8>, String> {
    if !has_whole_escapes(segment.as_bytes()) {
        return Err("the path contains `%` without two hexadecimal digits".to_owned());
    }
    let once: Vec<u8> = percent_decode(segment.as_bytes()).collect();
    let mut deeper = once.clone();
    loop {
        let name = deeper.split(|byte| *byte == b';').next().unwrap_or_default();
        if matches!(name, b"." | b"..") {
            return Err("the path contains a segment `.` or `..`".to_owned());
        }
        if deeper.iter().any(|byte| matches!(byte, b'/' | b'\\') || byte.is_ascii_control()) {
            let what = "the path contains a slash, a backslash or a control character in a segment";
            return Err(what.to_owned());
        }
        let next: Vec<u8> = percent_decode(&deeper).collect();
        if next == deeper {
            return Ok(once);
        }
        deeper = next;
    }
}

fn has_whole_escapes(segment: &[u8]) -> bool {
    let is_hex = |at: usize| segment.get(at).is_some_and(u8::is_ascii_hexdigit);
    let escapes = segment.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    escapes.into_iter().all(|(at, _)| is_hex(at + 1) && is_hex(at + 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_is_whole_segments() {
        for (rule, path, allowed) in [
            ("/", "/", true),
            ("/", "/x", true),
            ("/1.0", "/1.0", true),
            ("/1.0", "/1.0/", true),
            ("/1.0", "/1.0/x", true),
            ("/1.0", "/1%2e0/x", true),
            ("/1.0", "/1.0x", false),
            ("/1.0", "/1", false),
            ("/1.0", "/", false),
            ("/1.0", "/X/1.0", false),
            ("/1.0/", "/1.0", false),
            ("/1.0/", "/1.0/", true),
            ("/1.0/", "/1.0/x/y?z=/../", true),
            ("/a%20b", "/a%20b/c", true),
            ("/a", "/A", false),
        ] {
            let path = check_target(path).unwrap();
            assert_eq!(PathRule::parse(rule).unwrap().allows(&path), allowed, "{rule} {path:?}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_refused() {
        for path in [
            "",
            "x",
            "?x",
            "//",
            "/a//b",
            "//a",
            "/a/./b",
            "/a/../b",
            "/..",
            "/.",
            "/%2e",
            "/%2E%2e",
            "/.%2e/x",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/%00",
            "/a%0ab",
            "/%252e%252e",
            "/%25252e",
            "/a%252fb",
            "/..;x=y/z",
            "/%2e%2e;/z",
            "/..%3b/z",
            "/%",
            "/%4",
            "/%zz",
            "/a b",
            "/é",
            "/a#b",
            "/a\u{0}",
            "/a?b#c",
            "/a?b c",
            "/\"",
        ] {
            assert!(check_target(path).is_err(), "{path:?} is accepted");
        }
        for path in [
            "/...",
            "/a..b",
            "/..a",
            "/a;b",
            "/100%25",
            "/%C3%A9",
            "/u2/backups?project=p&x=%2F..",
            "/a?",
        ] {
            assert!(check_target(path).is_ok(), "{path:?} is refused");
        }
    }

    /// What a server could make of a path that decodes it `times` times and then resolves dots.
    fn resolved(path: &str, times: usize) -> String {
        let mut text = path.as_bytes().to_vec();
        for _ in 0..times {
            text = percent_decode(&text).collect();
        }
        let text = String::from_utf8_lossy(&text).replace('\\', "/");
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part.split(';').next() {
                Some("..") => drop(parts.pop()),
                Some("." | "") => {}
                _ => parts.push(part),
            }
        }
        format!("/{}/", parts.join("/"))
    }

    proptest! {
        /// However often a server decodes, what is allowed stays below the prefix.
        #[test]
        fn no_path_leads_out_of_its_prefix(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("/"), Just("."), Just(".."), Just("%2e"), Just("%252E"), Just("%2f"), Just("%5c"), Just("\\"),
                    Just("a"), Just("ab"), Just("%61"), Just(";"), Just("%3b"), Just("%"), Just("25"), Just("%25"),
                    Just("2f"), Just("?"),
                ],
                0..10,
            ),
            rule in prop_oneof![Just("/a"), Just("/a/"), Just("/a/ab"), Just("/")],
        ) {
            let target = format!("/{}", parts.concat());
            if let Ok(path) = check_target(&target) {
                let path_only = target.split('?').next().unwrap();
                let simple = {
                    let decoded = percent_decode(path_only.as_bytes()).decode_utf8_lossy();
                    let (mut decoded, mut rule) = (decoded.into_owned(), rule.to_owned());
                    if !rule.ends_with('/') {
                        decoded.push('/');
                        rule.push('/');
                    }
                    decoded.starts_with(&rule)
                };
                let allowed = PathRule::parse(rule).unwrap().allows(&path);
                prop_assert_eq!(allowed, simple, "{} {}", rule, target);
                if allowed {
                    for times in 1..4 {
                        let there = resolved(path_only, times);
                        let root = format!("{}/", rule.trim_end_matches('/'));
                        prop_assert!(there.starts_with(&root), "{} {} {}", rule, target, there);
                    }
                }
            }
        }
    }
}
