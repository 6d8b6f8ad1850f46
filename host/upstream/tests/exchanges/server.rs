//! A server that does with each connection what a test says, and what tests make of an upstream.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use keepgate_store::{Body, BodyError};
use keepgate_upstream::{
    Destination, Exchanges as _, Request, Response, Timeouts, Upstream, UpstreamError,
    UpstreamOptions, Wishes,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Longer than a busy machine takes for anything here.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// A limit that a test waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// One connection, as the server sees it.
pub(crate) struct Connection {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) io: Box<dyn Io>,
}

impl Connection {
    /// The head of a request; empty if the connection ends instead.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = self.io.read_u8().await else { return String::new() };
            head.push(byte);
        }
        String::from_utf8(head).unwrap()
    }

    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.io.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Everything until the other side closes or breaks off.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = self.io.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..length]);
        }
        bytes
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        // The client may have gone away.
        let _ = self.io.write_all(text.as_ref()).await;
        let _ = self.io.flush().await;
    }

    /// A response with a body of this length.
    pub(crate) async fn answer(&mut self, status: &str, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    }

    /// Stays open and says nothing.
    pub(crate) async fn silence(self) {
        let _open = self;
        std::future::pending::<()>().await;
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
    connections: Arc<AtomicUsize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Script = Arc<dyn Fn(Connection) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

fn script<F>(script: impl Fn(Connection) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |connection| script(connection).boxed())
}

impl Server {
    pub(crate) async fn start<F>(then: impl Fn(Connection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::run(None, script(then)).await
    }

    pub(crate) async fn with_tls<F>(
        tls: Arc<rustls::ServerConfig>,
        then: impl Fn(Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::run(Some(TlsAcceptor::from(tls)), script(then)).await
    }

    async fn run(tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (tls, script) = (tls.clone(), Arc::clone(&script));
                tokio::spawn(async move {
                    let io: Box<dyn Io> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    script(Connection { number, io }).await;
                });
            }
        });
        Self { address, task, connections }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn options(&self) -> UpstreamOptions {
        options(&format!("http://{}", self.address))
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::new(self.options()).unwrap()
    }
}

/// A server at a Unix socket, until the test ends.
pub(crate) fn at_socket<F>(path: &Path, then: impl Fn(Connection) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, script) = (UnixListener::bind(path).unwrap(), script(then));
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(Connection { number, io: Box::new(stream) }));
        }
    });
}

/// Settings with limits in time that no test reaches.
pub(crate) fn options(url: &str) -> UpstreamOptions {
    let destination = Destination::Url { url: url.to_owned(), host: None };
    let timeouts = Timeouts { connect: LONG, answer: LONG, silence: LONG, turn: LONG };
    UpstreamOptions { timeouts, ..UpstreamOptions::new("lxd", destination) }
}

pub(crate) fn request(method: &str, target: &str) -> Request {
    Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: None,
        wishes: Wishes::default(),
    }
}

pub(crate) async fn get(upstream: &Upstream, target: &str) -> Result<Response, UpstreamError> {
    upstream.send(request("GET", target)).await
}

pub(crate) async fn text(body: Body) -> Result<String, BodyError> {
    let bytes = body.collect(1 << 30).await?;
    Ok(String::from_utf8(bytes.into()).unwrap())
}

/// Why an upstream is not available.
pub(crate) fn unavailable(result: Result<Response, UpstreamError>) -> String {
    match result {
        Err(UpstreamError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}
