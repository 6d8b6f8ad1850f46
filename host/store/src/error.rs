//! Why a store refused a call. This crate knows no HTTP statuses: the HTTP side maps each variant
//! to one status in one place.

use std::io;
use std::path::PathBuf;

use crate::body::BodyError;

/// The result of a store's method.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why a store refused a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such blob or folder.
    #[error("not found")]
    NotFound,
    /// Another blob is stored under the key.
    #[error("another blob is stored under this key")]
    AlreadyExists,
    /// The blob under the key has changed.
    #[error("the blob under this key has changed")]
    PreconditionFailed,
    /// The bytes do not have the expected SHA-256. Both are in lower-case hex.
    #[error("the bytes have SHA-256 {actual}, not {expected}")]
    ChecksumMismatch {
        /// What the caller expected.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// The requested part contains no byte of the blob.
    #[error("the requested part is outside the blob, which has {size} bytes")]
    OutOfRange {
        /// Size of the blob in bytes.
        size: u64,
    },
    /// The file system, or the user's quota on it, is full.
    #[error("no space left in the store")]
    NoSpace,
    /// One of the gateway's own quotas would be exceeded; the text names it, its limit and what is
    /// used.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The store cannot be used at the moment: its disk is missing, for example. The text is for
    /// clients; operators find the reason in the log.
    #[error("{0}")]
    Unavailable(String),
    /// A policy forbids the call; the text names the policy.
    #[error("{0}")]
    Denied(String),
    /// The arguments are invalid; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// This store does not support the call; the text says what is missing.
    #[error("{0}")]
    Unsupported(String),
    /// The body could not be read to its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An I/O error.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What failed, such as "cannot write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
