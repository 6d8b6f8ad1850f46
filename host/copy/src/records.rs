//! Lists of records in files, one JSON document per line, written and read in batches on threads
//! that may block. They keep a run's memory bounded whatever the number of blobs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CopyError, Result};

/// Records in memory before they are written, or after they were read.
pub(crate) const BATCH: usize = 4096;
/// The longest line that is read: a key has at most 1024 bytes, each at most six in JSON.
const MAX_LINE: u64 = 64 * 1024;

/// Writes records into a file.
#[derive(Debug)]
pub(crate) struct RecordWriter<T> {
    file: Option<BufWriter<File>>,
    pending: Vec<T>,
    path: PathBuf,
}

impl<T: Serialize + Send + 'static> RecordWriter<T> {
    /// Appends to a file; the path is for messages.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        Self { file: Some(BufWriter::new(file)), pending: Vec::new(), path: path.to_owned() }
    }

    pub(crate) async fn push(&mut self, record: T) -> Result<()> {
        self.pending.push(record);
        if self.pending.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let Some(mut file) = self.file.take() else { return Err(self.failed(broken())) };
        let written = blocking(move || {
            for record in &pending {
                serde_json::to_writer(&mut file, record)?;
                file.write_all(b"\n")?;
            }
            Ok(file)
        });
        self.file = Some(written.await.map_err(|error| self.failed(error))?);
        Ok(())
    }

    /// Writes what is pending and returns the file, at its end.
    pub(crate) async fn finish(mut self) -> Result<File> {
        self.flush().await?;
        let Some(file) = self.file.take() else { return Err(self.failed(broken())) };
        let path = self.path;
        blocking(move || file.into_inner().map_err(io::IntoInnerError::into_error))
            .await
            .map_err(|source| CopyError::State { action: "cannot write", path, source })
    }

    fn failed(&self, source: io::Error) -> CopyError {
        CopyError::State { action: "cannot write", path: self.path.clone(), source }
    }
}

/// Reads records from a file.
#[derive(Debug)]
pub(crate) struct RecordReader<T> {
    file: Option<BufReader<File>>,
    ready: VecDeque<T>,
    path: PathBuf,
}

impl<T: DeserializeOwned + Send + 'static> RecordReader<T> {
    /// Reads from where the file is positioned; the path is for messages.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        let file = Some(BufReader::new(file));
        Self { file, ready: VecDeque::new(), path: path.to_owned() }
    }

    /// The next record; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<T>> {
        if self.ready.is_empty()
            && let Some(mut file) = self.file.take()
        {
            let read = blocking(move || {
                let mut batch = VecDeque::new();
                while batch.len() < BATCH {
                    let mut line = Vec::new();
                    let length =
                        io::Read::take(&mut file, MAX_LINE).read_until(b'\n', &mut line)?;
                    if length == 0 {
                        return Ok((None, batch));
                    }
                    batch.push_back(serde_json::from_slice(&line)?);
                }
                Ok((Some(file), batch))
            });
            (self.file, self.ready) = read.await.map_err(|source| CopyError::State {
                action: "cannot read",
                path: self.path.clone(),
                source,
            })?;
        }
        Ok(self.ready.pop_front())
    }
}

/// Runs work that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn broken() -> io::Error {
    io::Error::other("an earlier write failed")
}
