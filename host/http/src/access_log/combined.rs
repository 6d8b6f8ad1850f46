//! An access log in Apache's combined format, one line per request, as rest-server writes it. The
//! format is fixed: fail2ban and log analysers read it.
//!
//! Requests only put a line into a queue in memory, and a separate thread writes. Lines that do not fit
//! are dropped, counted and reported: a hanging disk must not stop backups to another one.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `line` | the format of a line |
//! | `writer` | the queue, and the thread that drains it |

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

use super::{AccessLog, AccessLogEntry};

use writer::Writer;

/// How long closing the log waits for queued lines.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Appended to a file, which is created with the mode 0644 less the umask if it is missing.
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
    #[error("cannot write the access log to {target}: {source}")]
    Open {
        /// The file.
        target: LogTarget,
        /// The system's error.
        source: io::Error,
    },
    /// Its thread cannot be started.
    #[error("cannot start the thread that writes the access log: {0}")]
    Thread(io::Error),
}

/// A log in the combined format. Dropping the last handle waits up to five seconds for queued lines.
pub struct CombinedLog {
    target: LogTarget,
    zone: ArcSwap<TimeZone>,
    writer: Writer,
}

impl CombinedLog {
    /// Opens the log. Times are in the current time zone of the system.
    pub fn open(target: impl Into<LogTarget>) -> Result<Arc<Self>, LogError> {
        let target = match target.into() {
            // Independent of later changes of the working directory.
            LogTarget::File(path) => LogTarget::File(std::path::absolute(&path).unwrap_or(path)),
            other => other,
        };
        let file = open(&target)?;
        let writer = Writer::start(file, &target.to_string()).map_err(LogError::Thread)?;
        let zone = ArcSwap::from_pointee(TimeZone::system());
        Ok(Arc::new(Self { target, zone, writer }))
    }

    /// Reopens the file after logrotate has moved it away. If that fails, the log keeps writing to the
    /// open file. Does nothing for standard output. Blocks: do not call it on asynchronous threads.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.zone.store(Arc::new(TimeZone::system()));
        if self.target == LogTarget::StandardOutput {
            return Ok(());
        }
        let file = open(&self.target).inspect_err(|error| {
            tracing::error!(%error, "cannot reopen the access log; still writing to the old file");
        })?;
        self.writer.replace(file);
        Ok(())
    }

    /// Waits until all lines so far are written or lost to an error; returns false if that takes
    /// longer than `limit`. Blocks: do not call it on asynchronous threads.
    pub fn flush(&self, limit: Duration) -> bool {
        self.writer.flush(limit)
    }

    /// Lines that were not written because the queue was full or the disk failed.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }

    /// Where it is written.
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
    fn ended(&self, entry: &AccessLogEntry) {
        self.writer.put(&line::format(entry, &self.zone.load()));
    }
}

impl Drop for CombinedLog {
    fn drop(&mut self) {
        if !self.writer.close(CLOSE_TIMEOUT) {
            tracing::error!(file = %self.target, "last lines of the access log lost");
        }
    }
}

impl fmt::Debug for CombinedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CombinedLog").field("target", &self.target).finish_non_exhaustive()
    }
}
