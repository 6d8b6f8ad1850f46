//! What is known of a connection, and when it has been silent for too long.
//!
//! [`Watched`] sits between HTTP and the transport and notes in [`Connection`] when bytes come
//! and when the client stops taking them; each request notes when it begins and ends. The task
//! that owns the connection asks [`Connection::verdict`] from time to time. So no timer is set
//! on the way of a byte.

mod pace;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use self::pace::Pace;
use crate::server::Timeouts;
use crate::service::PublicUrl;
use crate::stream::Transport;

/// After its last word to a client that is still sending, the server listens for so long, because
/// closing at once would take the word back.
const LINGER: Duration = Duration::from_secs(3);

/// A closed connection that still lingers takes at most so many bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address; never an IPv4 one written as IPv6.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix,
}

impl Peer {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address, without the port; none over a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

/// The address without the port, which is what logs and fail2ban want; `unix` where there is none.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.ip().fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Milliseconds since the process first looked, never 0. Good for measuring silence, and small
/// enough for an atomic.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A point in time, or none.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU64);

impl Mark {
    pub(crate) fn set(&self) {
        self.0.store(now(), Ordering::Relaxed);
    }

    pub(crate) fn set_if_none(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.set();
        }
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// What is left of `limit` since this point; none where there is no point.
    pub(crate) fn left(&self, limit: Duration) -> Option<Duration> {
        let since = self.0.load(Ordering::Relaxed);
        let passed = now().saturating_sub(since);
        (since != 0).then(|| Duration::from_millis(millis(limit).saturating_sub(passed)))
    }
}

/// A connection, as its requests see it.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    tls: bool,
    http2: bool,
    /// Of its listener, as clients know it.
    public_url: Option<PublicUrl>,
    /// Requests under way, with the rest of their bodies.
    busy: AtomicUsize,
    /// Waiting for a request since then.
    idle: Mark,
    /// Waiting for the end of a request's head since then. HTTP/1 only: in HTTP/2 other things
    /// than heads come in between.
    head: Mark,
    /// Bytes of a head have come.
    head_begun: AtomicBool,
    /// The client has taken nothing since then.
    blocked: Mark,
    /// Closing, and listening for the client's end, since then.
    lingering: Mark,
    /// The client may still be sending something that nobody will read.
    unread: AtomicBool,
    /// The connection must end with a reset, because a clean end would say that all is well.
    reset: AtomicBool,
}

/// What to do about a connection's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing; look again after this time.
    Fine(Duration),
    /// No request for so long: end it politely.
    Idle,
    /// End it; the text says why.
    TooLong(&'static str),
}

impl Connection {
    pub(crate) fn new(
        peer: Peer,
        transport: &Transport,
        public_url: Option<PublicUrl>,
    ) -> Arc<Self> {
        let connection = Self {
            peer,
            tls: matches!(transport, Transport::Tls(_)),
            http2: transport.is_http2(),
            public_url,
            busy: AtomicUsize::new(0),
            idle: Mark::default(),
            head: Mark::default(),
            head_begun: AtomicBool::new(false),
            blocked: Mark::default(),
            lingering: Mark::default(),
            unread: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        };
        connection.idle.set();
        if !connection.http2 {
            // Who connects has something to say: the first head has no idle time before it.
            connection.head.set();
        }
        Arc::new(connection)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// True over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// True for HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// What the operator says that clients call the server.
    pub fn public_url(&self) -> Option<&PublicUrl> {
        self.public_url.as_ref()
    }

    /// The head of a request is complete.
    pub(crate) fn begin(self: &Arc<Self>) -> Arc<Exchange> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.head.clear();
        self.head_begun.store(false, Ordering::Relaxed);
        Arc::new(Exchange { connection: self.clone(), upload_stalled: AtomicBool::new(false) })
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Whether the connection has been silent for too long.
    pub(crate) fn silence(&self, timeouts: &Timeouts) -> Silence {
        let waits = [
            (self.lingering.left(LINGER), "the client did not close"),
            (self.blocked.left(timeouts.download_stall), "the client takes nothing"),
            (
                self.head.left(timeouts.head).filter(|_| !self.is_busy()),
                "the head of the request did not come",
            ),
        ];
        let idle = self.idle.left(timeouts.idle).filter(|_| !self.is_busy());
        // What begins to wait from now on cannot wait for too long before that.
        let mut next = timeouts.shortest().min(LINGER);
        for (left, reason) in waits {
            match left {
                Some(Duration::ZERO) => return Silence::TooLong(reason),
                Some(left) => next = next.min(left),
                None => {}
            }
        }
        match idle {
            Some(Duration::ZERO) => Silence::Idle,
            Some(left) => Silence::Fine(next.min(left)),
            None => Silence::Fine(next),
        }
    }

    /// True where the client may be in the middle of sending when the server closes.
    fn must_linger(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.head_begun.load(Ordering::Relaxed)
    }
}

/// A request under way on a connection, until its reply and its own body have both ended.
#[derive(Debug)]
pub struct Exchange {
    connection: Arc<Connection>,
    upload_stalled: AtomicBool,
}

impl Exchange {
    /// The connection that the request came over.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The rest of the request's body will not be read.
    pub(crate) fn leave_unread(&self) {
        self.connection.unread.store(true, Ordering::Relaxed);
    }

    /// True where no request can follow on this connection, because the rest of a body would be
    /// in its way.
    pub(crate) fn is_last(&self) -> bool {
        !self.connection.http2 && self.connection.unread.load(Ordering::Relaxed)
    }

    /// The client stopped sending the body.
    pub(crate) fn set_upload_stalled(&self) {
        self.upload_stalled.store(true, Ordering::Relaxed);
    }

    /// True where the client stopped sending the body.
    pub(crate) fn upload_stalled(&self) -> bool {
        self.upload_stalled.load(Ordering::Relaxed)
    }

    /// A reply breaks off whose end is the end of the connection: that must not look like one.
    pub(crate) fn reset(&self) {
        self.connection.reset.store(true, Ordering::Relaxed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.connection.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.connection.idle.set();
        }
    }
}

/// The transport, with its comings and goings noted.
pub(crate) struct Watched {
    transport: Transport,
    connection: Arc<Connection>,
    /// Our side is closed; so many bytes may still come.
    lingering: Option<usize>,
    pace: Pace,
}

impl Watched {
    pub(crate) fn new(transport: Transport, connection: Arc<Connection>) -> Self {
        Self { transport, connection, lingering: None, pace: Pace::default() }
    }

    /// Notes whether the client takes what it is sent.
    fn note<T>(&self, poll: Poll<T>) -> Poll<T> {
        match poll {
            Poll::Pending => self.connection.blocked.set_if_none(),
            Poll::Ready(_) if self.connection.blocked.is_set() => self.connection.blocked.clear(),
            Poll::Ready(_) => {}
        }
        poll
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Relaxed) {
            self.transport.socket().reset_on_close();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let at_once = self.pace.at_once();
        let mut transport = (&mut self.transport).take(at_once);
        let poll = Pin::new(&mut transport).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        match poll {
            Poll::Pending => self.pace.wait(Instant::now),
            Poll::Ready(_) => self.pace.read(read as u64, Instant::now),
        }
        if read > 0 && !self.connection.is_busy() && !self.connection.http2 {
            self.connection.head.set_if_none();
            self.connection.head_begun.store(true, Ordering::Relaxed);
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.transport).poll_flush(context);
        self.note(poll)
    }

    /// Closes our side. Where the client may still be sending, waits for its end: a socket that
    /// is closed with bytes unread resets the connection, and the reply would be lost.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut left = match this.lingering {
            Some(left) => left,
            None => {
                let poll = Pin::new(&mut this.transport).poll_shutdown(context);
                ready!(this.note(poll))?;
                if !this.connection.must_linger() {
                    return Poll::Ready(Ok(()));
                }
                this.connection.lingering.set();
                LINGER_BYTES
            }
        };
        let mut bytes = [0; 8 * 1024];
        while left > 0 {
            this.lingering = Some(left);
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut this.transport).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    left = left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        this.lingering = Some(0);
        Poll::Ready(Ok(()))
    }
}
