//! A listener with its connections, from bind to graceful shutdown. A connection uses HTTP/2 if TLS
//! negotiated it by ALPN, otherwise HTTP/1.1.

mod accept;
mod departed;
mod drive;
mod proxy_protocol;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::connection::Exchange;
use crate::listen::{Address, BindError, Listener, LocalAddress};
use crate::proxies::Proxies;
use crate::public_url::PublicUrl;
use crate::shutdown::Shutdown;
use crate::timeouts::Timeouts;
use crate::tls::Tls;

/// Answers the requests of a server: the gateway, or the operators' pages.
pub trait Application: Send + Sync + 'static {
    /// The body of its responses.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers one request. The future is dropped if the client cancels the request (HTTP/2) or breaks
    /// the rules of the connection. A client that only closes its connection does not stop it.
    fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        exchange: Arc<Exchange>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;

    /// Called when a connection begins.
    fn connected(&self) {}

    /// Called when a connection has ended.
    fn disconnected(&self) {}
}

/// How to serve on a socket.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The address to listen on.
    pub address: Address,
    /// The mode of a Unix socket's file, such as `0o660`; the umask decides if it is missing. Ignored
    /// for sockets handed over by systemd.
    pub unix_mode: Option<u32>,
    /// Plain HTTP if it is missing.
    pub tls: Option<Arc<Tls>>,
    /// The URL by which clients reach it, if their requests do not say so: behind a proxy.
    pub public_url: Option<PublicUrl>,
    /// Proxies that say who their clients are.
    pub proxies: Option<Proxies>,
    /// How many connections may be open; further ones wait in the system's queue.
    pub max_connections: usize,
    /// Inactivity timeouts.
    pub timeouts: Timeouts,
}

impl ListenerConfig {
    /// Plain HTTP at this address, with defaults for everything else.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            unix_mode: None,
            tls: None,
            public_url: None,
            proxies: None,
            max_connections: 4096,
            timeouts: Timeouts::default(),
        }
    }
}

/// A bound listener, ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: LocalAddress,
    addresses: Vec<LocalAddress>,
    config: ListenerConfig,
}

impl Server {
    /// Binds the address, or takes over a TCP or Unix socket from systemd. From then on clients can
    /// connect, and wait to be served.
    pub async fn bind(config: ListenerConfig) -> Result<Self, BindError> {
        let listener = Listener::bind(&config.address, config.unix_mode).await?;
        Self::of(listener, config)
    }

    /// Serves on a TCP socket that is already listening, as systemd hands it over.
    pub fn from_tcp(
        listener: std::net::TcpListener,
        config: ListenerConfig,
    ) -> Result<Self, BindError> {
        let address = config.address.clone();
        let listener = Listener::of_tcp(listener);
        let listener = listener.map_err(|source| BindError::Io { address, source })?;
        Self::of(listener, config)
    }

    /// Serves on a Unix socket that is already listening. Its file is not removed at the end.
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
        let failed = |source| BindError::Io { address: address.clone(), source };
        let addresses = listener.local_addresses().map_err(&failed)?;
        let first = addresses.first().cloned();
        let address = first.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        Ok(Self { listener, address, addresses, config })
    }

    /// The first of [`local_addresses`](Self::local_addresses).
    pub fn local_address(&self) -> &LocalAddress {
        &self.address
    }

    /// The actual addresses, including the port that the system chose for port 0. Several if the
    /// configured one is a host name that has several, those of IPv4 first.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        &self.addresses
    }

    /// Serves until a shutdown has begun and every connection has ended or was cut, by
    /// [`Shutdown::cut`] or at the end of the grace period.
    pub async fn serve<A: Application>(self, application: Arc<A>, shutdown: &Shutdown) {
        accept::serve(self.listener, self.config, application, shutdown).await;
    }
}

/// The addresses, for logs.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses = self.addresses.iter();
        if let Some(first) = addresses.next() {
            first.fmt(f)?;
        }
        addresses.try_for_each(|address| write!(f, ", {address}"))
    }
}
