//! HTTP systems behind the gateway: one client for each *upstream* that the operator names. Plugins say what to ask;
//! where, as whom and how much is the operator's, and nothing of it leaves this crate but a name.
//!
//! There are two kinds: an upstream at one address, such as LXD's API; and a list of addresses that clients may name,
//! for notifications. Start at [`Exchanges`], which the runtime asks, and [`Upstream`], which implements it.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `options` | the operator's settings, and what is wrong with them |
//! | `url`, `path`, `address` | what is asked, read strictly; which paths and IP addresses are allowed |
//! | `target` | where one request goes, and whether it may |
//! | `headers`, `credentials` | whose header is whose; files with secrets, read at each request |
//! | `tls`, `dial` | connections: trust and client certificate from files, names, TCP, Unix sockets |
//! | `client` | one request, to the head of its response |
//! | `upload`, `download` | bodies: limits in time, lengths, and a response that broke off |
//! | `explain` | errors in words for people |
//! | `metrics`, `probe` | for operators |
//!
//! Invariants: a request that is not whole is never sent as if it were; a response that is not whole never ends without
//! an error; nothing waits without a limit in time, and nothing is kept in memory beyond a few buffers for each request.

mod address;
mod client;
mod credentials;
mod dial;
mod download;
mod explain;
mod headers;
mod metrics;
mod options;
mod path;
mod probe;
mod target;
mod tls;
mod upload;
mod url;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use keepgate_store::{Body, BodyError};

pub use client::{Status, Upstream};
pub use dial::{Resolve, Resolving};
pub use metrics::{Metrics, UpstreamMetrics};
pub use options::{
    Address, Destination, Limits, Login, OptionsError, Timeouts, TlsFiles, UpstreamOptions,
};

/// Pairs of name and value, in order.
pub type Fields = Vec<(String, String)>;

/// Why there is no response. The texts are for whoever made the request: they name the upstream and never an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The operator does not allow the request.
    #[error("{0}")]
    Denied(String),
    /// As many requests as allowed are under way.
    #[error("{0}")]
    Busy(String),
    /// The upstream cannot be reached, does not answer in time, or broke off.
    #[error("{0}")]
    Unavailable(String),
    /// The body of the request could not be read to its end, so the request was aborted.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// An upstream as the runtime sees it.
#[async_trait]
pub trait Exchanges: Send + Sync + fmt::Debug + 'static {
    /// Sends a request and waits for the head of the response. Any status is a success, redirects included. Dropping
    /// the future aborts the request.
    async fn send(&self, request: Request) -> Result<Response, UpstreamError>;

    /// Whether [`send`](Self::send) would try a request with this method and target, as far as nobody has to be asked.
    fn check(&self, method: &str, target: &str) -> Result<(), UpstreamError>;
}

/// A request as a plugin makes it.
#[derive(Debug)]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// Path and query below the upstream's address; the whole URL if clients name addresses.
    pub target: String,
    /// The headers.
    pub headers: Fields,
    /// The body, if there is one. Its length is announced if it is known.
    pub body: Option<Body>,
    /// What else the plugin wishes.
    pub wishes: Wishes,
}

/// What a plugin wishes of an exchange. The operator's limits apply where they are lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// From the last byte of the request to the head of the response.
    pub answer_within: Option<Duration>,
    /// The longest time without a byte of a body.
    pub silent_for: Option<Duration>,
    /// The longest body of a response in bytes.
    pub max_body: Option<u64>,
    /// Whether what is read does not change, so that a response that breaks off can be read on from there although
    /// nothing in it says that it stays the same.
    pub resume: bool,
}

/// The head of a response, and its body in the upstream's hands.
#[derive(Debug)]
pub struct Response {
    /// Its status, 200 to 599.
    pub status: u16,
    /// The headers, without those that concern one connection. Names are in lower case.
    pub headers: Fields,
    /// The body. It fails with [`BodyError::Unavailable`] if it breaks off. Dropping it closes the connection, unless
    /// it was read to its end.
    pub body: Body,
}
