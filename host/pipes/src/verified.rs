//! Refuses bytes that do not have the SHA-256 or checksum that they must have, before their reader has all of them.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;

use crate::meter::PIECE;

/// The same bytes. If their SHA-256 is another one, reading fails with [`BodyError::Mismatch`] instead of returning the
/// last piece: a client sees that its download is not whole.
pub fn verified(body: Body, sha256: [u8; 32]) -> Body {
    held_to(body, Expected { hasher: Sha256::new(), sum: sha256 })
}

/// As [`verified`], with the XXH3.
pub fn checked(body: Body, xxh3: u128) -> Body {
    held_to(body, Expected { hasher: XxHash3_128::new(), sum: xxh3.to_be_bytes() })
}

fn held_to<H: Hasher>(body: Body, expected: Expected<H>) -> Body {
    let length = body.length();
    let held = HeldTo { body, rest: Bytes::new(), held: None, expected };
    Body::from_stream(length, stream::unfold(Some(held), HeldTo::next))
}

/// How a sum is computed.
trait Hasher: Send + 'static {
    type Sum: AsRef<[u8]> + PartialEq + Send;
    /// The most bytes that are hashed before the reader gets them.
    const PIECE: usize;
    fn add(&mut self, bytes: &[u8]);
    fn sum(self) -> Self::Sum;
}

impl Hasher for Sha256 {
    type Sum = [u8; 32];
    const PIECE: usize = PIECE;

    fn add(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn sum(self) -> [u8; 32] {
        self.finalize().into()
    }
}

impl Hasher for XxHash3_128 {
    type Sum = [u8; 16];
    /// It is so fast that to cut up chunks would cost more than it spares.
    const PIECE: usize = 16 * PIECE;

    fn add(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }

    fn sum(self) -> [u8; 16] {
        self.finish_128().to_be_bytes()
    }
}

struct Expected<H: Hasher> {
    hasher: H,
    sum: H::Sum,
}

impl<H: Hasher> Expected<H> {
    fn check(self) -> Result<(), BodyError> {
        let actual = self.hasher.sum();
        if actual == self.sum {
            return Ok(());
        }
        Err(BodyError::Mismatch { expected: hex::encode(self.sum), actual: hex::encode(actual) })
    }
}

struct HeldTo<H: Hasher> {
    body: Body,
    /// The part of a chunk that has not been hashed yet.
    rest: Bytes,
    /// What was hashed last; passed on only when more has come or all of it was right.
    held: Option<Bytes>,
    expected: Expected<H>,
}

impl<H: Hasher> HeldTo<H> {
    async fn next(held: Option<Self>) -> Option<(Result<Bytes, BodyError>, Option<Self>)> {
        let mut this = held?;
        loop {
            while this.rest.is_empty() {
                match this.body.next().await {
                    Some(Ok(chunk)) => this.rest = chunk,
                    Some(Err(error)) => return Some((Err(error), None)),
                    None => return this.end().transpose().map(|last| (last, None)),
                }
            }
            let piece = this.rest.split_to(this.rest.len().min(H::PIECE));
            this.expected.hasher.add(&piece);
            if let Some(before) = this.held.replace(piece) {
                return Some((Ok(before), Some(this)));
            }
        }
    }

    /// The last piece, if there is one and all bytes were right.
    fn end(self) -> Result<Option<Bytes>, BodyError> {
        self.expected.check().map(|()| self.held)
    }
}
