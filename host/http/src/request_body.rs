//! Request bodies: hyper's bodies as the bodies that stores read.
//!
//! If a body is not read to its end, the rest is discarded in the background for a while: many clients
//! read the response only after they have sent everything, and would report a network error instead of
//! the refusal if the connection closed before.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, header};
use http_body::Body as _;
use hyper::body::Incoming;
use keepgate_store::{Body, BodyError};
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::connection::Exchange;

/// How much of an unread body is discarded, and for how long.
const DRAIN_BYTES: u64 = 256 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// A request body.
struct RequestBody {
    /// `None` at the end and after an error.
    incoming: Option<Incoming>,
    /// How much of the announced length is left.
    left: Option<u64>,
    stall: Duration,
    /// Runs while `waiting` is set.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the last poll found nothing.
    waiting: bool,
    /// Whether the client waits for `100 Continue` before it sends the body, and has not had it.
    holds_back: bool,
    exchange: Arc<Exchange>,
    received: IntCounter,
    runtime: Handle,
}

/// The body of a request. `stall` is how long the client may send nothing while the body is read.
pub(crate) fn new(
    incoming: Incoming,
    headers: &HeaderMap,
    exchange: &Arc<Exchange>,
    received: &IntCounter,
    stall: Duration,
) -> Body {
    if incoming.is_end_stream() {
        return Body::empty();
    }
    let length = incoming.size_hint().exact();
    let body = RequestBody {
        incoming: Some(incoming),
        left: length,
        stall,
        timer: None,
        waiting: false,
        holds_back: headers.contains_key(header::EXPECT),
        exchange: exchange.clone(),
        received: received.clone(),
        runtime: Handle::current(),
    };
    Body::from_stream(length, body)
}

impl RequestBody {
    /// Ready when the client has sent nothing for too long.
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waiting {
                    timer.as_mut().reset(Instant::now() + self.stall);
                }
                timer
            }
            timer => timer.insert(Box::pin(sleep(self.stall))),
        };
        self.waiting = true;
        timer.as_mut().poll(context)
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.holds_back = false;
        let error = loop {
            let Some(incoming) = &mut this.incoming else {
                return Poll::Ready(None);
            };
            match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // No surface uses trailers.
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    if bytes.is_empty() {
                        continue;
                    }
                    let length = bytes.len() as u64;
                    this.left = this.left.map(|left| left.saturating_sub(length));
                    this.received.inc_by(length);
                    this.waiting = false;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                // HTTP/2: the connection ended after the last byte, and before it was read.
                Poll::Ready(Some(Err(_))) if this.left == Some(0) => {
                    this.incoming = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "request body failed"
                    );
                    break BodyError::Truncated;
                }
                Poll::Ready(None) if this.left.is_some_and(|left| left > 0) => {
                    break BodyError::Truncated;
                }
                Poll::Ready(None) => {
                    this.incoming = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    ready!(this.poll_stall(context));
                    this.exchange.set_body_stalled();
                    this.exchange.leave_unread();
                    break BodyError::TimedOut;
                }
            }
        };
        this.incoming = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        // h2 sends a reset with NO_ERROR: stop sending, and read the response.
        if incoming.is_end_stream() || self.exchange.connection().is_http2() {
            return;
        }
        let exchange = self.exchange.clone();
        if self.holds_back {
            exchange.leave_unread();
        } else {
            self.runtime.spawn(drain(incoming, exchange));
        }
    }
}

/// Discards what a client is still sending. Ends with the connection.
async fn drain(mut incoming: Incoming, exchange: Arc<Exchange>) {
    let read = async {
        let mut left = DRAIN_BYTES;
        while left > 0 {
            let frame = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context));
            let Some(frame) = frame.await else {
                return true;
            };
            let Ok(frame) = frame else { return true };
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            left = left.saturating_sub(length);
        }
        false
    };
    if timeout(DRAIN_TIME, read).await != Ok(true) {
        exchange.leave_unread();
    }
}
