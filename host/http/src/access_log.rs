//! The access log: one entry for each request when it ends. [`CombinedLog`] writes entries to a file;
//! tests and embedders bring their own [`AccessLog`].

mod combined;

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri, Version};

use crate::peer::Peer;

pub use combined::{CombinedLog, LogError, LogTarget};

/// A log of requests. It is called in the task of the request, so it must not block on a disk.
pub trait AccessLog: Send + Sync + 'static {
    /// Logs a request that has ended.
    fn ended(&self, entry: &AccessLogEntry);
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct AccessLogEntry {
    /// When its head was complete.
    pub begun: SystemTime,
    /// From then to the last byte of the response.
    pub took: Duration,
    /// Who was at the other end of the connection.
    pub peer: Peer,
    /// The authenticated user, if any.
    pub user: Option<String>,
    /// As the client sent it.
    pub method: Method,
    /// As the client sent it.
    pub target: Uri,
    /// The version of HTTP.
    pub version: Version,
    /// `None` if the client went away before there was a response.
    pub status: Option<StatusCode>,
    /// Bytes of the response body.
    pub sent: u64,
    /// The `Referer` header.
    pub referer: Option<HeaderValue>,
    /// The `User-Agent` header.
    pub user_agent: Option<HeaderValue>,
}
