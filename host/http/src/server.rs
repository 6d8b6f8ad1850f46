//! A listener with its connections, from bind to graceful shutdown. What a connection says is
//! HTTP/2 where TLS's ALPN agreed on it, else HTTP/1.1.

mod accept;
mod drive;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::connection::Exchange;
use crate::listen::{Address, BindError, Listener, LocalAddress};
use crate::service::PublicUrl;
use crate::shutdown::Shutdown;
use crate::tls::Tls;

/// What answers requests: the gateway, or the operators' pages.
pub trait Application: Send + Sync + 'static {
    /// Bodies of its replies.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers one request. Dropped where the client goes away.
    fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        exchange: Arc<Exchange>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;

    /// A connection begins.
    fn connected(&self) {}

    /// A connection has ended.
    fn disconnected(&self) {}
}

/// A socket to serve on, and how.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where.
    pub address: Address,
    /// Mode of a Unix socket's file, as in `0o660`; without it the umask decides. Not for sockets
    /// that are handed over.
    pub unix_mode: Option<u32>,
    /// Plain HTTP without it.
    pub tls: Option<Arc<Tls>>,
    /// What clients call it, where that is not what their requests say: behind a proxy.
    pub public_url: Option<PublicUrl>,
    /// Further connections wait in the system's queue.
    pub max_connections: usize,
    /// How long silence is borne.
    pub timeouts: Timeouts,
}

impl ListenerConfig {
    /// Plain HTTP at this address, with defaults for the rest.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            unix_mode: None,
            tls: None,
            public_url: None,
            max_connections: 4096,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long silence is borne.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From a head's first byte to its last.
    pub head: Duration,
    /// Between requests of a connection.
    pub idle: Duration,
    /// Without a byte of a request's body, while somebody waits for it.
    pub upload_stall: Duration,
    /// Without the client's taking a byte of a reply.
    pub download_stall: Duration,
    /// For requests under way when the server shuts down; none is without limit.
    pub grace: Option<Duration>,
}

impl Default for Timeouts {
    /// restic gives up a request after five minutes without progress; so do these.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            upload_stall: Duration::from_secs(300),
            download_stall: Duration::from_secs(300),
            grace: None,
        }
    }
}

impl Timeouts {
    /// The shortest of those that a connection's owner watches.
    pub(crate) fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.download_stall)
    }
}

/// A bound listener, ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: LocalAddress,
    config: ListenerConfig,
}

impl Server {
    /// Listens, or takes the socket that systemd hands over, which may be TCP or Unix. From here
    /// on clients can connect, and wait to be served.
    pub async fn bind(config: ListenerConfig) -> Result<Self, BindError> {
        let listener = Listener::bind(&config.address, config.unix_mode).await?;
        Self::of(listener, config)
    }

    /// A TCP socket that is listening already, as systemd hands it over.
    pub fn from_tcp(
        listener: std::net::TcpListener,
        config: ListenerConfig,
    ) -> Result<Self, BindError> {
        let address = config.address.clone();
        let listener = Listener::of_tcp(listener);
        let listener = listener.map_err(|source| BindError::Io { address, source })?;
        Self::of(listener, config)
    }

    /// A Unix socket that is listening already. Its file is not removed at the end.
    pub fn from_unix(
        listener: std::os::unix::net::UnixListener,
        config: ListenerConfig,
    ) -> Result<Self, BindError> {
        let address = config.address.clone();
        let listener = Listener::of_unix(listener);
        let listener = listener.map_err(|source| BindError::Io { address, source })?;
        Self::of(listener, config)
    }

    fn of(listener: Listener, config: ListenerConfig) -> Result<Self, BindError> {
        let address = config.address.clone();
        let local = listener.local_address();
        let local = local.map_err(|source| BindError::Io { address, source })?;
        Ok(Self { listener, address: local, config })
    }

    /// The actual address, with the port that the system chose for port 0.
    pub fn local_address(&self) -> &LocalAddress {
        &self.address
    }

    /// Serves until a shutdown has begun and every connection has ended, or has been cut: by
    /// [`Shutdown::cut`], or by the end of the grace period.
    pub async fn serve<A: Application>(self, application: Arc<A>, shutdown: &Shutdown) {
        accept::serve(self.listener, self.config, application, shutdown).await;
    }
}

/// Who answers where, for logs.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
