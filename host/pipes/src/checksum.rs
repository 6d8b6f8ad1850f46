//! Computes the XXH3 of what passes: it finds damaged bytes in a twentieth of the time that SHA-256 takes. A CRC-64 takes
//! three times as long where processors lack AVX-512.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use twox_hash::XxHash3_128;

/// Computes a checksum of a body while it is read.
#[derive(Debug)]
pub struct Checksum(Arc<OnceLock<u128>>);

impl Checksum {
    /// Returns the checksum, and the body to use in place of the given one.
    pub fn attach(body: Body) -> (Self, Body) {
        let known = Arc::new(OnceLock::new());
        let length = body.length();
        let passing = Passing { body, hasher: XxHash3_128::new(), known: known.clone() };
        (Self(known), Body::from_stream(length, stream::try_unfold(passing, Passing::next)))
    }

    /// The XXH3 of all bytes, with 128 bits; `None` until the end of the body was read, and forever if the body failed or was
    /// dropped.
    pub fn xxh3(&self) -> Option<u128> {
        self.0.get().copied()
    }
}

struct Passing {
    body: Body,
    hasher: XxHash3_128,
    known: Arc<OnceLock<u128>>,
}

impl Passing {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        let Some(chunk) = self.body.next().await else {
            // Set only here and only once, because a body ends once.
            let _ = self.known.set(self.hasher.finish_128());
            return Ok(None);
        };
        let chunk = chunk?;
        self.hasher.write(&chunk);
        Ok(Some((chunk, self)))
    }
}
