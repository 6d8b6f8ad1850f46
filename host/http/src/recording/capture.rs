//! What passes of one exchange: heads without their secrets, bodies up to a size. Hashing begins only
//! with a body that is larger, so that small requests cost a copy and no more.

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
use super::secrets::Heads;

/// An exchange that is being recorded. It is written when the request has ended.
pub(crate) struct Taking {
    recorder: Arc<Recorder>,
    limit: usize,
    pub(super) taken: Taken,
    request_body: Arc<Mutex<Capture>>,
    reply_body: Capture,
}

/// What there is to be written.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) begun: SystemTime,
    pub(super) took: Duration,
    pub(super) mount: String,
    pub(super) plugin: String,
    pub(super) digest: Option<String>,
    pub(super) user: Option<String>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) request: Heads,
    pub(super) request_body: Captured,
    /// None where the client went away before there was a reply.
    pub(super) status: Option<u16>,
    pub(super) reply: Heads,
    pub(super) reply_body: Captured,
}

/// What is known of a body.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) content: Content,
    /// Its end was seen.
    pub(super) whole: bool,
}

/// Of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// Of one that was too large to be kept.
    Digest {
        sha256: String,
        length: u64,
    },
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Taking {
    pub(super) fn new(recorder: Arc<Recorder>, limit: usize) -> Self {
        let taken = Taken {
            begun: SystemTime::now(),
            took: Duration::ZERO,
            mount: String::new(),
            plugin: String::new(),
            digest: None,
            user: None,
            method: String::new(),
            path: String::new(),
            query: None,
            request: Heads::default(),
            request_body: Captured::default(),
            status: None,
            reply: Heads::default(),
            reply_body: Captured::default(),
        };
        let capture = || Capture { limit, ..Capture::default() };
        let request_body = Arc::new(Mutex::new(capture()));
        Self { recorder, limit, taken, request_body, reply_body: capture() }
    }

    /// Who answers: the mount's path, the plugin's name and the digest of its component.
    pub(crate) fn mount(&mut self, mount: &str, plugin: &str, digest: Option<&str>) {
        self.taken.mount = mount.to_owned();
        self.taken.plugin = plugin.to_owned();
        self.taken.digest = digest.map(|digest| format!("sha256:{digest}"));
    }

    /// The request's head. `withheld` are headers that are between a proxy and the gateway.
    pub(crate) fn request<'a>(
        &mut self,
        head: &request::Parts,
        user: Option<&Principal>,
        withheld: impl Iterator<Item = &'a HeaderName>,
    ) {
        let taken = &mut self.taken;
        taken.method = head.method.as_str().to_owned();
        taken.path = head.uri.path().to_owned();
        taken.user = user.map(|user| user.name.clone());
        taken.request = Heads::of(&head.headers, withheld);
        if let Some(authority) = head.uri.authority() {
            taken.request.host(authority.host());
        }
        taken.query = head.uri.query().map(|query| taken.request.query(query));
    }

    /// The request's body, seen as it is read.
    pub(crate) fn tap(&mut self, body: Body) -> Body {
        if body.length() == Some(0) {
            lock(&self.request_body).whole = true;
            return body;
        }
        let capture = self.request_body.clone();
        Body::from_stream(body.length(), Tapped { body, capture })
    }

    /// The reply's head.
    pub(crate) fn reply(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.taken.status = Some(status.as_u16());
        self.taken.reply = Heads::of(headers, std::iter::empty());
    }

    /// Bytes of the reply's body.
    pub(crate) fn sent(&mut self, bytes: &Bytes) {
        self.reply_body.take(bytes);
    }

    /// The reply's body has come to its end.
    pub(crate) fn sent_all(&mut self) {
        self.reply_body.whole = true;
    }

    /// Hands over what there is to be written.
    pub(crate) fn finish(mut self, took: Duration) {
        self.taken.took = took;
        let empty = Capture { limit: self.limit, ..Capture::default() };
        self.taken.request_body = std::mem::replace(&mut *lock(&self.request_body), empty).end();
        self.taken.reply_body = self.reply_body.end();
        self.recorder.writer.put(Box::new(self.taken));
    }
}

impl std::fmt::Debug for Taking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taking").field("path", &self.taken.path).finish_non_exhaustive()
    }
}

/// A body as it passes.
#[derive(Default)]
struct Capture {
    limit: usize,
    kept: Vec<u8>,
    length: u64,
    /// From the byte on that was too many.
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

/// A body that is seen as it is read.
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
                // Who reads as many bytes as were announced need not look for the end.
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
    fn a_body_is_kept_up_to_the_limit_and_hashed_beyond() {
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
