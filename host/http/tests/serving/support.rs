//! A server with native handlers, and hand-written clients that show exactly what goes over the wire.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keepgate_auth::Access;
use keepgate_core::{CallError, Failure, Reply, Request};
use keepgate_http::{
    AccessLog, Gateway, Handler, ListenerConfig, LocalAddress, Metrics, Server, Shutdown, Site,
    SiteMount, Timeouts, Tls, TlsFiles,
};
use keepgate_store::{Body, BodyError};
use prometheus::Registry;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// No test takes this long unless something hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("this should not take so long")
}

type Answer = BoxFuture<'static, Result<Reply, CallError>>;

/// A handler from a function.
pub(crate) struct Native {
    path: String,
    answer: Box<dyn Fn(Request) -> Answer + Send + Sync>,
}

impl Native {
    pub(crate) fn at<F>(
        path: &str,
        answer: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = Result<Reply, CallError>> + Send + 'static,
    {
        let answer = move |request| -> Answer { Box::pin(answer(request)) };
        Arc::new(Self { path: path.to_owned(), answer: Box::new(answer) })
    }
}

impl Handler for Native {
    fn path(&self) -> &str {
        &self.path
    }

    fn plugin(&self) -> &str {
        "native"
    }

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        (self.answer)(request)
    }
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: Body) -> Result<Reply, CallError> {
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Reply { status, headers: headers.collect(), body })
}

pub(crate) fn text(text: impl Into<String>) -> Result<Reply, CallError> {
    reply(200, &[], Body::from_bytes(text.into()))
}

/// A handler for several tests; the first segment of the path chooses its behaviour.
pub(crate) async fn stock(mut request: Request) -> Result<Reply, CallError> {
    let number = || request.path.get(1).and_then(|number| number.parse().ok()).unwrap_or(0_usize);
    match request.path.first().map_or("", String::as_str) {
        // Answers with the request.
        "show" => {
            let Request { method, path, trailing_slash, query, headers, principal, .. } = request;
            let user = principal.map(|principal| principal.name);
            text(format!("{method} {path:?} {trailing_slash} {query:?} {user:?}\n{headers:?}"))
        }
        // Counts the bytes of an upload.
        "sink" => {
            let announced = request.body.length();
            let mut bytes = 0;
            while let Some(chunk) = request.body.chunk().await {
                bytes += chunk.map_err(Failure::from)?.len();
            }
            text(format!("{bytes} of {announced:?}"))
        }
        // Says where the upload may go on, and counts its bytes.
        "inform" => {
            if let Some(interim) = &request.interim {
                let location = ("location".to_owned(), "/later".to_owned());
                let framing = ("content-length".to_owned(), "5".to_owned());
                interim.send_interim(104, &vec![location, framing]);
            }
            let upload = request.body.collect(1 << 20).await.map_err(Failure::from)?;
            text(upload.len().to_string())
        }
        // Returns the upload.
        "echo" => reply(200, &[], request.body),
        // Neither reads nor answers.
        "hang" => std::future::pending().await,
        "refuse" => Err(Failure::Denied("append-only".to_owned()).into()),
        // A body of known length.
        "source" => reply(200, &[], source(number(), Some(number()))),
        // A body of unknown length.
        "stream" => reply(200, &[], source(number(), None)),
        // Fewer bytes than announced.
        "short" => reply(200, &[], source(number(), Some(number() + 1))),
        // More bytes than announced.
        "long" => reply(200, &[], source(number(), Some(number() - 1))),
        // Fails after this many bytes.
        "break" => {
            let failure = futures_util::stream::once(async {
                Err(BodyError::Failed("the plugin broke down".to_owned()))
            });
            let whole = source(number(), None);
            reply(200, &[], Body::from_stream(None, futures_util::StreamExt::chain(whole, failure)))
        }
        "length" => reply(200, &[("content-length", "1234")], Body::empty()),
        "nothing" => reply(204, &[], Body::empty()),
        "keep-out" => reply(401, &[], Body::empty()),
        "broken" => Err(Failure::Internal("/srv/secret is broken".to_owned()).into()),
        "headers" => reply(
            200,
            &[("x-a", "1"), ("x-a", "2"), ("connection", "close"), ("transfer-encoding", "gzip")],
            Body::empty(),
        ),
        _ => Err(Failure::NotFound.into()),
    }
}

/// A body of this many bytes, in chunks of 64 KiB.
pub(crate) fn source(bytes: usize, length: Option<usize>) -> Body {
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let chunks = futures_util::stream::unfold(bytes, move |left| {
        let part = chunk.slice(..left.min(chunk.len()));
        async move { (left > 0).then(|| (Ok(part.clone()), left - part.len())) }
    });
    Body::from_stream(length.map(|length| length as u64), chunks)
}

/// A running gateway.
pub(crate) struct Running {
    pub(crate) address: LocalAddress,
    pub(crate) site: Arc<ArcSwap<Site>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) registry: Registry,
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) fn config() -> ListenerConfig {
    ListenerConfig::new("127.0.0.1:0".parse().unwrap())
}

/// The stock handler at `/`, without authentication.
pub(crate) async fn start() -> Running {
    start_with(Access::Open, config()).await
}

pub(crate) async fn start_with(access: Access, config: ListenerConfig) -> Running {
    start_mounts(vec![(Native::at("/", stock), Arc::new(access))], config).await
}

pub(crate) async fn start_mounts(
    mounts: Vec<(Arc<dyn Handler>, Arc<Access>)>,
    config: ListenerConfig,
) -> Running {
    start_logged(mounts, config, None).await
}

pub(crate) async fn start_logged(
    mounts: Vec<(Arc<dyn Handler>, Arc<Access>)>,
    config: ListenerConfig,
    log: Option<Arc<dyn AccessLog>>,
) -> Running {
    let logged = |gateway: Gateway| match log {
        Some(log) => gateway.with_access_log(log),
        None => gateway,
    };
    start_gateway(mounts, config, logged).await
}

/// A gateway to these mounts with what `add` adds to it.
pub(crate) async fn start_gateway(
    mounts: Vec<impl Into<SiteMount>>,
    config: ListenerConfig,
    add: impl FnOnce(Gateway) -> Gateway,
) -> Running {
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry).unwrap());
    let site = Arc::new(ArcSwap::from_pointee(Site::new(mounts, &metrics).unwrap()));
    let gateway = add(Gateway::new(site.clone(), metrics.clone(), config.timeouts.clone()));
    let server = Server::bind(config).await.unwrap();
    let address = server.local_addresses().first().unwrap().clone();
    let shutdown = Shutdown::new();
    let task = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { server.serve(Arc::new(gateway), &shutdown).await })
    };
    Running { address, site, metrics, registry, shutdown, task }
}

/// Timeouts that are short enough to wait for in tests.
pub(crate) fn hasty() -> Timeouts {
    Timeouts {
        handshake: Duration::from_millis(300),
        head: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        upload_stall: Duration::from_millis(300),
        download_stall: Duration::from_millis(300),
        grace: None,
    }
}

impl Running {
    pub(crate) fn tcp(&self) -> SocketAddr {
        match &self.address {
            LocalAddress::Tcp(address) => *address,
            LocalAddress::Unix(_) => panic!("not TCP"),
        }
    }

    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client::over(TcpStream::connect(self.tcp()).await.unwrap())
    }

    /// Sends one request on a new connection.
    pub(crate) async fn ask(&self, request: &str) -> Response {
        let mut client = self.connect().await;
        client.send(request.as_bytes()).await;
        client.response().await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await
    }

    pub(crate) fn counters(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    pub(crate) async fn end(self) {
        self.shutdown.begin();
        soon(self.task).await.unwrap();
    }
}

/// An HTTP/1 response as received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Including the status line; names in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// An HTTP/1 client that sends exactly what it is given.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
        soon(self.stream.flush()).await.unwrap();
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> std::io::Result<bool> {
        Ok(soon(self.stream.read_buf(&mut self.read)).await? > 0)
    }

    /// The head of a response; what follows stays in the buffer.
    pub(crate) async fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more().await.unwrap(), "closed within a head");
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let lower = |line: &str| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
            None => format!("{line}\n"),
        };
        let head = head.lines().map(lower).collect();
        Response { status: status.expect("a status"), head, body: Vec::new() }
    }

    /// A complete response with a `Content-Length`.
    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.head().await;
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more().await.unwrap(), "closed within a body");
        }
        response.body = self.read.drain(..length).collect();
        response
    }

    /// Everything up to the end of the connection, and whether the end was clean.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        loop {
            match self.more().await {
                Ok(true) => {}
                Ok(false) => return (std::mem::take(&mut self.read), Ok(())),
                Err(error) => return (std::mem::take(&mut self.read), Err(error)),
            }
        }
    }

    /// Waits until the server closes without sending anything.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.rest().await.0.is_empty()
    }
}

/// A certificate for `localhost` in a folder.
pub(crate) fn certificate(folder: &Path, name: &str) -> (TlsFiles, CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
        minimum: keepgate_http::tls::TlsVersion::V1_2,
    };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    (files, cert.der().clone())
}

/// A gateway with TLS, and the certificate for clients to trust.
pub(crate) async fn start_tls(folder: &Path, timeouts: Timeouts) -> (Running, Arc<Tls>, Trust) {
    let (files, certificate) = certificate(folder, "server");
    let tls = Tls::load(files).unwrap();
    let config = ListenerConfig { tls: Some(tls.clone()), timeouts, ..config() };
    (start_with(Access::Open, config).await, tls, Trust(certificate))
}

/// The certificate that a client trusts.
pub(crate) struct Trust(pub(crate) CertificateDer<'static>);

pub(crate) type TlsClient = tokio_rustls::client::TlsStream<TcpStream>;

impl Trust {
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        protocol: &str,
    ) -> std::io::Result<TlsClient> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(to).await?;
        let name = "localhost".try_into().unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}
