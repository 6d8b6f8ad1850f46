//! Reads a body in batches of one size, whatever the size of its chunks. This makes the work on a
//! batch worth the trip to another thread, bounds what a pipe holds, and makes the output of a
//! compressor independent of how the network split its input.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use keepgate_store::{Body, BodyError};

/// Reads a body in batches.
pub(crate) struct BatchReader {
    body: Body,
    /// Bytes of a batch.
    size: usize,
    batch: Vec<u8>,
    /// What did not fit into the last batch.
    rest: Bytes,
}

/// Some bytes of a body: as many as requested, or what was left at its end.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) last: bool,
}

impl BatchReader {
    /// Batches of `size` bytes.
    pub(crate) fn new(body: Body, size: usize) -> Self {
        Self { body, size, batch: Vec::new(), rest: Bytes::new() }
    }

    /// The next batch. If this future is dropped, what it has read is part of the next batch. Must not
    /// be called again after the last batch or an error.
    pub(crate) async fn next(&mut self) -> Result<Batch, BodyError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Polls for [`BatchReader::next`].
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Batch, BodyError>> {
        loop {
            // Copied, because a chunk may be one byte of a large buffer that it would keep alive.
            let fits = self.rest.len().min(self.size - self.batch.len());
            if fits > 0 {
                self.batch.reserve_exact(self.size - self.batch.len());
                self.batch.extend_from_slice(self.rest.get(..fits).unwrap_or_default());
                self.rest.advance(fits);
            }
            // Do not look further: whether the end was seen must not depend on timing.
            if self.batch.len() == self.size {
                return Poll::Ready(Ok(self.take(false)));
            }
            self.rest = match ready!(self.body.poll_next_unpin(context)) {
                Some(chunk) => chunk?,
                None => return Poll::Ready(Ok(self.take(true))),
            };
        }
    }

    fn take(&mut self, last: bool) -> Batch {
        Batch { bytes: std::mem::take(&mut self.batch), last }
    }
}
