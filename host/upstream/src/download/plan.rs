//! How to ask for the rest of a response, and whether what comes is the rest.

use http::header::{
    ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Method, Response, StatusCode};
use http_body::Body;

use crate::client::Head;

/// How to ask for the rest.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The request, for all of it.
    head: Head,
    /// Where in the resource the first byte of the body is, and its last.
    first: u64,
    last: u64,
    /// The length of the resource, if it is known.
    total: Option<u64>,
    /// Names the version of the resource, if the upstream has a name for it.
    validator: Option<HeaderValue>,
    etag: Option<HeaderValue>,
}

impl Plan {
    /// None if the rest of this response cannot be had with certainty. `unchanging`: the plugin says that the resource
    /// does not change.
    pub(crate) fn new<B: Body>(
        head: &Head,
        response: &Response<B>,
        unchanging: bool,
    ) -> Option<Self> {
        let headers = response.headers();
        let length = response.body().size_hint().exact().filter(|length| *length > 0)?;
        let accepts = headers.get(ACCEPT_RANGES).is_none_or(|accepts| accepts != "none");
        if head.method != Method::GET || !accepts {
            return None;
        }
        let (first, last, total) = match response.status() {
            StatusCode::OK => (0, length - 1, Some(length)),
            StatusCode::PARTIAL_CONTENT => content_range(headers)?,
            _ => return None,
        };
        if last.checked_sub(first)?.checked_add(1)? != length {
            return None;
        }
        let etag = headers.get(ETAG).cloned();
        let strong = etag.clone().filter(|etag| etag.as_bytes().starts_with(b"\""));
        let validator = strong.or_else(|| headers.get(LAST_MODIFIED).cloned());
        if validator.is_none() && !unchanging {
            return None;
        }
        // Credentials are read again.
        Some(Self { head: head.clone(), first, last, total, validator, etag })
    }

    /// The request for what comes after these bytes.
    pub(crate) fn rest(&self, got: u64) -> Head {
        let mut head = self.head.clone();
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE] {
            head.headers.remove(name);
        }
        let range = format!("bytes={}-{}", self.first.saturating_add(got), self.last);
        if let Ok(range) = HeaderValue::try_from(range) {
            head.headers.insert(RANGE, range);
        }
        if let Some(validator) = &self.validator {
            head.headers.insert(IF_RANGE, validator.clone());
        }
        head
    }

    /// Whether a response is the rest; not yet, if it is an error of the server's that may pass. The error says why it
    /// never will be.
    pub(crate) fn check<B>(&self, response: &Response<B>, got: u64) -> Result<bool, String> {
        let status = response.status();
        if status.is_server_error() {
            return Ok(false);
        }
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(format!(
                "it answered {} to the request for the rest, so what it sends has changed or cannot be had in parts",
                status.as_u16()
            ));
        }
        let headers = response.headers();
        let wanted = (self.first.saturating_add(got), self.last);
        let Some((first, last, total)) = content_range(headers) else {
            return Err("its answer does not say which part it is".to_owned());
        };
        if (first, last) != wanted {
            let (from, to) = wanted;
            return Err(format!("it sends the bytes {first}-{last}, not {from}-{to}"));
        }
        if let (Some(before), Some(now)) = (self.total, total)
            && before != now
        {
            return Err(format!("what it sends had {before} bytes and has {now} now"));
        }
        let same =
            |name: &HeaderName, before: Option<&HeaderValue>| match (before, headers.get(name)) {
                (Some(before), Some(now)) => before == now,
                _ => true,
            };
        let by_date = self.validator.as_ref().filter(|_| self.etag.is_none());
        if !same(&ETAG, self.etag.as_ref()) || !same(&LAST_MODIFIED, by_date) {
            return Err("what it sends has changed".to_owned());
        }
        Ok(true)
    }
}

/// First and last byte, and the length of the whole if it is known.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    Some((number(first)?, number(last)?, total))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    fn head(method: Method) -> Head {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"x\""));
        headers.insert("x-own", HeaderValue::from_static("1"));
        Head { method, uri: "http://h/".parse().unwrap(), headers, own: None }
    }

    fn response(status: u16, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from("0123456789"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }

    #[test]
    fn a_rest_is_asked_for_only_if_it_is_certain_to_be_the_rest() {
        let plan = |method: Method, status, headers: &[(&str, &str)], unchanging| {
            Plan::new(&head(method), &response(status, headers), unchanging)
        };
        let strong = ("etag", "\"a\"");
        assert!(plan(Method::GET, 200, &[strong], false).is_some());
        assert!(
            plan(Method::GET, 200, &[("last-modified", "Mon, 30 Nov 2026 00:00:00 GMT")], false)
                .is_some()
        );
        assert!(
            plan(Method::GET, 206, &[strong, ("content-range", "bytes 5-14/20")], false).is_some()
        );
        assert!(plan(Method::GET, 200, &[], true).is_some());
        assert!(plan(Method::GET, 200, &[], false).is_none());
        assert!(plan(Method::GET, 200, &[("etag", "W/\"a\"")], false).is_none());
        assert!(plan(Method::GET, 200, &[strong, ("accept-ranges", "none")], true).is_none());
        assert!(plan(Method::POST, 200, &[strong], true).is_none());
        assert!(plan(Method::GET, 404, &[strong], true).is_none());
        for range in [
            "bytes 5-13/20",
            "bytes 5-15/20",
            "bytes */20",
            "bytes 9-0/20",
            "5-14/20",
            "bytes 5-+14/20",
        ] {
            assert!(
                plan(Method::GET, 206, &[strong, ("content-range", range)], true).is_none(),
                "{range}"
            );
        }
    }

    #[test]
    fn the_rest_continues_at_the_byte_after_the_last() {
        let first = response(206, &[("etag", "\"a\""), ("content-range", "bytes 5-14/20")]);
        let plan = Plan::new(&head(Method::GET), &first, false).unwrap();
        let asked = plan.rest(4);
        assert_eq!(asked.headers[RANGE], "bytes=9-14");
        assert_eq!(asked.headers[IF_RANGE], "\"a\"");
        assert_eq!(asked.headers["x-own"], "1");
        assert!(!asked.headers.contains_key(IF_NONE_MATCH));
        let check = |status, headers: &[(&str, &str)]| plan.check(&response(status, headers), 4);
        assert_eq!(check(206, &[("content-range", "bytes 9-14/20")]), Ok(true));
        assert_eq!(check(206, &[("etag", "\"a\""), ("content-range", "bytes 9-14/*")]), Ok(true));
        assert_eq!(check(503, &[]), Ok(false));
        for (status, headers) in [
            (200, vec![]),
            (404, vec![]),
            (412, vec![]),
            (416, vec![]),
            (206, vec![]),
            (206, vec![("content-range", "bytes 8-14/20")]),
            (206, vec![("content-range", "bytes 9-13/20")]),
            (206, vec![("content-range", "bytes 9-14/21")]),
            (206, vec![("content-range", "bytes 9-14/20"), ("etag", "\"b\"")]),
        ] {
            assert!(check(status, &headers).is_err(), "{status} {headers:?}");
        }
    }
}
