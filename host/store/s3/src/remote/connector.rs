//! HTTP for the SDK: hyper's pooled client over TCP or rustls, with the certificates that the operator named.
//!
//! The SDK's own client can neither take the gateway's [`Trust`] nor do without a second TLS. Repetitions and the
//! limits in time around a request are the SDK's; a connection, with its handshake, is limited here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keepgate_certificates::trust::Trust;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::proxy::{self, Proxies};

/// A connection that nothing was sent on for this long is closed; servers close them after about as long.
const IDLE: Duration = Duration::from_secs(20);

/// The HTTP client of one store. Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<Connector, SdkBody>,
    proxies: Arc<Proxies>,
}

impl Http {
    /// Trusts these certificates, or the system's if there are none.
    pub(super) fn new(
        trust: &[CertificateDer<'static>],
        proxy: Option<&str>,
        connect_timeout: Duration,
    ) -> Result<Self, String> {
        let provider = keepgate_certificates::provider();
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let tls = if trust.is_empty() {
            let mut roots = rustls::RootCertStore::empty();
            // Those that cannot be read are left out; if the server's is among them, its handshake fails.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots)
        } else {
            let trust = Trust::new(trust.to_vec()).map_err(|error| error.to_string())?;
            builder.dangerous().with_custom_certificate_verifier(trust)
        };
        let proxies = Arc::new(Proxies::new(proxy));
        let connector = Connector {
            proxies: Arc::clone(&proxies),
            tls: TlsConnector::from(Arc::new(tls.with_no_client_auth())),
            timeout: connect_timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, proxies })
    }
}

impl HttpClient for Http {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, proxies) = (self.client.clone(), Arc::clone(&self.proxies));
        HttpConnectorFuture::new(async move {
            let mut request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            if let Some(authorization) = proxies.authorization(request.uri()) {
                request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, authorization);
            }
            let response = client.request(request).await.map_err(explained)?;
            let response = response.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response)
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Tells the SDK what may be tried again.
fn explained(error: Error) -> ConnectorError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut timed_out = false;
    while let Some(error) = cause {
        timed_out |= error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        cause = error.source();
    }
    if timed_out {
        ConnectorError::timeout(error.into())
    } else {
        // Whatever else can go wrong here is the connection.
        ConnectorError::io(error.into())
    }
}

/// Opens connections.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    proxies: Arc<Proxies>,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { tls, proxies, timeout } = self.clone();
        Box::pin(async move {
            let connecting = tokio::time::timeout(timeout, connect(tls, &proxies, uri));
            let stream = connecting.await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "the server does not accept connections")
            })?;
            stream.map(TokioIo::new)
        })
    }
}

async fn connect(tls: TlsConnector, proxies: &Proxies, uri: Uri) -> io::Result<Stream> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{uri}: {why}"));
    let host = uri.host().ok_or_else(|| invalid("no host"))?.trim_matches(['[', ']']).to_owned();
    let encrypted = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let through = proxies.of(&uri);
    let stream = match &through {
        Some(through) => {
            proxy::connect(through, encrypted.then_some((host.as_str(), port))).await?
        }
        None => TcpStream::connect((host.as_str(), port)).await?,
    };
    stream.set_nodelay(true)?;
    if !encrypted {
        return Ok(Stream::Plain { stream, proxied: through.is_some() });
    }
    let name = ServerName::try_from(host).map_err(|_| invalid("the host is no name"))?;
    Ok(Stream::Tls(Box::new(tls.connect(name, stream).await?)))
}

/// A connection to the server.
enum Stream {
    Plain {
        stream: TcpStream,
        /// To a proxy, which wants to be told the server in each request.
        proxied: bool,
    },
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(matches!(self, Self::Plain { proxied: true, .. }))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { stream, .. } => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain { stream, .. } => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
