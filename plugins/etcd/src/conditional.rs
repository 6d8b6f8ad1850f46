//! Conditions and ranges of a GET, in the order of RFC 9110, 13.2.2.

use std::time::{Duration, SystemTime};

use keepgate_sdk::range::Range;
use keepgate_sdk::{Part, Request};

/// What tells one state of a file from another.
#[derive(Debug)]
pub(crate) struct Validators {
    /// With its quotes; never weak.
    pub(crate) etag: String,
    /// To the second, as HTTP's dates are.
    modified: SystemTime,
}

/// What a request wants to have.
#[derive(Debug)]
pub(crate) enum Wanted {
    Bytes(Part),
    /// 304: the client has it.
    NotModified,
    /// 412: the client meant another state of it.
    Other,
    /// 416.
    NoSuchRange,
}

impl Validators {
    /// `modified` in nanoseconds since the Unix epoch.
    pub(crate) fn new(etag: &str, modified: u64) -> Self {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified / 1_000_000_000);
        Self { etag: format!("\"{etag}\""), modified }
    }

    pub(crate) fn last_modified(&self) -> String {
        httpdate::fmt_http_date(self.modified)
    }

    /// What of the file a GET or HEAD wants.
    pub(crate) fn wanted(&self, request: &Request, is_head: bool) -> Wanted {
        let date =
            |name| request.header(name).and_then(|text| httpdate::parse_http_date(text).ok());
        match (request.header("if-match"), date("if-unmodified-since")) {
            (Some(tags), _) if !self.is_among(tags, Compared::Strongly) => return Wanted::Other,
            (None, Some(date)) if self.modified > date => return Wanted::Other,
            _ => {}
        }
        match (request.header("if-none-match"), date("if-modified-since")) {
            (Some(tags), _) if self.is_among(tags, Compared::Weakly) => return Wanted::NotModified,
            (None, Some(date)) if self.modified <= date => return Wanted::NotModified,
            _ => {}
        }
        if is_head || !request.header("if-range").is_none_or(|validator| self.is_this(validator)) {
            return Wanted::Bytes(Part::Whole);
        }
        // A server that does not know a unit takes the header for absent.
        let range = request.header("range").filter(|range| range.trim().starts_with("bytes"));
        match Range::parse(range) {
            Range::Whole => Wanted::Bytes(Part::Whole),
            Range::Part(part) => Wanted::Bytes(part),
            Range::Malformed => Wanted::NoSuchRange,
        }
    }

    /// `If-Range` holds an entity tag or a date.
    fn is_this(&self, validator: &str) -> bool {
        let validator = validator.trim();
        validator == self.etag
            || httpdate::parse_http_date(validator).is_ok_and(|date| date == self.modified)
    }

    fn is_among(&self, tags: &str, compared: Compared) -> bool {
        tags.split(',').map(str::trim).any(|tag| {
            let tag = match compared {
                Compared::Strongly => tag,
                Compared::Weakly => tag.strip_prefix("W/").unwrap_or(tag),
            };
            tag == "*" || tag == self.etag
        })
    }
}

/// Whether a weak tag counts as the same.
#[derive(Clone, Copy)]
enum Compared {
    Strongly,
    Weakly,
}
