//! HTTP systems that the operator has configured and granted to the mount.

#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
use crate::bindings::keepgate::plugin::upstreams::check as ask;
#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::upstreams::{Exchange, names};
#[cfg(not(target_family = "wasm"))]
use native::check as ask;
#[cfg(not(target_family = "wasm"))]
pub use native::{Exchange, SentRequest, TestExchange, names};

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::keepgate::plugin::upstreams as contract;
use crate::{Body, Failure, json};

/// A request to an upstream.
///
/// ```
/// use keepgate_sdk::upstreams::Request;
/// use keepgate_sdk::Failure;
///
/// fn version(upstream: &str) -> Result<String, Failure> {
///     let exchange = Request::get("/1.0").send(upstream)?;
///     let server: serde_json::Value = exchange.json(1 << 16)?;
///     Ok(server["metadata"]["api_status"].to_string())
/// }
/// # use keepgate_sdk::testing::{Host, TestExchange};
/// # let host = Host::new();
/// # let answer = serde_json::json!({"metadata": {"api_status": "stable"}});
/// # host.upstream("lxd", &[TestExchange::new("GET", "/1.0").json(200, &answer)]);
/// # assert_eq!(version("lxd").unwrap(), "\"stable\"");
/// ```
#[derive(Debug)]
pub struct Request {
    head: contract::Request,
    body: Option<Body>,
    options: contract::Options,
}

impl Request {
    /// A request without a body. `target` is path and query, percent-encoded; for an upstream that is a list of
    /// addresses, the whole URL.
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        let head = contract::Request { method, target, headers: Vec::new() };
        let options = contract::Options {
            answer_within: None,
            silent_for: None,
            max_body: None,
            resume: false,
        };
        Self { head, body: None, options }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A DELETE.
    pub fn delete(target: &str) -> Self {
        Self::new("DELETE", target)
    }

    /// A POST of a value as JSON. Fails with [`Failure::Internal`] if JSON cannot express the value.
    pub fn post_json(target: &str, value: &impl Serialize) -> Result<Self, Failure> {
        Self::new("POST", target).json(value)
    }

    /// Adds a header. Those of the connection, the host and the length are the host's, and those with the operator's
    /// credentials are the operator's: [`send`](Self::send) fails with [`Failure::Denied`] if there is one of them.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body. Its length is announced if it is known.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets the body to a value as JSON, with its type. Fails with [`Failure::Internal`] if JSON cannot express it.
    pub fn json(self, value: &impl Serialize) -> Result<Self, Failure> {
        let bytes = json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(Body::from_bytes(&bytes)))
    }

    /// Limits the time from the last byte of the request to the head of the response. The operator's limit applies if
    /// it is lower.
    #[must_use]
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.options.answer_within = Some(milliseconds(limit));
        self
    }

    /// Limits the time during which the upstream neither takes nor sends a byte of a body. The operator's limit applies
    /// if it is lower.
    #[must_use]
    pub fn silent_for(mut self, limit: Duration) -> Self {
        self.options.silent_for = Some(milliseconds(limit));
        self
    }

    /// Limits the length of the response's body in bytes: reading more fails with [`Failure::TooLarge`].
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.options.max_body = Some(bytes);
        self
    }

    /// Says that the resource does not change: if the response to a GET breaks off, the host reads on at the same byte,
    /// and whoever reads the body does not notice.
    #[must_use]
    pub fn resume(mut self) -> Self {
        self.options.resume = true;
        self
    }

    /// Fails with [`Failure::Denied`] or [`Failure::Invalid`] if the operator does not allow the request, without
    /// sending it: to refuse at once what a job is to send later. What a host's name leads to is not known yet, so
    /// [`send`](Self::send) can still fail with [`Failure::Denied`].
    pub fn check(&self, upstream: &str) -> Result<(), Failure> {
        ask(upstream, &self.head.method, &self.head.target)
    }

    /// Sends it and waits for the head of the response. Any status is a success.
    ///
    /// Fails with [`Failure::Denied`] if the mount does not grant the upstream or the operator does not allow the
    /// request, with [`Failure::Unavailable`] if the upstream cannot be reached, does not answer in time or breaks off,
    /// with [`Failure::Busy`] if as many requests as allowed are under way, and with the failure of the request's body
    /// if that cannot be read to its end.
    pub fn send(self, upstream: &str) -> Result<Exchange, Failure> {
        Exchange::send(upstream, &self.head, self.body, self.options)
    }
}

fn milliseconds(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

impl Exchange {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Reads the body, at most `most` bytes, as JSON. What is no such JSON fails with [`Failure::Unavailable`], because
    /// the upstream sent it and not the client; a body that is longer does, too.
    pub fn json<T: DeserializeOwned>(&self, most: u64) -> Result<T, Failure> {
        let bytes = self.body()?.bytes(most).map_err(|failure| match failure {
            Failure::TooLarge(most) => {
                Failure::Unavailable(format!("the response is longer than {most} bytes"))
            }
            failure => failure,
        })?;
        let parsed = json::parse("the response", &bytes);
        parsed.map_err(|failure| Failure::Unavailable(failure.message().to_owned()))
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/upstreams.md")]
#[derive(Debug)]
struct Book;
