//! How a run is to be done, and what it says while it runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::order::Order;

/// How to copy.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// What refers to what in repositories.
    pub order: Order,
    /// How many blobs are copied at once, at least 1.
    pub parallel: usize,
    /// The most bytes per second that are read from the source and written to the target.
    pub bandwidth: Option<u64>,
    /// Names of blobs whose content may change under the same key, by their last segment. All others
    /// are written once: another content is a conflict and is never replaced.
    pub replace: Vec<String>,
    /// Whether and when what is missing in the source is removed from the copy; never by default.
    pub deletes: Option<Deletes>,
    /// Where temporary files are made; the system's place if there is none.
    pub temporary: Option<PathBuf>,
    /// Ends the run early. What is in progress is dropped and leaves no trace.
    pub stop: CancellationToken,
    /// Is told how far the run is.
    pub progress: Option<ProgressCallback>,
}

impl Default for CopyOptions {
    /// Four blobs at once, restic's order, no bandwidth limit, no deletes.
    fn default() -> Self {
        Self {
            order: Order::default(),
            parallel: 4,
            bandwidth: None,
            replace: Vec::new(),
            deletes: None,
            temporary: None,
            stop: CancellationToken::new(),
            progress: None,
        }
    }
}

/// How what is missing in the source is removed from the copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletes {
    /// How long a blob must have been missing.
    pub after: Duration,
    /// The largest share of a unit's blobs in the copy, 0 to 1, that may come to be missing between two
    /// runs. If it is more, nothing is removed, and the clocks of these blobs do not start.
    pub max_missing: f64,
    /// The folder with what is known to be missing since when. It must exist and belong to this pair
    /// of stores alone.
    pub state: PathBuf,
    /// The time of this run.
    pub now: SystemTime,
}

impl Deletes {
    /// The default of `max_missing`.
    pub const MAX_MISSING: f64 = 0.5;
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blobs that were found to be new.
    pub planned_blobs: u64,
    /// Their bytes.
    pub planned_bytes: u64,
    /// Blobs of these that are done, whatever came of them.
    pub done_blobs: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
}

/// A function that is told how far a run is, at each blob and each few MiB. It must not block.
#[derive(Clone)]
pub struct ProgressCallback(Arc<dyn Fn(Progress) + Send + Sync>);

impl ProgressCallback {
    /// Wraps a function.
    pub fn new(callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    pub(crate) fn tell(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for ProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressCallback")
    }
}
