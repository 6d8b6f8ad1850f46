//! Recordings: real exchanges between clients and plugins as files, to inspect and replay.
//! `docs/src/recording.md` describes the files.
//!
//! Secrets are removed (`redaction` defines what counts as one). Requests only put an exchange into a
//! queue in memory, and a separate thread writes. Exchanges that do not fit into the queue or onto the
//! disk are skipped and counted: no request waits for a recording or fails because of one.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `capture` | collects one exchange while it happens |
//! | `exchange`, `body` | an exchange to be written, and what is kept of its bodies |
//! | `redaction` | removes secrets |
//! | `document` | the format of the files |
//! | `writer` | the queue, the thread that drains it, the limits |

mod body;
mod capture;
mod document;
mod exchange;
mod redaction;
mod writer;

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use capture::Recording;
use writer::Writer;

/// Limits of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Bodies up to this many bytes are kept; of larger ones only the SHA-256 and length.
    pub body: usize,
    /// Bytes of all files in the folder, including earlier recordings.
    pub bytes: u64,
    /// Exchanges in the folder, including earlier recordings.
    pub exchanges: u64,
    /// One of this many exchanges is recorded: 1 records all.
    pub every: u64,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { body: 64 << 10, bytes: 1 << 30, exchanges: 100_000, every: 1 }
    }
}

/// Why recording cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The folder cannot be created or read.
    #[error("cannot record into {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users can read the folder.
    #[error(
        "cannot record into {0}: other users can read it, and recordings contain what clients \
         sent; choose another folder, or run `chmod 700 {0}`"
    )]
    Open(String),
    /// Its thread cannot be started.
    #[error("cannot start the thread that writes recordings: {0}")]
    Thread(io::Error),
}

/// Records into a folder. Dropping the last handle waits up to five seconds for queued exchanges.
pub struct Recorder {
    limits: RecordLimits,
    seen: AtomicU64,
    writer: Writer,
}

impl Recorder {
    /// Opens a folder, which is created with the mode 0700 if it is missing. Earlier recordings stay, and
    /// count towards the limits.
    pub fn open(folder: &Path, limits: RecordLimits) -> Result<Arc<Self>, RecordError> {
        let wrong = |source| RecordError::Folder { folder: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
        if fs::metadata(folder).map_err(wrong)?.mode() & 0o077 != 0 {
            return Err(RecordError::Open(folder.display().to_string()));
        }
        let writer = Writer::start(folder, limits)?;
        Ok(Arc::new(Self { limits, seen: AtomicU64::new(0), writer }))
    }

    /// Begins to record an exchange; `None` if this one is not to be recorded.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Box<Recording>> {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let chosen = number.is_multiple_of(self.limits.every.max(1)) && !self.writer.is_full();
        chosen.then(|| Box::new(Recording::new(self.clone(), self.limits.body)))
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
