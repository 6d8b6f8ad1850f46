//! A body, taken in pieces that fit into memory.

use std::sync::Arc;

use bytes::Bytes;
use keepgate_store::{Body, BodyError, Result, StoreError};

use crate::memory::{Memory, Reserved};
use crate::remote::Digests;

/// Bytes that are hashed on the caller's thread; more would keep it from its other work.
const SMALL: usize = 64 * 1024;

/// A body and what was read of it.
pub(crate) struct Source {
    body: Body,
    length: Option<u64>,
    taken: u64,
    /// Bytes in pieces.
    given: u64,
    /// What was read too much for the last piece.
    rest: Bytes,
    ended: bool,
}

/// Bytes in memory that was reserved for them.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// Whether the body ends here.
    pub(crate) last: bool,
    /// None if the bytes were in memory before.
    memory: Option<Reserved>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Source {
    pub(crate) fn new(body: Body) -> Self {
        Self { length: body.length(), body, taken: 0, given: 0, rest: Bytes::new(), ended: false }
    }

    /// The body's length, if it was announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Takes all of a body that is in memory already and has at most so many bytes.
    pub(crate) fn at_hand(&mut self, limit: u64) -> Option<Piece> {
        let bytes = self.body.take_at_hand(usize::try_from(limit).unwrap_or(usize::MAX))?;
        self.ended = true;
        Some(Piece { bytes, last: true, memory: None })
    }

    /// Takes the next `size` bytes, fewer only at the end. Waits for memory first.
    pub(crate) async fn take(&mut self, size: u64, memory: &Arc<Memory>) -> Result<Piece> {
        let memory = memory.reserve(size).await?;
        let left = self.length.map_or(size, |length| length.saturating_sub(self.given).min(size));
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // At once: a buffer that grows is copied, and ends up larger than what it holds.
        let mut bytes = memory.buffer(usize::try_from(left).unwrap_or(0));
        loop {
            let chunk = self.rest.split_to(self.rest.len().min(size - bytes.len()));
            bytes.extend_from_slice(&chunk);
            // A full piece is the last one if nothing follows.
            if (bytes.len() == size && !self.rest.is_empty()) || self.ended {
                break;
            }
            self.rest = self.chunk().await?.unwrap_or_default();
        }
        let last = self.ended && self.rest.is_empty();
        self.given += bytes.len() as u64;
        Ok(Piece { bytes: bytes.freeze(), last, memory: Some(memory) })
    }

    /// The next chunk that has bytes; none at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.ended {
            let Some(chunk) = self.body.chunk().await else {
                self.ended = true;
                if self.length.is_some_and(|length| self.taken < length) {
                    return Err(BodyError::Truncated);
                }
                break;
            };
            let chunk = chunk?;
            self.taken += chunk.len() as u64;
            if let Some(limit) = self.length.filter(|length| self.taken > *length) {
                return Err(BodyError::TooLarge { limit });
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

/// Computes digests, on a thread that may be busy if there are many bytes.
pub(crate) async fn digests(bytes: &Bytes, with_md5: bool) -> Result<Digests> {
    let of = if with_md5 { Digests::of } else { Digests::without_md5 };
    if bytes.len() <= SMALL {
        return Ok(of(bytes));
    }
    let bytes = bytes.clone();
    busy(move || of(&bytes)).await
}

/// Runs what takes time on a thread for that.
pub(crate) async fn busy<T: Send + 'static>(
    step: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(step).await;
    done.map_err(|error| StoreError::Unavailable(format!("the gateway is stopping: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn pieces_are_full_and_the_last_one_is_known() {
        let memory = Memory::new(1024 * 1024);
        for (total, chunk) in [(0, 1), (9, 4), (10, 3), (10, 10), (11, 11), (20, 7), (30, 1)] {
            let bytes: Bytes = (0..total).collect::<Vec<u8>>().into();
            for length in [Some(bytes.len() as u64), None] {
                let chunks: Vec<_> =
                    bytes.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
                let mut source = Source::new(Body::from_stream(length, stream::iter(chunks)));
                let mut all = Vec::new();
                loop {
                    let piece = source.take(10, &memory).await.unwrap();
                    all.extend_from_slice(&piece.bytes);
                    if piece.last {
                        break;
                    }
                    assert_eq!(piece.bytes.len(), 10);
                }
                assert_eq!(all, bytes);
            }
        }
        assert_eq!(memory.free_kib(), 1024);
    }
}
