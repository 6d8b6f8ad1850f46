//! Why a run ended before its end. What is wrong with single blobs is in the
//! [`Report`](crate::Report) and does not end a run.

use std::io;
use std::path::PathBuf;

use keepgate_store::StoreError;

/// The result of a step that ends the run if it fails.
pub(crate) type Result<T, E = CopyError> = std::result::Result<T, E>;

/// Why a run ended before its end. What it had copied by then stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The store that is copied cannot be read.
    #[error("cannot read the source: {0}")]
    Source(StoreError),
    /// The store that holds the copy cannot be used.
    #[error("cannot use the target: {0}")]
    Target(StoreError),
    /// A listing that does not ascend cannot be compared with another one.
    #[error("the listing of the {side} does not ascend: \"{key}\" follows \"{before}\"")]
    Unsorted {
        /// Which store: "source" or "target".
        side: &'static str,
        /// The key before.
        before: String,
        /// The key that should be greater.
        key: String,
    },
    /// A file of the run's own state.
    #[error("{action} {}: {source}", path.display())]
    State {
        /// What failed, such as "cannot write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// So many blobs failed that the next ones would fail, too.
    #[error("stopped after {0} blobs could not be copied; the report has examples")]
    TooManyFailures(u64),
}
