//! Requests of a test, and the plugin's replies.

use super::{Caller, Host, with};
use crate::capability::http;
use crate::failure::UNAVAILABLE_FOR;
use crate::{Body, Content, Failure, Method, Plugin, Principal, Refusal, Request, glue};

/// The number of requests so far.
#[derive(Debug, Default)]
struct Requests(u64);

impl Host {
    /// A request. `target` is the path below the mount with an optional query, percent-encoded or not.
    pub fn request(&self, method: &str, target: &str) -> RequestBuilder {
        RequestBuilder::new(method, target)
    }

    /// A GET request.
    pub fn get(&self, target: &str) -> RequestBuilder {
        self.request("GET", target)
    }

    /// A POST request.
    pub fn post(&self, target: &str, body: &[u8]) -> RequestBuilder {
        self.request("POST", target).body(body)
    }
}

/// A request that can be changed before it is sent.
#[derive(Debug)]
pub struct RequestBuilder(Request);

impl RequestBuilder {
    fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut segments: Vec<String> = path.split('/').map(decode).collect();
        // `/` alone has no segment and a trailing slash, as in a real request.
        let trailing_slash = segments.last().is_some_and(String::is_empty);
        if trailing_slash {
            segments.pop();
        }
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        Self(Request {
            method: Method::new(method),
            base: "http://localhost".to_owned(),
            target: target.to_owned(),
            address: None,
            id: with(|Requests(count): &mut Requests| {
                *count += 1;
                format!("request-{count}")
            }),
            segments,
            trailing_slash,
            query,
            headers: Vec::new(),
            principal: None,
            body: Body::from_bytes(&[]),
        })
    }

    /// Adds a header. The name must be in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the URL of the mount as the client sees it, instead of `http://localhost`; empty if it is
    /// unknown.
    #[must_use]
    pub fn base(mut self, base: &str) -> Self {
        base.clone_into(&mut self.0.base);
        self
    }

    /// Sets the client's IP address. Without it there is none, as for a Unix socket.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.0.address = Some(address.to_owned());
        self
    }

    /// Sets the authenticated user.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.0.principal = Some(Principal {
            name: name.to_owned(),
            method: "test".to_owned(),
            claims: Vec::new(),
        });
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.0.body = Body::from_bytes(bytes);
        self
    }

    /// Sets a body whose sender breaks off after these bytes, although it announced more.
    #[must_use]
    pub fn cut_short(mut self, bytes: &[u8], announced: u64) -> Self {
        self.0.body = Body::cut_short(bytes, announced);
        self
    }

    /// Sends the request to a plugin. If the plugin returns a failure, the reply has its status, as in the
    /// host.
    pub fn send<P: Plugin>(self) -> TestReply {
        Caller::replace(self.0.principal.clone());
        drop(http::take_streamed());
        let reply = match glue::run::<P>(self.0) {
            Ok(reply) => reply,
            Err(failure) => {
                let (status, body) = (failure.status(), failure.message().into());
                let headers = match &failure {
                    Failure::Refused(Refusal { retry_after: Some(seconds), .. }) => {
                        vec![("retry-after".to_owned(), seconds.to_string())]
                    }
                    Failure::Unavailable(_) => {
                        vec![("retry-after".to_owned(), UNAVAILABLE_FOR.to_string())]
                    }
                    _ => Vec::new(),
                };
                return TestReply { status, headers, body, failure: Some(failure) };
            }
        };
        let (status, headers, body) = match reply.content {
            Content::Empty => (reply.status, reply.headers, Vec::new()),
            Content::Bytes(bytes) => (reply.status, reply.headers, bytes),
            Content::Body(body) => {
                let (body, failure) = body.sent();
                return TestReply { status: reply.status, headers: reply.headers, body, failure };
            }
            Content::Streamed => match http::take_streamed() {
                Some(reply) => return reply,
                None => (500, Vec::new(), b"streamed, but never started".to_vec()),
            },
        };
        TestReply { status, headers, body, failure: None }
    }
}

/// A plugin's reply.
#[derive(Debug)]
pub struct TestReply {
    /// HTTP status.
    pub status: u16,
    /// Pairs of name and value.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// The failure that the plugin returned, or with which the body breaks off, if any.
    pub failure: Option<Failure>,
}

impl TestReply {
    /// The first header of this name, which is case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Percent-decodes a text. What cannot be decoded is kept.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
