//! Measures size and hash of what passes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use sha2::{Digest as _, Sha256};

/// Bytes that are hashed before the reader gets them, some 50 µs of work: more would delay the
/// thread's other tasks.
pub(crate) const PIECE: usize = 64 * 1024;

/// Counts and hashes a body while it is read.
#[derive(Debug)]
pub struct Meter(Arc<OnceLock<Sum>>);

/// The size and hash of a whole body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sum {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
}

impl Meter {
    /// Returns the meter, and the body to use in place of the given one.
    pub fn attach(body: Body) -> (Self, Body) {
        let sum = Arc::new(OnceLock::new());
        let length = body.length();
        let passing =
            Passing { body, held: Bytes::new(), size: 0, hasher: Sha256::new(), sum: sum.clone() };
        (Self(sum), Body::from_stream(length, stream::try_unfold(passing, Passing::next)))
    }

    /// `None` until the end of the body was read, and forever if the body failed or was dropped.
    pub fn sum(&self) -> Option<Sum> {
        self.0.get().copied()
    }
}

struct Passing {
    body: Body,
    /// The part of a chunk that has not been passed on yet.
    held: Bytes,
    size: u64,
    hasher: Sha256,
    sum: Arc<OnceLock<Sum>>,
}

impl Passing {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        while self.held.is_empty() {
            self.held = match self.body.next().await {
                Some(chunk) => chunk?,
                None => {
                    let sha256 = self.hasher.finalize().into();
                    // Set only here and only once, because a body ends once.
                    let _ = self.sum.set(Sum { size: self.size, sha256 });
                    return Ok(None);
                }
            };
        }
        let piece = self.held.split_to(self.held.len().min(PIECE));
        self.hasher.update(&piece);
        self.size += piece.len() as u64;
        Ok(Some((piece, self)))
    }
}
