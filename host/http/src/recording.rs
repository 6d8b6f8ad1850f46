//! Real exchanges with plugins, kept as files, to be looked at and replayed: what a client asked,
//! what the plugin answered. `docs/src/recording.md` describes the files.
//!
//! Secrets are not kept (`secrets` says what counts as one). Requests only put what they saw into a
//! queue in memory; a thread of its own writes. What does not fit, and what a full disk does not
//! take, is left out and counted: no request waits for a recording or fails with it.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `capture` | what passes of one exchange |
//! | `secrets` | what is left out |
//! | `document` | the form of the files |
//! | `writer` | the queue, the thread that empties it, the bounds |

mod capture;
mod document;
mod secrets;
mod writer;

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use capture::Taking;
use writer::Writer;

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Bodies up to so many bytes are kept; of others only the SHA-256 and length.
    pub body: usize,
    /// Bytes of all files in the folder, those of earlier recordings included.
    pub bytes: u64,
    /// Exchanges in the folder, those of earlier recordings included.
    pub exchanges: u64,
    /// One exchange of so many is kept: 1 is each.
    pub every: u64,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { body: 64 << 10, bytes: 1 << 30, exchanges: 100_000, every: 1 }
    }
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The folder cannot be made or read.
    #[error("cannot record into {}: {source}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could look into it.
    #[error(
        "cannot record into {0}: others may look into it, and recordings hold what clients sent; \
         take another folder, or `chmod 700 {0}`"
    )]
    Open(String),
    /// No thread for it.
    #[error("cannot start the thread that writes recordings: {0}")]
    Thread(io::Error),
}

/// Records into a folder. Dropping the last handle waits up to five seconds for what is queued.
pub struct Recorder {
    limits: RecordLimits,
    seen: AtomicU64,
    writer: Writer,
}

impl Recorder {
    /// A recorder into this folder, which is made with the mode 0700 where there is none. What
    /// earlier recordings left there stays, and counts.
    pub fn open(folder: &Path, limits: RecordLimits) -> Result<Arc<Self>, RecordError> {
        let wrong = |source| RecordError::Folder { folder: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
        if fs::metadata(folder).map_err(wrong)?.mode() & 0o077 != 0 {
            return Err(RecordError::Open(folder.display().to_string()));
        }
        let writer = Writer::start(folder, limits)?;
        Ok(Arc::new(Self { limits, seen: AtomicU64::new(0), writer }))
    }

    /// Begins with an exchange; none where it is not one of those that are kept.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Box<Taking>> {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let chosen = number.is_multiple_of(self.limits.every.max(1)) && !self.writer.is_full();
        chosen.then(|| Box::new(Taking::new(self.clone(), self.limits.body)))
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
