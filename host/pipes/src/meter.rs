//! Size and hash of what passes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use sha2::{Digest as _, Sha256};

/// Bytes that are hashed before whoever reads gets them, some 50 µs of work: more would hold up the
/// other tasks of a thread.
const PIECE: usize = 64 * 1024;

/// Counts and hashes a body on its way.
#[derive(Debug)]
pub struct Meter(Arc<OnceLock<Sum>>);

/// What has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sum {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
}

impl Meter {
    /// The meter, and the body to hand on in the other's place.
    pub fn attach(body: Body) -> (Self, Body) {
        let sum = Arc::new(OnceLock::new());
        let length = body.length();
        let passing =
            Passing { body, held: Bytes::new(), size: 0, hasher: Sha256::new(), sum: sum.clone() };
        (Self(sum), Body::from_stream(length, stream::try_unfold(passing, Passing::next)))
    }

    /// None until the end of the body was seen; and for ever where it failed, or was dropped before.
    pub fn sum(&self) -> Option<Sum> {
        self.0.get().copied()
    }
}

struct Passing {
    body: Body,
    /// What came in one chunk and has not passed yet.
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
                    // Set here only, and once: a body ends once.
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
