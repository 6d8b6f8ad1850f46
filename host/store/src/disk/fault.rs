//! What the system said, turned into a [`StoreError`], and the way to a thread that may block.
//! Change here which of the system's errors mean "full" or "not there".

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::error::{Result, StoreError};

/// The error of one step on one file; a full file system or quota keeps its own case, whichever
/// step met it.
pub(super) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
    source: impl Into<io::Error>,
) -> StoreError {
    let source = source.into();
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT) => StoreError::NoSpace,
        _ => StoreError::Io { action, path: path.into(), source },
    }
}

/// A symbolic link stands where a folder or a blob should.
pub(super) fn symlink(name: &str) -> StoreError {
    StoreError::Denied(format!(
        "{name}: this name, or a folder in it, is a symbolic link, and the store follows none"
    ))
}

/// Nothing can be there: no entry, a blob in the place of a folder, a name that this file system
/// cannot hold.
pub(super) fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG)
}

/// The kernel or the file system does not know this call or this flag.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS)
}

/// Runs `work` on a thread that may block. It runs to its end even where the caller does not wait
/// for it; what it returns is then dropped there.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// What such a thread gave back.
pub(super) fn joined<T>(result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Io {
                action: "waiting for a thread",
                path: PathBuf::new(),
                source: io::Error::other("the process is shutting down"),
            }),
        },
    }
}
