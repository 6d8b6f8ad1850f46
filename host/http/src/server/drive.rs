//! One connection, from the TLS handshake to its end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Exchange, Silence, Timestamp, Watched};
use crate::peer::Peer;
use crate::server::departed::OutlivesConnection;
use crate::server::proxy_protocol;
use crate::server::{Application, ListenerConfig};
use crate::shutdown::{Phase, Shutdown, reached};
use crate::tls::Tls;
use crate::transport::{Socket, TLS_READ_BUFFER, Transport};

/// Bytes of a request's head, with its first line. HTTP/2 counts names, values and 32 bytes per header.
const MAX_HEAD: u32 = 64 * 1024;

/// How much of a response HTTP/1 queues, unless one chunk is larger. The queue is sent in one write and
/// without a copy; larger writes make downloads cheaper.
const HTTP1_QUEUE: usize = 256 * 1024;

/// How much an HTTP/2 client may send ahead, per request and per connection. This much may be in memory
/// while a disk is slow. Smaller windows slow uploads down: with 1 MiB per request, an upload over
/// loopback reaches two thirds of the speed.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Larger than the default of 16 KiB, so that the same bytes take fewer frames.
const MAX_FRAME: u32 = 64 * 1024;

/// Concurrent requests per HTTP/2 connection.
const MAX_STREAMS: u32 = 250;

/// A connection is closed if its client resets more than this many requests that have not been accepted
/// yet, or violates the protocol on this many streams: both are cheap for the client and expensive for
/// the server.
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 1024;

/// How much is queued per HTTP/2 request beyond the client's window.
const STREAM_QUEUE: usize = 256 * 1024;

/// An HTTP/2 client that does not answer a ping in time is considered gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\nThis port expects HTTPS: use a URL that starts with https://\n";

/// What the connections of a listener share.
pub(super) struct Drivers<A> {
    pub(super) config: Arc<ListenerConfig>,
    pub(super) application: Arc<A>,
    pub(super) tasks: TaskTracker,
    pub(super) phase: Shutdown,
}

impl<A: Application> Drivers<A> {
    /// Drives one connection to its end. It holds `slot` for as long as any of its requests.
    pub(super) async fn drive(
        self: Arc<Self>,
        socket: Socket,
        peer: Peer,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        let _open = Open::new(&*self.application);
        let mut phase = self.phase.subscribe();
        let opened = tokio::select! {
            opened = self.open(socket, peer) => opened,
            () = reached(&mut phase, Phase::Draining) => None,
        };
        if let Some((transport, peer)) = opened {
            self.serve(transport, peer, slot).await;
        }
    }

    /// Everything before the first request. Also returns who speaks HTTP, if a proxy passes that on.
    async fn open(&self, mut socket: Socket, peer: Peer) -> Option<(Transport, Peer)> {
        let proxies = self.config.proxies.as_ref();
        let peer = match proxies.filter(|proxies| proxies.begins_with_header(&peer)) {
            Some(_) => self.proxied(&mut socket, peer).await?,
            None => peer,
        };
        let transport = match &self.config.tls {
            None => Transport::Plain(socket),
            Some(tls) => self.handshake(tls, socket, peer).await?,
        };
        Some((transport, peer))
    }

    /// The client of a proxy that begins with a header of the PROXY protocol; `None` if it does not, and is not served.
    async fn proxied(&self, socket: &mut Socket, peer: Peer) -> Option<Peer> {
        let limit = self.config.timeouts.handshake;
        match timeout(limit, proxy_protocol::read(socket)).await {
            Ok(Ok(client)) => Some(client.unwrap_or(peer)),
            Ok(Err(error)) => {
                tracing::info!(%peer, %error, "connection of a proxy closed; it must begin with a PROXY header");
                None
            }
            Err(_) => {
                tracing::info!(%peer, "connection of a proxy closed; its PROXY header did not come");
                None
            }
        }
    }

    async fn handshake(&self, tls: &Tls, socket: Socket, peer: Peer) -> Option<Transport> {
        let handshake = async {
            if is_plain(&socket).await {
                let mut socket = socket;
                // Errors are ignored: the client may be gone.
                let _ = socket.write_all(NOT_TLS).await;
                let _ = socket.shutdown().await;
                return Err(std::io::Error::other("the client does not speak TLS"));
            }
            let socket = BufReader::with_capacity(TLS_READ_BUFFER, socket);
            TlsAcceptor::from(tls.config()).accept(socket).await
        };
        match timeout(self.config.timeouts.handshake, handshake).await {
            Ok(Ok(stream)) => Some(Transport::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "TLS handshake timed out");
                None
            }
        }
    }

    /// Serves HTTP until the connection ends.
    async fn serve(
        self: &Arc<Self>,
        transport: Transport,
        peer: Peer,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        let connection = Connection::new(peer, &transport, self.config.clone(), slot);
        let io = TokioIo::new(Watched::new(transport, connection.clone()));
        let application = self.application.clone();
        let service = {
            let connection = connection.clone();
            let (tasks, phase) = (self.tasks.clone(), self.phase.clone());
            service_fn(move |request: Request<Incoming>| {
                let exchange = connection.begin(request.headers());
                let response = application.clone().respond(request, exchange.clone());
                let response = if connection.is_http2() {
                    let (connection, tasks) = (connection.clone(), tasks.clone());
                    let phase = phase.clone();
                    Either::Left(OutlivesConnection::new(response, connection, tasks, phase))
                } else {
                    Either::Right(response)
                };
                async move {
                    let response = response.await;
                    let blocked = BLOCKED.try_with(Arc::clone).ok();
                    Ok::<_, Infallible>(response.map(|body| Tracked {
                        body,
                        blocked,
                        _exchange: exchange,
                    }))
                }
            })
        };
        if connection.is_http2() {
            let streams =
                Streams { tasks: self.tasks.clone(), stall: self.config.timeouts.download_stall };
            let http2 = http2::Builder::new(streams)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(MAX_FRAME)
                .max_concurrent_streams(MAX_STREAMS)
                .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                .max_local_error_reset_streams(MAX_ERROR_RESETS)
                .max_send_buf_size(STREAM_QUEUE)
                .max_header_list_size(MAX_HEAD)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .serve_connection(io, service);
            self.watch(http2, &connection, http2::Connection::graceful_shutdown).await;
        } else {
            let http1 = http1::Builder::new()
                .timer(TokioTimer::new())
                // Not used, because it would also apply between requests; `watch` checks heads.
                .header_read_timeout(None)
                // A client that has sent its request may close its side; see `departed`.
                .half_close(true)
                .max_header_size(usize::try_from(MAX_HEAD).unwrap_or(usize::MAX))
                .max_buf_size(HTTP1_QUEUE)
                .writev(true)
                .serve_connection(io, service);
            self.watch(http1, &connection, http1::Connection::graceful_shutdown).await;
        }
    }

    /// Polls a connection to its end, and ends it if it is silent for too long or the server shuts
    /// down.
    async fn watch<C>(
        &self,
        protocol: C,
        connection: &Connection,
        close_gracefully: impl Fn(Pin<&mut C>),
    ) where
        C: Future<Output = hyper::Result<()>>,
    {
        let peer = connection.peer();
        let mut protocol = pin!(protocol);
        let mut draining = self.phase.subscribe();
        let mut cut = self.phase.subscribe();
        let mut draining = pin!(reached(&mut draining, Phase::Draining));
        let mut cut = pin!(reached(&mut cut, Phase::Cut));
        let mut check = pin!(sleep(self.config.timeouts.shortest()));
        let mut closing = false;
        let mut closed_gracefully = false;
        loop {
            tokio::select! {
                biased;
                result = protocol.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection failed");
                    }
                    return;
                }
                () = &mut cut => return,
                () = &mut draining, if !closing => {
                    closing = true;
                    close_gracefully(protocol.as_mut());
                }
                () = &mut check => {
                    let next = match connection.silence(&self.config.timeouts) {
                        Silence::Active(next) => next,
                        Silence::Idle if !closed_gracefully => {
                            closing = true;
                            closed_gracefully = true;
                            close_gracefully(protocol.as_mut());
                            // A slow client may still be reading what HTTP/2 has queued for it.
                            self.config.timeouts.download_stall
                        }
                        Silence::Idle => return,
                        Silence::TooLong(reason) => {
                            tracing::info!(%peer, reason, "connection cut");
                            return;
                        }
                    };
                    // Rounding must not cause a busy loop.
                    let next = next.max(Duration::from_millis(1));
                    check.as_mut().reset(tokio::time::Instant::now() + next);
                }
            }
        }
    }
}

/// Tells the application when a connection begins and, however it happens, ends.
struct Open<'a, A: Application>(&'a A);

impl<'a, A: Application> Open<'a, A> {
    fn new(application: &'a A) -> Self {
        application.connected();
        Self(application)
    }
}

impl<A: Application> Drop for Open<'_, A> {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

/// True if a client starts in plain text on a TLS port.
async fn is_plain(socket: &Socket) -> bool {
    match socket {
        Socket::Tcp(stream) => {
            let mut first = [0];
            matches!(stream.peek(&mut first).await, Ok(1..)) && first != [TLS_HANDSHAKE]
        }
        Socket::Unix(_) => false,
    }
}

tokio::task_local! {
    /// Set in the task of an HTTP/2 request: since when its client has accepted nothing of the response.
    static BLOCKED: Arc<Timestamp>;
}

/// Spawns the requests of an HTTP/2 connection. It drops a request whose client accepts nothing of the
/// response, while others on the same connection continue.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    stall: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let blocked = Arc::new(Timestamp::default());
        let stall = self.stall;
        self.tasks.spawn(BLOCKED.scope(blocked.clone(), async move {
            let mut request = pin!(request);
            let mut check = pin!(sleep(stall));
            loop {
                tokio::select! {
                    biased;
                    _ = request.as_mut() => return,
                    () = &mut check => {
                        let left = blocked.remaining(stall).unwrap_or(stall);
                        if left.is_zero() {
                            tracing::info!("request cut; the client accepts no data");
                            return;
                        }
                        let left = left.max(Duration::from_millis(1));
                        check.as_mut().reset(tokio::time::Instant::now() + left);
                    }
                }
            }
        }));
    }
}

pin_project! {
    /// A response body that keeps its exchange alive and notes when the client accepts nothing.
    struct Tracked<B> {
        #[pin]
        body: B,
        blocked: Option<Arc<Timestamp>>,
        _exchange: Arc<Exchange>,
    }
}

impl<B: Body<Data = Bytes>> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let poll = this.body.poll_frame(context);
        if let Some(blocked) = this.blocked {
            // hyper polls again when it has room: until then it waits for the client.
            match &poll {
                Poll::Ready(Some(_)) => blocked.set(),
                _ => blocked.clear(),
            }
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
