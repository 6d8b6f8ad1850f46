//! A log of requests in a file, one line for each, as Apache's combined format has it and
//! rest-server writes it.
//!
//! Requests only put a line into a queue in memory; a thread of its own writes. What does not fit
//! is dropped, counted, and told in the program's own log: a disk that hangs must not stop
//! backups to another.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `line` | what a line looks like |
//! | `writer` | the queue, and the thread that empties it |

mod line;
mod writer;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use crate::service::{AccessLog, Visit};

use writer::Writer;

/// At the end, what is queued has so long to be written.
const AT_THE_END: Duration = Duration::from_secs(5);

/// Where a log is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The end of a file, which is made where there is none, with the mode 0644 less the umask.
    File(PathBuf),
    /// Standard output.
    StandardOutput,
}

/// `-` is standard output.
impl From<PathBuf> for LogTarget {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::StandardOutput } else { Self::File(path) }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::StandardOutput => f.write_str("standard output"),
        }
    }
}

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot write the log of requests to {target}: {source}")]
    Open {
        /// Where to.
        target: LogTarget,
        /// What the system said.
        source: io::Error,
    },
    /// No thread for it.
    #[error("cannot start the thread that writes the log of requests: {0}")]
    Thread(io::Error),
}

/// A log in the combined format. Dropping the last handle waits up to five seconds for what is
/// queued.
pub struct CombinedLog {
    target: LogTarget,
    zone: ArcSwap<TimeZone>,
    writer: Writer,
}

impl CombinedLog {
    /// Opens the log. Times are in the time zone of the system, as it is now.
    pub fn open(target: impl Into<LogTarget>) -> Result<Arc<Self>, LogError> {
        let target = match target.into() {
            // Whatever happens to the current folder.
            LogTarget::File(path) => LogTarget::File(std::path::absolute(&path).unwrap_or(path)),
            other => other,
        };
        let file = open(&target)?;
        let writer = Writer::start(file, &target.to_string()).map_err(LogError::Thread)?;
        let zone = ArcSwap::from_pointee(TimeZone::system());
        Ok(Arc::new(Self { target, zone, writer }))
    }

    /// Opens the file again, which logrotate has moved away. Where that fails, the file that is
    /// open goes on. Standard output stays what it is. Opens files: not for asynchronous threads.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.zone.store(Arc::new(TimeZone::system()));
        if self.target == LogTarget::StandardOutput {
            return Ok(());
        }
        let file = open(&self.target).inspect_err(|error| {
            tracing::error!(%error, "the log of requests goes on in the file that is open");
        })?;
        self.writer.replace(file);
        Ok(())
    }

    /// Waits until what has been told so far is written, or lost to an error; false where that
    /// takes longer than `limit`. Not for asynchronous threads.
    pub fn flush(&self, limit: Duration) -> bool {
        self.writer.flush(limit)
    }

    /// Lines that were not written, because the queue was full or the disk had an error.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }

    /// Where it is written to.
    pub fn target(&self) -> &LogTarget {
        &self.target
    }
}

fn open(target: &LogTarget) -> Result<File, LogError> {
    let opened = match target {
        LogTarget::File(path) => {
            OpenOptions::new().append(true).create(true).mode(0o644).open(path)
        }
        LogTarget::StandardOutput => io::stdout().as_fd().try_clone_to_owned().map(File::from),
    };
    opened.map_err(|source| LogError::Open { target: target.clone(), source })
}

impl AccessLog for CombinedLog {
    fn ended(&self, visit: &Visit) {
        self.writer.put(&line::of(visit, &self.zone.load()));
    }
}

impl Drop for CombinedLog {
    fn drop(&mut self) {
        if !self.writer.close(AT_THE_END) {
            tracing::error!(target_file = %self.target, "the log of requests lost its last lines");
        }
    }
}

impl fmt::Debug for CombinedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CombinedLog").field("target", &self.target).finish_non_exhaustive()
    }
}
