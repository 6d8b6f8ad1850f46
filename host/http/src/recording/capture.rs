//! Collects one exchange while it happens: heads without secrets, and bodies up to a limit. Only larger
//! bodies are hashed, so that a small request costs no more than a copy.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, StatusCode, request};
use keepgate_core::Principal;
use keepgate_store::{Body, BodyError};
use sha2::{Digest as _, Sha256};

use super::Recorder;
use super::body::{Captured, Content};
use super::exchange::RecordedExchange;
use super::redaction::RedactedHead;

/// An exchange that is being recorded. It is written when the request ends.
pub(crate) struct Recording {
    recorder: Arc<Recorder>,
    limit: usize,
    pub(super) exchange: RecordedExchange,
    request_body: Arc<Mutex<Capture>>,
    reply_body: Capture,
}

impl Recording {
    pub(super) fn new(recorder: Arc<Recorder>, limit: usize) -> Self {
        let exchange = RecordedExchange {
            begun: SystemTime::now(),
            took: Duration::ZERO,
            mount: String::new(),
            plugin: String::new(),
            digest: None,
            user: None,
            method: String::new(),
            path: String::new(),
            query: None,
            request: RedactedHead::default(),
            request_body: Captured::default(),
            status: None,
            reply: RedactedHead::default(),
            reply_body: Captured::default(),
        };
        let capture = || Capture { limit, ..Capture::default() };
        let request_body = Arc::new(Mutex::new(capture()));
        Self { recorder, limit, exchange, request_body, reply_body: capture() }
    }

    /// Sets the handler: the mount's path, the plugin's name and the digest of its component.
    pub(crate) fn mount(&mut self, mount: &str, plugin: &str, digest: Option<&str>) {
        self.exchange.mount = mount.to_owned();
        self.exchange.plugin = plugin.to_owned();
        self.exchange.digest = digest.map(|digest| format!("sha256:{digest}"));
    }

    /// Sets the request's head. `withheld` are headers that a trusted proxy sets.
    pub(crate) fn request<'a>(
        &mut self,
        head: &request::Parts,
        user: Option<&Principal>,
        withheld: impl Iterator<Item = &'a HeaderName>,
    ) {
        let exchange = &mut self.exchange;
        exchange.method = head.method.as_str().to_owned();
        exchange.path = head.uri.path().to_owned();
        exchange.user = user.map(|user| user.name.clone());
        exchange.request = RedactedHead::of(&head.headers, withheld);
        if let Some(authority) = head.uri.authority() {
            exchange.request.host(authority.host());
        }
        exchange.query = head.uri.query().map(|query| exchange.request.query(query));
    }

    /// Wraps the request body so that it is captured while it is read.
    pub(crate) fn tap(&mut self, body: Body) -> Body {
        if body.length() == Some(0) {
            lock(&self.request_body).whole = true;
            return body;
        }
        let capture = self.request_body.clone();
        Body::from_stream(body.length(), Tapped { body, capture })
    }

    /// Sets the response's head.
    pub(crate) fn response(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.exchange.status = Some(status.as_u16());
        self.exchange.reply = RedactedHead::of(headers, std::iter::empty());
    }

    /// Captures bytes of the response body.
    pub(crate) fn sent(&mut self, bytes: &Bytes) {
        self.reply_body.take(bytes);
    }

    /// Called at the end of the response body.
    pub(crate) fn sent_all(&mut self) {
        self.reply_body.whole = true;
    }

    /// Queues the exchange for writing.
    pub(crate) fn finish(mut self, took: Duration) {
        self.exchange.took = took;
        let empty = Capture { limit: self.limit, ..Capture::default() };
        self.exchange.request_body = std::mem::replace(&mut *lock(&self.request_body), empty).end();
        self.exchange.reply_body = self.reply_body.end();
        self.recorder.writer.put(Box::new(self.exchange));
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("path", &self.exchange.path).finish_non_exhaustive()
    }
}

/// A body while it passes.
#[derive(Default)]
struct Capture {
    limit: usize,
    kept: Vec<u8>,
    length: u64,
    /// Set once the body exceeds the limit.
    hash: Option<Sha256>,
    whole: bool,
}

impl Capture {
    fn take(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        match &mut self.hash {
            Some(hash) => hash.update(bytes),
            None if self.length <= self.limit as u64 => self.kept.extend_from_slice(bytes),
            None => {
                let mut hash = Sha256::new();
                hash.update(std::mem::take(&mut self.kept));
                hash.update(bytes);
                self.hash = Some(hash);
            }
        }
    }

    fn end(self) -> Captured {
        let content = match self.hash {
            None => Content::Bytes(self.kept),
            Some(hash) => {
                let sha256 = hex::encode(hash.finalize());
                Content::Digest { sha256, length: self.length }
            }
        };
        Captured { content, whole: self.whole }
    }
}

/// A body that is captured while it is read.
struct Tapped {
    body: Body,
    capture: Arc<Mutex<Capture>>,
}

impl Stream for Tapped {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.body).poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(bytes))) => {
                let mut capture = lock(&self.capture);
                capture.take(bytes);
                // A reader that knows the length need not poll for the end.
                capture.whole |= self.body.length() == Some(capture.length);
            }
            Poll::Ready(None) => lock(&self.capture).whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}

fn lock(capture: &Mutex<Capture>) -> std::sync::MutexGuard<'_, Capture> {
    capture.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_kept_up_to_the_limit_and_hashed_beyond() {
        let take = |chunks: &[&[u8]]| {
            let mut capture = Capture { limit: 6, ..Capture::default() };
            chunks.iter().for_each(|chunk| capture.take(chunk));
            capture.end().content
        };
        assert_eq!(take(&[]), Content::Bytes(Vec::new()));
        assert_eq!(take(&[b"abc", b"def"]), Content::Bytes(b"abcdef".to_vec()));
        let sha256 = hex::encode(Sha256::digest(b"abcdefg"));
        for chunks in [&[b"abcdef".as_slice(), b"g"], &[b"abc".as_slice(), b"defg"]] {
            assert_eq!(take(chunks), Content::Digest { sha256: sha256.clone(), length: 7 });
        }
    }
}
