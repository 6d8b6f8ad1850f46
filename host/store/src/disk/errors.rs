//! Maps the system's errors to [`StoreError`], and runs blocking work. Change here which of the
//! system's errors mean "full" or "not found"; [`steps`] has what they mean for optional steps.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::steps;
use crate::error::{Result, StoreError};

/// The error of one step on one file. A full file system or quota always becomes
/// [`StoreError::NoSpace`], whichever step hit it.
pub(super) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
    source: impl Into<io::Error>,
) -> StoreError {
    let source = source.into();
    match Errno::from_io_error(&source) {
        Some(errno) if steps::is_full(errno) => StoreError::NoSpace,
        _ => StoreError::Io { action, path: path.into(), source },
    }
}

/// Whether the error means that nothing can be there: no such entry, a blob in place of a
/// folder, or a name that this file system cannot hold.
pub(super) fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG)
}

/// Runs `work` on a thread that may block. It runs to its end even if the caller stops waiting; the
/// thread then drops its result.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of such a thread.
pub(super) fn joined<T>(result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Io {
                action: "cannot run a blocking step",
                path: PathBuf::new(),
                source: io::Error::other("the process is shutting down"),
            }),
        },
    }
}
