//! Downloads.
//!
//! Bytes in the page cache are read on the caller's thread without waiting (`RWF_NOWAIT`), all
//! others on a thread that may block. If a blob becomes shorter while it is read, the body ends
//! with an error, never early.

use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::readers::Reading;
use super::tree::{Opened, Tree};
use super::{Inner, errors, xattr};
use crate::body::{Body, BodyError};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Download, Info, Part};

/// Bytes of one chunk of a body. Measured by `benches/throughput.rs`; see [`disk`](super).
pub(super) const CHUNK: usize = 128 * 1024;
/// Bytes announced to the kernel as being read in order. From then on Linux reads ahead twice as
/// far in the whole file; ZFS prefetches just these bytes.
const READAHEAD: u64 = 1024 * 1024;
/// Smaller chunks get memory of their own size instead of a buffer of [`CHUNK`] bytes.
const SMALL: usize = 16 * 1024;
/// Buffers kept for later reads.
const MAX_SPARE: usize = 32;

/// What is known about a blob.
pub(super) async fn head(store: &Arc<Inner>, key: &Key) -> Result<Info> {
    let (_file, info, _reading) = open(store, key).await?;
    Ok(info)
}

/// Opens a blob, or a part of it.
pub(super) async fn get(store: &Arc<Inner>, key: &Key, part: Part) -> Result<Download> {
    let (file, info, reading) = open(store, key).await?;
    let (offset, length) =
        part.within(info.size).ok_or(StoreError::OutOfRange { size: info.size })?;
    let body = if length == 0 {
        Body::empty()
    } else {
        let path = store.path_of(key.as_str());
        let buffers = Arc::clone(&store.buffers);
        let reader = BlobReader {
            file: Arc::new((file, reading)),
            path,
            offset,
            left: length,
            nowait: true,
            advised: false,
            buffers,
        };
        Body::from_stream(Some(length), stream::try_unfold(reader, BlobReader::next))
    };
    Ok(Download { info, offset, length, body })
}

async fn open(store: &Arc<Inner>, key: &Key) -> Result<(std::fs::File, Info, Reading)> {
    let cached = store.root.cached().and_then(|tree| {
        let found = store.read_cached_blob(&tree, key)?;
        Some(described_to_read(store, &tree, key, found))
    });
    let found = match cached {
        Some(found) => found,
        None => {
            let (store, key) = (Arc::clone(store), key.clone());
            errors::blocking(move || {
                let tree = store.tree()?;
                let found = store.read_blob(&tree, &key);
                tree.settle(described_to_read(&store, &tree, &key, found))
            })
            .await
        }
    };
    found?.ok_or(StoreError::NotFound)
}

fn described_to_read(
    store: &Inner,
    tree: &Tree,
    key: &Key,
    found: Result<Option<(Opened, Reading)>>,
) -> Result<Option<(std::fs::File, Info, Reading)>> {
    let Some((opened, reading)) = found? else { return Ok(None) };
    let found = described(store, tree, key, Ok(Some(opened)))?;
    Ok(found.map(|(file, info)| (file, info, reading)))
}

/// What was found, unless it has expired.
pub(super) fn described(
    store: &Inner,
    tree: &Tree,
    key: &Key,
    found: Result<Option<Opened>>,
) -> Result<Option<(std::fs::File, Info)>> {
    let Some((file, stat)) = found? else {
        return Ok(None);
    };
    let info = xattr::info(tree, key, &file, &stat)?;
    Ok((!store.options.clock.has_passed(info.expires)).then(|| (file.into(), info)))
}

/// A file being read.
struct BlobReader {
    /// The file, closed before others are told that nobody reads it any more.
    file: Arc<(std::fs::File, Reading)>,
    path: PathBuf,
    offset: u64,
    left: u64,
    /// Whether this file can be read without waiting.
    nowait: bool,
    /// Whether the kernel was told that this file is read in order.
    advised: bool,
    buffers: Arc<Buffers>,
}

impl BlobReader {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        if self.left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut buffer = self.buffers.take(wanted);
        let cached = if self.nowait { self.read_cached(&mut buffer) } else { None };
        if cached.is_none() {
            let (file, path, offset) = (Arc::clone(&self.file), self.path.clone(), self.offset);
            let soon = NonZeroU64::new(self.left.min(READAHEAD)).filter(|_| !self.advised);
            self.advised = true;
            buffer = errors::blocking(move || {
                if soon.is_some() {
                    // Only a hint: if it fails, reading is slower.
                    let _ = rustix::fs::fadvise(&file.0, offset, soon, Advice::Sequential);
                }
                file.0
                    .read_exact_at(buffer.space(), offset)
                    .map_err(|error| errors::io("cannot read", path, shrank(error)))?;
                Ok(buffer)
            })
            .await
            .map_err(failed)?;
        }
        let read = buffer.length as u64;
        self.offset += read;
        self.left -= read;
        Ok(Some((Bytes::from_owner(buffer), self)))
    }

    /// Reads cached bytes and truncates the buffer to them; `None` if nothing is cached.
    fn read_cached(&mut self, buffer: &mut Buffer) -> Option<()> {
        let mut slices = [IoSliceMut::new(buffer.space())];
        let flags = ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&self.file.0, &mut slices, self.offset, flags) {
            // An unexpected end: the blocking read will report it.
            Ok(0) => None,
            Ok(read) => {
                buffer.length = read;
                Some(())
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => {
                self.nowait = false;
                None
            }
        }
    }
}

fn shrank(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the file became shorter while it was read")
        }
        _ => error,
    }
}

fn failed(error: StoreError) -> BodyError {
    match error {
        StoreError::Io { action, path, source } => BodyError::Io(io::Error::new(
            source.kind(),
            format!("{action} {}: {source}", path.display()),
        )),
        other => BodyError::Failed(other.to_string()),
    }
}

/// Reused memory for chunks. The kernel would clear a fresh buffer and map it page by page, which
/// costs more than filling it.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// A buffer that returns to its pool when the last `Bytes` that refers to it is dropped.
struct Buffer {
    memory: Vec<u8>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let memory = if length <= SMALL {
            vec![0; length]
        } else {
            let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
            spare.unwrap_or_else(|| vec![0; CHUNK])
        };
        Buffer { memory, length, home: Arc::clone(self) }
    }
}

impl Buffer {
    fn space(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.length).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.memory.len() == CHUNK {
            let mut spare = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < MAX_SPARE {
                spare.push(std::mem::take(&mut self.memory));
            }
        }
    }
}
