//! A body as a handle of a guest.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use keepgate_store::Body;

use keepgate_core::Failure;

/// The host's side of a body handle; the guest may have read a part of it.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct BodyHandle {
    body: Body,
    /// Bytes that arrived and have not been read.
    rest: Bytes,
    /// Bytes that the guest has read.
    read: u64,
    /// How many pipes its bytes pass through.
    layers: u32,
}

impl BodyHandle {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new(), read: 0, layers: 0 }
    }

    /// A body whose bytes pass through this many pipes.
    pub(crate) fn piped(body: Body, layers: u32) -> Self {
        Self { layers, ..Self::new(body) }
    }

    /// The length, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.length()
    }

    /// How many pipes its bytes pass through.
    pub(crate) fn layers(&self) -> u32 {
        self.layers
    }

    /// The rest of the body, which the guest has not read.
    pub(crate) fn into_body(self) -> Body {
        if self.read == 0 && self.rest.is_empty() {
            return self.body;
        }
        let length = self.body.length().map(|length| length.saturating_sub(self.read));
        let rest = Some(self.rest).filter(|rest| !rest.is_empty());
        Body::from_stream(length, stream::iter(rest.map(Ok)).chain(self.body))
    }

    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Bytes>, Failure> {
        while self.rest.is_empty() {
            match self.body.chunk().await {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(max));
        self.read += piece.len() as u64;
        Ok(Some(piece))
    }
}
