//! One connection, from the TLS handshake to its end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Exchange, Mark, Peer, Silence, Watched};
use crate::server::{Application, ListenerConfig};
use crate::shutdown::{Phase, Shutdown, reached};
use crate::stream::{Socket, TLS_READ_BUFFER, Transport};
use crate::tls::Tls;

/// Of a request, with its first line. HTTP/2 counts names, values and 32 bytes for each pair.
const MAX_HEAD: u32 = 64 * 1024;

/// Of a reply, HTTP/1 queues at most so much, or one chunk that is larger. What is queued leaves
/// in one write and without a copy; larger writes make downloads cheaper.
const HTTP1_QUEUE: usize = 256 * 1024;

/// What an HTTP/2 client may send ahead, for one request and for all of a connection; so much may
/// lie in memory while a disk is slow. Less makes uploads wait for windows: with 1 MiB for a
/// request, one upload on loopback has two thirds of its speed.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Larger frames than the 16 KiB of old: fewer of them for the same bytes.
const MAX_FRAME: u32 = 64 * 1024;

/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 250;

/// A connection ends whose client takes back more than so many requests that nobody has looked at
/// yet, or breaks the rules on so many streams: these cost it nothing, and the server a lot.
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 1024;

/// Queued for one HTTP/2 request on top of what the client's window allows.
const STREAM_QUEUE: usize = 256 * 1024;

/// An HTTP/2 client that does not answer a ping is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: use a URL that begins with https://\n";

/// What the connections of a listener have in common.
pub(super) struct Drivers<A> {
    pub(super) config: Arc<ListenerConfig>,
    pub(super) application: Arc<A>,
    pub(super) tasks: TaskTracker,
    pub(super) phase: Shutdown,
}

impl<A: Application> Drivers<A> {
    pub(super) async fn drive(self: Arc<Self>, socket: Socket, peer: Peer) {
        let _open = Open::new(&*self.application);
        let mut phase = self.phase.subscribe();
        let transport = match &self.config.tls {
            None => Some(Transport::Plain(socket)),
            Some(tls) => tokio::select! {
                transport = self.handshake(tls, socket, peer) => transport,
                () = reached(&mut phase, Phase::Draining) => None,
            },
        };
        if let Some(transport) = transport {
            self.speak(transport, peer).await;
        }
    }

    async fn handshake(&self, tls: &Tls, socket: Socket, peer: Peer) -> Option<Transport> {
        let handshake = async {
            if is_plain(&socket).await {
                let mut socket = socket;
                // The client may be gone.
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
                tracing::debug!(%peer, %error, "no TLS handshake");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "the TLS handshake took too long");
                None
            }
        }
    }

    /// Speaks HTTP until the connection ends.
    async fn speak(self: &Arc<Self>, transport: Transport, peer: Peer) {
        let connection = Connection::new(peer, &transport, self.config.public_url.clone());
        let io = TokioIo::new(Watched::new(transport, connection.clone()));
        let application = self.application.clone();
        let service = {
            let connection = connection.clone();
            service_fn(move |request| {
                let exchange = connection.begin();
                let response = application.clone().respond(request, exchange.clone());
                async move {
                    let response = response.await;
                    let taken = STREAM.try_with(Arc::clone).ok();
                    Ok::<_, Infallible>(response.map(|body| Tracked {
                        body,
                        taken,
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
                // Watched here instead, because this one is for silence between requests too.
                .header_read_timeout(None)
                .max_header_size(usize::try_from(MAX_HEAD).unwrap_or(usize::MAX))
                .max_buf_size(HTTP1_QUEUE)
                .writev(true)
                .serve_connection(io, service);
            self.watch(http1, &connection, http1::Connection::graceful_shutdown).await;
        }
    }

    /// Polls a connection to its end; ends it where it is silent for too long, or the server
    /// shuts down.
    async fn watch<C>(
        &self,
        protocol: C,
        connection: &Connection,
        say_goodbye: impl Fn(Pin<&mut C>),
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
        let mut said_goodbye = false;
        loop {
            tokio::select! {
                biased;
                result = protocol.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection");
                    }
                    return;
                }
                () = &mut cut => return,
                () = &mut draining, if !closing => {
                    closing = true;
                    say_goodbye(protocol.as_mut());
                }
                () = &mut check => {
                    let next = match connection.silence(&self.config.timeouts) {
                        Silence::Fine(next) => next,
                        Silence::Idle if !said_goodbye => {
                            closing = true;
                            said_goodbye = true;
                            say_goodbye(protocol.as_mut());
                            // A slow client may still be taking what HTTP/2 has queued for it.
                            self.config.timeouts.download_stall
                        }
                        Silence::Idle => return,
                        Silence::TooLong(reason) => {
                            tracing::info!(%peer, reason, "connection cut");
                            return;
                        }
                    };
                    // Never in a tight loop, whatever the rounding.
                    let next = next.max(Duration::from_millis(1));
                    check.as_mut().reset(tokio::time::Instant::now() + next);
                }
            }
        }
    }
}

/// Tells the application of a connection's beginning and end, however it ends.
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

/// True where a client begins in plain text on a TLS port.
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
    /// Set in the task of an HTTP/2 request: when its client last stopped taking the reply.
    static STREAM: Arc<Mark>;
}

/// Spawns the requests of an HTTP/2 connection, and drops one whose client takes nothing of its
/// reply while others of the same connection go on.
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
        let taken = Arc::new(Mark::default());
        let stall = self.stall;
        self.tasks.spawn(STREAM.scope(taken.clone(), async move {
            let mut request = pin!(request);
            let mut check = pin!(sleep(stall));
            loop {
                tokio::select! {
                    biased;
                    _ = request.as_mut() => return,
                    () = &mut check => {
                        let left = taken.left(stall).unwrap_or(stall);
                        if left.is_zero() {
                            tracing::info!("request cut: the client takes nothing");
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
    /// A reply's body, which keeps its exchange alive and notes when the client takes nothing.
    struct Tracked<B> {
        #[pin]
        body: B,
        taken: Option<Arc<Mark>>,
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
        if let Some(taken) = this.taken {
            // hyper asks for more when it has room: until then the client is waited for.
            match &poll {
                Poll::Ready(Some(_)) => taken.set(),
                _ => taken.clear(),
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
