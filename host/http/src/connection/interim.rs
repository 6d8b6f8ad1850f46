//! Interim responses (RFC 9110, section 15.2), which hyper does not send: only `100 Continue`, by itself.
//!
//! They are written below hyper, into the transport. That is safe when hyper has nothing left to write, which it says by
//! flushing the transport; so [`Watched`](super::Watched) writes them then. A response is preceded by all of those that
//! have begun; those that have not are dropped, because nobody needs them any more. HTTP/2 would need frames that only
//! hyper can send.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};

/// Bytes that may wait; an interim response that does not fit is dropped.
const MAX_WAITING: usize = 16 * 1024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Interim(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: BytesMut,
    /// The task of the connection.
    writer: Option<Waker>,
}

impl Interim {
    /// Adds an interim response.
    pub(crate) fn push(&self, status: StatusCode, headers: &[(HeaderName, HeaderValue)]) {
        let mut head = format!("HTTP/1.1 {} ", status.as_str()).into_bytes();
        head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        head.extend_from_slice(b"\r\n");
        for (name, value) in headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.len() + head.len() > MAX_WAITING {
            return;
        }
        waiting.bytes.extend_from_slice(&head);
        if let Some(writer) = waiting.writer.take() {
            writer.wake();
        }
    }

    /// Drops what has not begun to be written: the response is next.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clear();
    }

    /// What is to be written now. The writer is woken when there is more.
    pub(super) fn take(&self, writer: &Waker) -> Bytes {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.writer.as_ref().is_some_and(|it| it.will_wake(writer)) {
            waiting.writer = Some(writer.clone());
        }
        waiting.bytes.split().freeze()
    }
}
