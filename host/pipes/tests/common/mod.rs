//! Bodies that tests can watch.

#![allow(dead_code, reason = "each test program uses only a part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use keepgate_store::{Body, BodyError};

/// Random bytes, the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Lines of numbers, which compress well, but not to nothing.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0_u64.. {
        if text.len() >= length {
            break;
        }
        text.push_str(&format!("key {number}: value {}\n", number.wrapping_mul(7919)));
    }
    let mut bytes = text.into_bytes();
    bytes.truncate(length);
    bytes
}

/// A body in chunks of `size` bytes.
pub(crate) fn chunked(bytes: &[u8], size: usize) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Body::from_stream(Some(bytes.len() as u64), stream::iter(chunks))
}

/// A body that breaks off with an error after these bytes.
pub(crate) fn broken(bytes: &[u8]) -> Body {
    let chunks = vec![Ok(Bytes::copy_from_slice(bytes)), Err(BodyError::TimedOut)];
    Body::from_stream(None, stream::iter(chunks))
}

/// What a watched body has done.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) read: AtomicU64,
    pub(crate) dropped: AtomicBool,
}

impl Watch {
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

struct Held(Arc<Watch>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::Relaxed);
    }
}

/// `count` times the same chunk, watched.
pub(crate) fn watched(chunk: Vec<u8>, count: u64) -> (Arc<Watch>, Body) {
    let watch = Arc::new(Watch::default());
    let (held, chunk) = (Held(watch.clone()), Bytes::from(chunk));
    let length = chunk.len() as u64 * count;
    let chunks = (0..count).map(move |_| {
        held.0.read.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok(chunk.clone())
    });
    (watch, Body::from_stream(Some(length), stream::iter(chunks)))
}

/// A body that yields some bytes and then nothing more, not even its end.
pub(crate) fn stuck(bytes: &[u8]) -> Body {
    let chunk = Bytes::copy_from_slice(bytes);
    Body::from_stream(None, stream::once(async { Ok(chunk) }).chain(stream::pending()))
}

pub(crate) async fn all(body: Body) -> Result<Vec<u8>, BodyError> {
    body.collect(u64::MAX).await.map(Vec::from)
}

/// The error of a body that must have one.
pub(crate) async fn error(body: Body) -> BodyError {
    all(body).await.expect_err("the body ended without an error")
}
