//! Refuses bytes that do not have the SHA-256 that they must have, before their reader has all of them.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use sha2::{Digest as _, Sha256};

use crate::meter::PIECE;

/// The same bytes. If their SHA-256 is another one, reading fails with [`BodyError::Mismatch`] instead of returning the
/// last piece: a client sees that its download is not whole.
pub fn verified(body: Body, sha256: [u8; 32]) -> Body {
    let length = body.length();
    let verified =
        Verified { body, rest: Bytes::new(), held: None, hasher: Sha256::new(), expected: sha256 };
    Body::from_stream(length, stream::unfold(Some(verified), Verified::next))
}

struct Verified {
    body: Body,
    /// The part of a chunk that has not been hashed yet.
    rest: Bytes,
    /// What was hashed last; passed on only when more has come or all of it was right.
    held: Option<Bytes>,
    hasher: Sha256,
    expected: [u8; 32],
}

impl Verified {
    async fn next(verified: Option<Self>) -> Option<(Result<Bytes, BodyError>, Option<Self>)> {
        let mut this = verified?;
        loop {
            while this.rest.is_empty() {
                match this.body.next().await {
                    Some(Ok(chunk)) => this.rest = chunk,
                    Some(Err(error)) => return Some((Err(error), None)),
                    None => return this.end().transpose().map(|last| (last, None)),
                }
            }
            let piece = this.rest.split_to(this.rest.len().min(PIECE));
            this.hasher.update(&piece);
            if let Some(before) = this.held.replace(piece) {
                return Some((Ok(before), Some(this)));
            }
        }
    }

    /// The last piece, if there is one and all bytes were right.
    fn end(self) -> Result<Option<Bytes>, BodyError> {
        let actual: [u8; 32] = self.hasher.finalize().into();
        if actual == self.expected {
            return Ok(self.held);
        }
        Err(BodyError::Mismatch {
            expected: hex::encode(self.expected),
            actual: hex::encode(actual),
        })
    }
}
