//! Why a store refused. The HTTP side turns each case into one status in one place
//! (`keepgate-http`, `status.rs`); nothing here knows about statuses.

use std::io;
use std::path::PathBuf;

use crate::body::BodyError;

/// The result of a store's call.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such blob, or no such folder.
    #[error("not found")]
    NotFound,
    /// Another blob holds the key.
    #[error("another blob is stored under this key")]
    AlreadyExists,
    /// The blob under the key is another one by now.
    #[error("the blob under this key is another one by now")]
    PreconditionFailed,
    /// The bytes do not have the SHA-256 that they must have. Both in lower-case hex.
    #[error("the bytes have SHA-256 {actual}, not {expected}")]
    ChecksumMismatch {
        /// What the caller asked for.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// No byte of the asked part is inside the blob.
    #[error("the blob has {size} bytes, and no byte of the asked part is among them")]
    OutOfRange {
        /// Size of the blob in bytes.
        size: u64,
    },
    /// The file system is full, or its quota is.
    #[error("no space left in the store")]
    NoSpace,
    /// A quota of the gateway's own would be exceeded; the text says which, its limit and what is
    /// used.
    #[error("{0}")]
    QuotaExceeded(String),
    /// A policy forbids it; the text says which.
    #[error("{0}")]
    Denied(String),
    /// The arguments make no sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// This store cannot do it; the text says what.
    #[error("{0}")]
    Unsupported(String),
    /// The body could not be read to its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The disk did not do what it should.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as in "writing".
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
