//! The async side of an upload: while one batch of the body is hashed and written on a thread that
//! may block, the next one is read.
//!
//! An upload holds at most two batches of [`BATCH`] bytes, or what a slow sender sends within
//! [`FLUSH_AFTER`] if that is less, and holds no thread while it waits for its sender. A body that
//! is in memory and fits into one batch needs a single trip to another thread.

use std::collections::VecDeque;
use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use tokio::time::{Instant, timeout_at};

use super::tree::Tree;
use super::upload::Upload;
use super::{Inner, errors, read};
use crate::body::{Body, BodyError};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Piece, PutOptions, Stored};

/// Bytes collected before they are hashed and written. Measured by `benches/throughput.rs`; see
/// [`disk`](super).
const BATCH: usize = 256 * 1024;
/// A partial batch is written after this time. A sender fast enough to fill a batch in it (25 MiB/s)
/// is not slowed down by smaller ones, and a slower one needs no memory for larger ones.
const FLUSH_AFTER: Duration = Duration::from_millis(10);
/// The most chunks in a batch, however small they are.
const CHUNKS: usize = 256;
/// Bytes copied by [`concat()`] between checks whether its caller is still there.
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
        return errors::blocking(move || {
            let mut upload = Upload::begin(store, key, options)?;
            upload.write(&[bytes])?;
            upload.finish()
        })
        .await;
    }
    let mut upload = errors::blocking(move || Upload::begin(store, key, options)).await?;
    let mut source = Source { length: body.length(), body, taken: 0 };
    let mut batch = source.next_batch().await?;
    while !batch.last {
        let writing = tokio::task::spawn_blocking(move || {
            upload.write(&batch.chunks)?;
            Ok(upload)
        });
        let reading = pin!(source.next_batch());
        (upload, batch) = match future::select(writing, reading).await {
            // A failing disk ends the upload even while its sender is silent.
            Either::Left((written, reading)) => (errors::joined(written)?, reading.await?),
            Either::Right((batch, writing)) => {
                // Wait for the write before reporting a failure, so that nothing is left of the
                // upload by then.
                let written = errors::joined(writing.await);
                let batch = batch?;
                (written?, batch)
            }
        };
    }
    errors::blocking(move || {
        upload.write(&batch.chunks)?;
        upload.finish()
    })
    .await
}

/// A body and the number of bytes read from it.
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
    async fn next_batch(&mut self) -> Result<Batch, BodyError> {
        let mut batch = Batch::default();
        let mut size = 0;
        let mut until = None;
        // At the announced length, one more read finds out whether it is the end.
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
            until.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
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
    let mut join = errors::blocking(move || {
        let tree = store.tree()?;
        let mut rest = VecDeque::with_capacity(pieces.len());
        let mut size = 0_u64;
        for piece in pieces {
            let found = Range::find(&store, &tree, piece)?;
            size = size.saturating_add(found.length);
            rest.push_back(found);
        }
        if let Some(observer) = &options.observer {
            observer.admit(size)?;
        }
        let upload = Upload::begin(Arc::clone(&store), key, options)?;
        Ok(Join { store, tree, upload, rest, open: None })
    })
    .await?;
    while join.open.is_some() || !join.rest.is_empty() {
        join = errors::blocking(move || {
            join.step()?;
            Ok(join)
        })
        .await?;
    }
    errors::blocking(move || join.upload.finish()).await
}

/// Pieces being joined. One source is open at a time, because there may be more pieces than a
/// process may have open files.
struct Join {
    store: Arc<Inner>,
    tree: Tree,
    upload: Upload,
    /// Pieces that have not been started.
    rest: VecDeque<Range>,
    open: Option<OpenRange>,
}

/// Bytes of a blob in the version that was found when all pieces were checked.
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
                self.open = Some(range.open(&self.store, &self.tree)?);
                // Opening a blob costs something even if the piece is empty.
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
    fn find(store: &Inner, tree: &Tree, Piece { key, part }: Piece) -> Result<Self> {
        let found = read::described(store, tree, &key, tree.blob(key.as_str()))?;
        let (_, info) = found.ok_or(StoreError::NotFound)?;
        let size = info.size;
        let (offset, length) = part.within(size).ok_or(StoreError::OutOfRange { size })?;
        Ok(Self { key, etag: info.etag, offset, length })
    }

    fn open(self, store: &Inner, tree: &Tree) -> Result<OpenRange> {
        let found = read::described(store, tree, &self.key, tree.blob(self.key.as_str()))?;
        let (file, info) = found.ok_or(StoreError::NotFound)?;
        if info.etag != self.etag {
            return Err(StoreError::PreconditionFailed);
        }
        let end = self.offset.saturating_add(self.length);
        Ok(OpenRange { file, offset: self.offset, end })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn a_slow_senders_bytes_are_passed_on_before_the_batch_is_full() {
        let chunk = Bytes::from_static(b"a little");
        let sent = chunk.clone();
        let chunks = stream::once(async { Ok(sent) }).chain(stream::pending());
        let length = Some(1024);
        let mut source = Source { body: Body::from_stream(length, chunks), length, taken: 0 };
        let gathering = tokio::time::timeout(Duration::from_secs(20), source.next_batch());
        let batch = gathering.await.unwrap().unwrap();
        assert_eq!(batch.chunks, [chunk]);
        assert!(!batch.last);
        assert_eq!(source.taken, 8);
    }
}
