//! Which requests a limit is about: methods, and patterns of paths below the mount.

use std::borrow::Cow;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use http::Method;

use super::RateLimitError;

/// Stands for a slash within a segment: `*` matches it, as it does any character that is no separator.
const SLASH: &str = "\0";

/// Methods and paths; every one if there is no list.
#[derive(Debug)]
pub(super) struct Filter {
    methods: Option<Vec<Method>>,
    paths: Option<GlobSet>,
}

impl Filter {
    pub(super) fn new(
        methods: Option<&[String]>,
        paths: Option<&[String]>,
    ) -> Result<Self, RateLimitError> {
        let methods = methods.map(|methods| methods.iter().map(|text| method(text)).collect());
        Ok(Self { methods: methods.transpose()?, paths: paths.map(globs).transpose()? })
    }

    /// Whether a request is meant; `path` are the decoded segments below the mount.
    pub(super) fn is_match(&self, method: &Method, path: &[String]) -> bool {
        let method = self.methods.as_ref().is_none_or(|methods| methods.contains(method));
        method && self.paths.as_ref().is_none_or(|globs| globs.is_match(joined(path)))
    }
}

/// A path as patterns see it. Empty segments are left out, so that `//` does not lead around a limit, and a slash within
/// a segment does not divide it.
fn joined(path: &[String]) -> String {
    let mut joined = String::new();
    for segment in path.iter().filter(|segment| !segment.is_empty()) {
        joined.push('/');
        let segment = match segment.contains('/') {
            true => Cow::Owned(segment.replace('/', SLASH)),
            false => Cow::Borrowed(segment.as_str()),
        };
        joined.push_str(&segment);
    }
    if joined.is_empty() { "/".to_owned() } else { joined }
}

/// A method as requests have it.
pub(super) fn method(text: &str) -> Result<Method, RateLimitError> {
    let upper = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| upper);
    method.ok_or_else(|| RateLimitError::Method(text.to_owned()))
}

/// A pattern of a path below a mount.
pub(super) fn glob(pattern: &str) -> Result<Glob, RateLimitError> {
    let wrong =
        |why: &str| RateLimitError::Path { pattern: pattern.to_owned(), why: why.to_owned() };
    if !pattern.starts_with('/') {
        return Err(wrong("write a path below the mount that begins with /, such as /config/*"));
    }
    if pattern.len() > 1 && pattern.ends_with('/') {
        return Err(wrong("remove the slash at its end, with which requests match too"));
    }
    if pattern.contains("//") {
        return Err(wrong("remove the empty segment, which never matches"));
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map_err(|error| wrong(&error.to_string()))
}

fn globs(patterns: &[String]) -> Result<GlobSet, RateLimitError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    let wrong = |error: globset::Error| RateLimitError::Path {
        pattern: patterns.join(", "),
        why: error.to_string(),
    };
    set.build().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_compared_with_decoded_segments() {
        for (pattern, path, expected) in [
            ("/config/*", &["config", "a"][..], true),
            ("/config/*", &["config"], false),
            ("/config/*", &["config", "a", "b"], false),
            ("/config/**", &["config", "a", "b"], true),
            ("/**/locks/*", &["locks", "a"], true),
            ("/**/locks/*", &["r", "s", "locks", "a"], true),
            ("/c?nfig/{a,b}", &["config", "b"], true),
            ("/Config", &["config"], false),
            ("/", &[], true),
            ("/", &["a"], false),
            ("/*", &["a"], true),
            ("/**", &["a", "b"], true),
            // Neither leads around a limit.
            ("/config/*", &["", "config", "", "a", ""], true),
            ("/config/*", &["config", "a/b"], true),
            ("/config/a/b", &["config", "a/b"], false),
        ] {
            let patterns = [pattern.to_owned()];
            let path: Vec<String> = path.iter().map(|&segment| segment.to_owned()).collect();
            let filter = Filter::new(None, Some(&patterns)).unwrap();
            assert_eq!(filter.is_match(&Method::GET, &path), expected, "{pattern} {path:?}");
        }
    }

    #[test]
    fn without_lists_every_request_is_meant() {
        let all = Filter::new(None, None).unwrap();
        assert!(all.is_match(&Method::from_bytes(b"BREW").unwrap(), &["pot".to_owned()]));
        let methods = ["GET".to_owned(), "HEAD".to_owned()];
        let some = Filter::new(Some(&methods), None).unwrap();
        assert!(some.is_match(&Method::HEAD, &[]) && !some.is_match(&Method::PUT, &[]));
    }
}
