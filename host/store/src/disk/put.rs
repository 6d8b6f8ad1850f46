//! A body on its way in, seen from the async side: while one batch of it is hashed and written on
//! a thread that may block, the next is read from the body.
//!
//! A transfer holds two batches of [`BATCH`] bytes at most, what a slow sender sends in
//! [`PATIENCE`] where that is less, and no thread while it waits for its sender. Bytes that are at
//! hand and fit one batch cost one trip to another thread.

use std::collections::VecDeque;
use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use tokio::time::{Instant, timeout_at};

use super::upload::Upload;
use super::{Inner, fault, kept};
use crate::body::{Body, BodyError};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Piece, PutOptions, Stored};

/// Bytes gathered before they are hashed and written. Measured by `examples/throughput.rs`; see
/// [`disk`](super).
const BATCH: usize = 256 * 1024;
/// A batch that is not full is written after this time. A sender that fills one in it, at 25 MiB/s,
/// is not slowed down by smaller ones; one that is slower needs no memory for larger ones.
const PATIENCE: Duration = Duration::from_millis(10);
/// Chunks in a batch at most, however small they are.
const CHUNKS: usize = 256;
/// Bytes copied before [`concat()`] looks whether anybody still waits for it.
const COPY: u64 = 8 * 1024 * 1024;

/// Stores a body.
pub(super) async fn put(
    store: &Arc<Inner>,
    key: &Key,
    mut body: Body,
    options: PutOptions,
) -> Result<Stored> {
    let (store, key) = (Arc::clone(store), key.clone());
    if let Some(bytes) = body.take_at_hand(BATCH) {
        return fault::blocking(move || {
            let mut upload = Upload::begin(store, key, options)?;
            upload.write(&[bytes])?;
            upload.finish()
        })
        .await;
    }
    let mut upload = fault::blocking(move || Upload::begin(store, key, options)).await?;
    let mut source = Source { length: body.length(), body, taken: 0 };
    let mut batch = source.gather().await?;
    while !batch.last {
        let writing = tokio::task::spawn_blocking(move || {
            upload.write(&batch.chunks)?;
            Ok(upload)
        });
        let reading = pin!(source.gather());
        (upload, batch) = match future::select(writing, reading).await {
            // A disk that fails ends the upload even while its sender is silent.
            Either::Left((written, reading)) => (fault::joined(written)?, reading.await?),
            Either::Right((batch, writing)) => {
                // Awaited before a failure is told: then nothing is left of the upload.
                let written = fault::joined(writing.await);
                let batch = batch?;
                (written?, batch)
            }
        };
    }
    fault::blocking(move || {
        upload.write(&batch.chunks)?;
        upload.finish()
    })
    .await
}

/// A body, with a count of what was read of it.
struct Source {
    body: Body,
    length: Option<u64>,
    taken: u64,
}

/// Some chunks of a body.
#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    last: bool,
}

impl Source {
    async fn gather(&mut self) -> Result<Batch, BodyError> {
        let mut batch = Batch::default();
        let mut size = 0;
        let mut until = None;
        // At the announced end one more look tells whether it is the end.
        while Some(self.taken) == self.length || (size < BATCH && batch.chunks.len() < CHUNKS) {
            let chunk = self.body.chunk();
            let chunk = match until {
                None => chunk.await,
                Some(until) => match timeout_at(until, chunk).await {
                    Ok(chunk) => chunk,
                    Err(_) => break,
                },
            };
            let Some(chunk) = chunk else {
                if self.length.is_some_and(|length| self.taken < length) {
                    return Err(BodyError::Truncated);
                }
                batch.last = true;
                break;
            };
            let chunk = chunk?;
            size += chunk.len();
            self.taken += chunk.len() as u64;
            if let Some(limit) = self.length.filter(|length| self.taken > *length) {
                return Err(BodyError::TooLarge { limit });
            }
            batch.chunks.push(chunk);
            until.get_or_insert_with(|| Instant::now() + PATIENCE);
        }
        Ok(batch)
    }
}

/// Joins pieces of blobs into one.
pub(super) async fn concat(
    store: &Arc<Inner>,
    key: &Key,
    pieces: &[Piece],
    options: PutOptions,
) -> Result<Stored> {
    let (store, key, pieces) = (Arc::clone(store), key.clone(), pieces.to_vec());
    let mut join = fault::blocking(move || {
        let mut rest = VecDeque::with_capacity(pieces.len());
        let mut size = 0_u64;
        for piece in pieces {
            let found = Range::find(&store, piece)?;
            size = size.saturating_add(found.length);
            rest.push_back(found);
        }
        if let Some(witness) = &options.witness {
            witness.admit(size)?;
        }
        let upload = Upload::begin(Arc::clone(&store), key, options)?;
        Ok(Join { store, upload, rest, open: None })
    })
    .await?;
    while join.open.is_some() || !join.rest.is_empty() {
        join = fault::blocking(move || {
            join.step()?;
            Ok(join)
        })
        .await?;
    }
    fault::blocking(move || join.upload.finish()).await
}

/// Pieces being joined. One blob is open at a time: there may be more of them than a process may
/// have files open.
struct Join {
    store: Arc<Inner>,
    upload: Upload,
    /// Those not begun.
    rest: VecDeque<Range>,
    open: Option<OpenRange>,
}

/// Bytes of a blob, as it was when all pieces were looked at.
struct Range {
    key: Key,
    etag: String,
    offset: u64,
    length: u64,
}

struct OpenRange {
    file: File,
    offset: u64,
    end: u64,
}

impl Join {
    /// Copies about [`COPY`] bytes.
    fn step(&mut self) -> Result<()> {
        let mut left = COPY;
        while left > 0 {
            let Some(range) = &mut self.open else {
                let Some(range) = self.rest.pop_front() else {
                    return Ok(());
                };
                self.open = Some(range.open(&self.store)?);
                // Even an empty one costs something.
                left = left.saturating_sub(4096);
                continue;
            };
            let length = left.min(range.end - range.offset);
            self.upload.append(&range.file, range.offset, length)?;
            range.offset += length;
            left -= length;
            if range.offset == range.end {
                self.open = None;
            }
        }
        Ok(())
    }
}

impl Range {
    fn find(store: &Inner, Piece { key, part }: Piece) -> Result<Self> {
        let (_, facts) = store.tree.blob(key.as_str())?.ok_or(StoreError::NotFound)?;
        let size = facts.stx_size;
        let (offset, length) = part.within(size).ok_or(StoreError::OutOfRange { size })?;
        Ok(Self { key, etag: kept::etag(&facts), offset, length })
    }

    fn open(self, store: &Inner) -> Result<OpenRange> {
        let (file, facts) = store.tree.blob(self.key.as_str())?.ok_or(StoreError::NotFound)?;
        if kept::etag(&facts) != self.etag {
            return Err(StoreError::PreconditionFailed);
        }
        let end = self.offset.saturating_add(self.length);
        Ok(OpenRange { file: file.into(), offset: self.offset, end })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn what_a_slow_sender_sent_is_not_held_until_there_is_more() {
        let chunk = Bytes::from_static(b"a little");
        let sent = chunk.clone();
        let chunks = stream::once(async { Ok(sent) }).chain(stream::pending());
        let length = Some(1024);
        let mut source = Source { body: Body::from_stream(length, chunks), length, taken: 0 };
        let gathering = tokio::time::timeout(Duration::from_secs(20), source.gather());
        let batch = gathering.await.unwrap().unwrap();
        assert_eq!(batch.chunks, [chunk]);
        assert!(!batch.last);
        assert_eq!(source.taken, 8);
    }
}
