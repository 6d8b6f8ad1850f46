//! One call to a mount: the request and the reply. Field by field these are the records of the
//! contract's interface `http` (`wit/0.1.1`), in types that need neither wasmtime nor hyper.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use keepgate_store::{Body, Fields};

/// Who is asking, as authenticated by the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name.
    pub name: String,
    /// How the user was authenticated: `htpasswd`, `proxy`, `certificate` or `bearer`.
    pub method: Cow<'static, str>,
    /// What else is known about the user.
    pub claims: Fields,
}

/// A request below a mount; the contract's `http.request`.
#[derive(Debug)]
pub struct Request {
    /// In upper case: `GET`.
    pub method: String,
    /// The mount's URL as the client reaches it, without a trailing slash; empty if unknown.
    pub base: String,
    /// Path and query as the client sent them, from the root of the server.
    pub target: String,
    /// The address of the peer; `None` for connections without one, such as Unix sockets.
    pub address: Option<IpAddr>,
    /// The identifier of the request in the gateway's log.
    pub id: String,
    /// Segments below the mount, split at `/` and then percent-decoded.
    pub path: Vec<String>,
    /// Whether the path ended with `/`.
    pub trailing_slash: bool,
    /// Decoded pairs, in order.
    pub query: Fields,
    /// Names in lower case, without the credentials that the host has checked.
    pub headers: Fields,
    /// `None` if the mount admits everybody.
    pub principal: Option<Principal>,
    /// The body, streamed.
    pub body: Body,
    /// Sends interim responses before the reply; `None` if the client cannot be sent any.
    pub interim: Option<Arc<dyn SendInterim>>,
}

/// Sends interim responses (RFC 9110, section 15.2) to the client of a request.
pub trait SendInterim: fmt::Debug + Send + Sync {
    /// Sends one before the reply, or drops it. The status is 102 to 199, and the headers are valid HTTP.
    fn send_interim(&self, status: u16, headers: &Fields);
}

/// A reply to a request.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status, from 200 to 599.
    pub status: u16,
    /// Valid HTTP names and values: they are checked when the reply leaves the plugin.
    pub headers: Fields,
    /// Its length becomes `Content-Length` if it is known. If the plugin breaks down in the middle of a
    /// streamed reply, reading the body fails; the connection must then be cut, so that the client
    /// can tell that the reply is incomplete.
    pub body: Body,
}
