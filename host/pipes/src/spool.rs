//! Stores a body in a temporary file, so that its size and hash are known before it is passed on.
//!
//! The file has no name, so nothing is left behind however the process ends. It is not synced, since
//! nobody looks for it after a crash.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{self, Either};
use futures_util::stream;
use keepgate_store::{Body, BodyError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::batch_reader::BatchReader;
use crate::joined;

/// Bytes that are hashed and written in one step.
const BATCH: usize = 256 * 1024;
/// Bytes in a chunk that is read back.
const CHUNK: usize = 128 * 1024;
/// Prefix of the short-lived names that files have if the file system requires names.
const PREFIX: &str = ".keepgate-spool-";

/// Where bodies are stored until their end was seen.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
    limit: u64,
}

/// A body that was read to its end.
#[derive(Debug)]
pub struct Spooled {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
    /// The same bytes again. The file exists as long as this body.
    pub body: Body,
}

/// Why a body could not be spooled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The body could not be read to its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// It is larger than the spool's limit.
    #[error("the body is larger than the {limit} bytes that may be kept in a temporary file")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The spool's file system, or the user's quota on it, is full.
    #[error("no space left for temporary files")]
    NoSpace,
    /// An I/O error; the text names the folder.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl Spool {
    /// Stores files of at most `limit` bytes in `folder`, which is made when it is first needed. Files
    /// that an earlier process left there are removed.
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        sweep(&folder);
        Self { folder, limit }
    }

    /// Reads a body to its end. If this future is dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// See [`SpoolError`]. Nothing beyond the limit is written, and a body that announces a length
    /// over the limit is not read.
    pub async fn read(&self, body: Body) -> Result<Spooled, SpoolError> {
        let (limit, announced) = (self.limit, body.length());
        if announced.is_some_and(|length| length > limit) {
            return Err(SpoolError::TooLarge { limit });
        }
        let folder = self.folder.clone();
        let opened = joined(spawn_blocking(move || SpoolWriter::create(folder)).await);
        let mut writer = opened.map_err(SpoolError::Io)??;
        let mut source = BatchReader::new(body, BATCH);
        let mut size = 0;
        let mut batch = source.next().await?;
        loop {
            size += batch.bytes.len() as u64;
            check(size, batch.last, announced, limit)?;
            let last = batch.last;
            let writing = spawn_blocking(move || writer.write(&batch.bytes));
            if last {
                let writer = joined(writing.await).map_err(SpoolError::Io)??;
                return Ok(writer.finish(size));
            }
            let reading = pin!(source.next());
            (writer, batch) = match future::select(writing, reading).await {
                // A failing disk ends this even while the sender is silent.
                Either::Left((written, reading)) => {
                    (joined(written).map_err(SpoolError::Io)??, reading.await?)
                }
                Either::Right((batch, writing)) => {
                    let batch = batch?;
                    (joined(writing.await).map_err(SpoolError::Io)??, batch)
                }
            };
        }
    }
}

/// Checks the first `size` bytes of a body.
fn check(size: u64, last: bool, announced: Option<u64>, limit: u64) -> Result<(), SpoolError> {
    if size > limit {
        return Err(SpoolError::TooLarge { limit });
    }
    match announced {
        Some(length) if size > length => Err(BodyError::TooLarge { limit: length }.into()),
        Some(length) if last && size < length => Err(BodyError::Truncated.into()),
        _ => Ok(()),
    }
}

struct SpoolWriter {
    file: UnnamedFile,
    folder: PathBuf,
    hasher: Sha256,
}

impl SpoolWriter {
    fn create(folder: PathBuf) -> Result<Self, SpoolError> {
        let opened = open(&folder).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                open(&folder)
            }
            _ => Err(error),
        });
        let file = opened
            .map_err(|error| spool_error("cannot create a temporary file in", &folder, &error))?;
        Ok(Self { file: UnnamedFile(Some(file)), folder, hasher: Sha256::new() })
    }

    fn write(mut self, bytes: &[u8]) -> Result<Self, SpoolError> {
        self.hasher.update(bytes);
        let written = self.file.get().and_then(|mut file| file.write_all(bytes));
        match written {
            Ok(()) => Ok(self),
            Err(error) => {
                Err(spool_error("cannot write a temporary file in", &self.folder, &error))
            }
        }
    }

    fn finish(self, size: u64) -> Spooled {
        let Self { file, folder, hasher } = self;
        let reader = SpoolReader { file: Arc::new(file), folder, offset: 0, size };
        let body = match size {
            0 => Body::empty(),
            size => Body::from_stream(Some(size), stream::try_unfold(reader, SpoolReader::next)),
        };
        Spooled { size, sha256: hasher.finalize().into(), body }
    }
}

struct SpoolReader {
    file: Arc<UnnamedFile>,
    folder: PathBuf,
    offset: u64,
    size: u64,
}

impl SpoolReader {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        let wanted = usize::try_from(self.size - self.offset).unwrap_or(CHUNK).min(CHUNK);
        if wanted == 0 {
            return Ok(None);
        }
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let reading = spawn_blocking(move || {
            let mut bytes = vec![0; wanted];
            file.get()?.read_exact_at(&mut bytes, offset).map(|()| bytes)
        });
        let bytes = joined(reading.await).flatten().map_err(|error| {
            with_context("cannot read a temporary file in", &self.folder, &error)
        })?;
        self.offset += bytes.len() as u64;
        Ok(Some((bytes.into(), self)))
    }
}

/// A file without a name. Freeing the space of a large one takes a while, so dropping it leaves that to
/// a thread that may block.
struct UnnamedFile(Option<File>);

impl UnnamedFile {
    fn get(&self) -> io::Result<&File> {
        self.0.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let (Some(file), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

/// Opens a file without a name for reading and writing.
fn open(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::io::retry_on_intr(|| rustix::fs::open(folder, flags, mode)) {
        Ok(file) => Ok(file.into()),
        // The file system or the kernel does not support such files.
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR) => open_and_unlink(folder),
        Err(errno) => Err(errno.into()),
    }
}

/// The fallback: a file that has a name between two calls.
fn open_and_unlink(folder: &Path) -> io::Result<File> {
    let (file, path) = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)?.into_parts();
    // Removed already if another process has just swept the folder.
    match path.close() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(file),
    }
}

/// Removes files of processes that were killed between those two calls.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(file = %entry.path().display(), %error, "cannot remove a temporary file");
        }
    }
}

fn spool_error(action: &str, folder: &Path, error: &io::Error) -> SpoolError {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => SpoolError::NoSpace,
        _ => SpoolError::Io(with_context(action, folder, error)),
    }
}

fn with_context(action: &str, folder: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action} {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn temporary_files_have_no_name_once_they_are_open() {
        let folder = tempfile::tempdir().unwrap();
        for mut file in [open(folder.path()).unwrap(), open_and_unlink(folder.path()).unwrap()] {
            assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
            file.write_all(b"bytes").unwrap();
            file.rewind().unwrap();
            let mut back = String::new();
            file.read_to_string(&mut back).unwrap();
            assert_eq!(back, "bytes");
        }
        assert!(open_and_unlink(&folder.path().join("missing")).is_err());
    }
}
