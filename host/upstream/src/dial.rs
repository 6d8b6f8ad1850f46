//! Opens connections: to a Unix socket, or over TCP to a name that is resolved here, because the addresses that it
//! resolves to are looked at before one of them is dialled, and then that one is.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::address::{Reach, reach};
use crate::explain::{self, Words};
use crate::tls::Tls;
use crate::url::Host;

/// What a name resolves to.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Resolves names of hosts. Tests have their own.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// All addresses of a host.
    fn resolve(&self, name: &str) -> Resolving;
}

/// As the system does it.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> Resolving {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Where connections go.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Socket(PathBuf),
    Tcp {
        host: Host,
        port: u16,
        tls: Option<Arc<Tls>>,
        /// Which addresses may be dialled.
        allowed: Allowed,
    },
}

/// Which addresses may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Whatever the operator wrote.
    Any,
    /// A client named the host; whether it may be in the gateway's own network.
    Named { private: bool },
}

/// Opens connections to one peer.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) peer: Peer,
    pub(crate) timeout: Duration,
    pub(crate) resolver: Arc<dyn Resolve>,
}

/// Why there is no connection, in words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address may not be dialled.
    #[error("{}", .0.full)]
    Refused(Words),
    /// Nothing was reached, or not what was expected.
    #[error("{}", .0.full)]
    Failed(Words),
}

impl DialError {
    pub(crate) fn words(&self) -> &Words {
        match self {
            Self::Refused(words) | Self::Failed(words) => words,
        }
    }

    fn failed(what: impl Into<Words>) -> Self {
        Self::Failed(what.into())
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Link>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    /// The URI only says which connections are alike; all of this dialer's are.
    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
    }
}

impl Dialer {
    pub(crate) async fn dial(&self) -> Result<Link, DialError> {
        let end = Instant::now() + self.timeout;
        let too_late = || DialError::failed(format!("no connection within {:?}", self.timeout));
        match &self.peer {
            Peer::Socket(path) => {
                let connecting = timeout_at(end, UnixStream::connect(path)).await;
                let stream = connecting.map_err(|_| too_late())?;
                let stream = stream.map_err(|error| DialError::Failed(explain::socket(&error)))?;
                Ok(Link::new(Box::new(stream), Facts::default()))
            }
            Peer::Tcp { host, port, tls, allowed } => {
                let addresses = timeout_at(end, self.resolve(host, *allowed)).await;
                let addresses = addresses.map_err(|_| {
                    let what =
                        format!("the name {host} was not resolved within {:?}", self.timeout);
                    DialError::Failed(Words::new("its name cannot be resolved", what))
                })??;
                let stream = connect(&addresses, *port, end).await?.ok_or_else(too_late)?;
                match tls {
                    None => Ok(Link::new(Box::new(stream), Facts::default())),
                    Some(tls) => {
                        let shaking =
                            timeout_at(end, handshake(host, Arc::clone(tls), stream)).await;
                        shaking.map_err(|_| {
                            let limit = self.timeout;
                            DialError::failed(format!("it speaks no TLS within {limit:?}"))
                        })?
                    }
                }
            }
        }
    }

    /// The addresses that may be dialled; at least one.
    async fn resolve(&self, host: &Host, allowed: Allowed) -> Result<Vec<IpAddr>, DialError> {
        let all = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = self.resolver.resolve(name).await;
                found.map_err(|error| DialError::Failed(explain::unresolved(name, &error)))?
            }
        };
        if all.is_empty() {
            let what = format!("the name {host} has no address");
            return Err(DialError::Failed(Words::new("its name cannot be resolved", what)));
        }
        // One that is not allowed refuses all: an honest name does not lead to both.
        all.iter().try_for_each(|address| allowed.check(host, *address))?;
        Ok(all)
    }
}

impl Allowed {
    /// Fails for an address that may not be dialled, to which this host leads.
    pub(crate) fn check(self, host: &impl fmt::Display, address: IpAddr) -> Result<(), DialError> {
        let Self::Named { private } = self else { return Ok(()) };
        let is_allowed = match reach(address) {
            Reach::Public => true,
            Reach::Inside => private,
            Reach::Nowhere => false,
        };
        if is_allowed {
            return Ok(());
        }
        tracing::warn!(%host, %address, "address refused that a client named");
        let what = format!("{host} leads to an address that is not allowed");
        Err(DialError::Refused(what.into()))
    }
}

/// Tries each address, each for a share of the time that is left. Nothing if the time is over.
async fn connect(
    addresses: &[IpAddr],
    port: u16,
    end: Instant,
) -> Result<Option<TcpStream>, DialError> {
    let mut failed = None;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let until = now + end.saturating_duration_since(now) / left;
        match timeout_at(until, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => {
                // Without it, a request waits for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                return Ok(Some(stream));
            }
            Ok(Err(error)) => failed = Some(explain::unconnected(&error)),
            Err(_) => {}
        }
    }
    match failed {
        Some(why) => Err(DialError::Failed(why)),
        None => Ok(None),
    }
}

async fn handshake(host: &Host, tls: Arc<Tls>, stream: TcpStream) -> Result<Link, DialError> {
    // An address goes without its brackets.
    let name = match host {
        Host::Name(name) => ServerName::try_from(name.clone()),
        Host::Address(address) => Ok(ServerName::from(*address)),
    };
    let name = name.map_err(|_| DialError::failed(format!("{host} cannot be in a certificate")))?;
    let files = Arc::clone(&tls);
    let config = tokio::task::spawn_blocking(move || files.config()).await;
    let config = config.unwrap_or_else(|error| Err(error.to_string()));
    let (config, shown) = config.map_err(|error| {
        DialError::Failed(Words::new("cannot prepare TLS", format!("cannot prepare TLS: {error}")))
    })?;
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let facts = Facts {
                http2: session.alpn_protocol() == Some(b"h2"),
                tls: session.protocol_version().map(|version| match version {
                    rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
                    _ => "TLS 1.3",
                }),
            };
            Ok(Link::new(Box::new(stream), facts))
        }
        Err(error) => {
            Err(DialError::Failed(explain::handshake(&error, host, tls.files(), shown.get())))
        }
    }
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) http2: bool,
    /// The version, if it is encrypted.
    pub(crate) tls: Option<&'static str>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection.
pub(crate) struct Link {
    stream: Box<dyn Stream>,
    pub(crate) facts: Facts,
    used: Used,
}

/// Whether anything was answered on a connection. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used(Arc<AtomicBool>);

impl Used {
    /// Whether it is a connection that answered before.
    pub(crate) fn before(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Link {
    fn new(stream: Box<dyn Stream>, facts: Facts) -> Self {
        Self { stream, facts, used: Used::default() }
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.used.clone());
        if self.facts.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
