//! What is known about a connection, and when it has been silent for too long.
//!
//! [`Watched`] sits between HTTP and the transport and notes in [`Connection`] when bytes arrive and
//! when the client stops accepting them; each request notes when it begins and ends. The task that
//! owns the connection calls [`Connection::silence`] from time to time, so no timer is set for a byte.

mod interim;
mod pace;
mod timestamp;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use keepgate_auth::PresentedCertificate;
use tokio::sync::OwnedSemaphorePermit;

use crate::peer::Peer;
use crate::public_url::PublicUrl;
use crate::server::ListenerConfig;
use crate::timeouts::Timeouts;
use crate::transport::Transport;

use self::interim::Interim;
pub(crate) use self::timestamp::Timestamp;
pub(crate) use self::watched::Watched;

/// How long the server keeps reading after its last response to a client that is still sending.
/// Closing at once would discard that response.
const LINGER: Duration = Duration::from_secs(3);

/// A connection, as its requests see it.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    tls: bool,
    http2: bool,
    certificate: Option<PresentedCertificate>,
    listener: Arc<ListenerConfig>,
    /// In-flight requests, including what is left of their bodies.
    busy: AtomicUsize,
    /// Since when it has waited for a request.
    idle: Timestamp,
    /// Since when it has waited for the end of a request's head. HTTP/1 only: in HTTP/2 other frames
    /// arrive in between.
    head: Timestamp,
    /// Whether bytes of a head have arrived.
    head_begun: AtomicBool,
    /// Since when the client has accepted nothing.
    blocked: Timestamp,
    /// Since when our side is closed and the client's is not.
    lingering: Timestamp,
    /// Whether the client may still be sending something that will not be read.
    unread: AtomicBool,
    /// Whether the connection must end with a reset, because a clean end would look like success.
    reset: AtomicBool,
    /// Whether the client has closed its side, or the connection is broken.
    hung_up: AtomicBool,
    /// HTTP/1 only.
    interim: Interim,
    /// Held until the last request has ended, which may be after the connection.
    _slot: Option<OwnedSemaphorePermit>,
}

/// What to do about a silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing; check again after this time.
    Active(Duration),
    /// No request has come for the idle timeout: close it gracefully.
    Idle,
    /// Cut it; the text says why.
    TooLong(&'static str),
}

impl Connection {
    pub(crate) fn new(
        peer: Peer,
        transport: &Transport,
        listener: Arc<ListenerConfig>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Arc<Self> {
        let connection = Self {
            peer,
            tls: matches!(transport, Transport::Tls(_)),
            http2: transport.is_http2(),
            certificate: PresentedCertificate::new(transport.client_certificates()),
            listener,
            busy: AtomicUsize::new(0),
            idle: Timestamp::default(),
            head: Timestamp::default(),
            head_begun: AtomicBool::new(false),
            blocked: Timestamp::default(),
            lingering: Timestamp::default(),
            unread: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            interim: Interim::default(),
            _slot: slot,
        };
        connection.idle.set();
        if !connection.http2 {
            // A client connects in order to send a request: the idle timeout does not apply before the first.
            connection.head.set();
        }
        Arc::new(connection)
    }

    /// Who speaks HTTP at the other end: a client, or a proxy that does so for it.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// True over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The certificate that the client presented, whoever trusts it.
    pub(crate) fn certificate(&self) -> Option<&PresentedCertificate> {
        self.certificate.as_ref()
    }

    /// True for HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// The URL by which clients reach the server, if the operator has configured it.
    pub fn public_url(&self) -> Option<&PublicUrl> {
        self.listener.public_url.as_ref()
    }

    /// Where interim responses to its present request go; `None` in HTTP/2.
    pub(crate) fn interim(&self) -> Option<&Interim> {
        (!self.http2).then_some(&self.interim)
    }

    /// Called when the head of a request is complete.
    pub(crate) fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Arc<Exchange> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.head.clear();
        self.head_begun.store(false, Ordering::Relaxed);
        let proxies = self.listener.proxies.as_ref();
        let client = proxies.map_or(self.peer, |proxies| proxies.client(self.peer, headers));
        let body_stalled = AtomicBool::new(false);
        Arc::new(Exchange { connection: self.clone(), client, body_stalled })
    }

    /// True if nothing more can come from the client.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Checks whether the connection has been silent for too long.
    pub(crate) fn silence(&self, timeouts: &Timeouts) -> Silence {
        let waits = [
            (self.lingering.remaining(LINGER), "the client did not close its side"),
            (self.blocked.remaining(timeouts.download_stall), "the client accepts no data"),
            (
                self.head.remaining(timeouts.head).filter(|_| !self.is_busy()),
                "no complete request head arrived",
            ),
        ];
        let idle = self.idle.remaining(timeouts.idle).filter(|_| !self.is_busy());
        // Whatever starts waiting after this check cannot reach its timeout before the next.
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
            Some(left) => Silence::Active(next.min(left)),
            None => Silence::Active(next),
        }
    }

    /// Whether the client may still be sending when the server closes.
    fn must_linger(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.head_begun.load(Ordering::Relaxed)
    }
}

/// An in-flight request, until both its response and its own body have ended.
#[derive(Debug)]
pub struct Exchange {
    connection: Arc<Connection>,
    client: Peer,
    body_stalled: AtomicBool,
}

impl Exchange {
    /// The connection on which the request arrived.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whose request it is: the connection's peer, or the client that a trusted proxy names.
    pub fn client(&self) -> Peer {
        self.client
    }

    /// Notes that the rest of the request body will not be read.
    pub(crate) fn leave_unread(&self) {
        self.connection.unread.store(true, Ordering::Relaxed);
    }

    /// True if no request can follow on this connection, because an unread body would be in its way.
    pub(crate) fn is_last(&self) -> bool {
        !self.connection.http2 && self.connection.unread.load(Ordering::Relaxed)
    }

    /// Notes that the client stopped sending the body.
    pub(crate) fn set_body_stalled(&self) {
        self.body_stalled.store(true, Ordering::Relaxed);
    }

    /// True if the client stopped sending the body.
    pub(crate) fn body_stalled(&self) -> bool {
        self.body_stalled.load(Ordering::Relaxed)
    }

    /// Called when a response breaks off that ends with the connection: it must not look complete.
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
