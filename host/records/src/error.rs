//! Errors. Nothing here knows HTTP; the code that serves records chooses the statuses.

use std::path::PathBuf;

/// Why a table refuses a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// A comparison does not hold; with its key.
    #[error("the record {0:?} has changed")]
    Conflict(String),
    /// The arguments make no sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The table would become larger than the operator allows; the text says how large it may be.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The disk is full.
    #[error("no space left for records")]
    NoSpace,
    /// The records cannot be used at the moment. A commit may have been made. The operator finds the reason in the log.
    #[error("the records cannot be used at the moment")]
    Unavailable,
}

/// Why a file of records cannot be opened. The texts are for operators.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the file.
    #[error("{} is in use by another gateway; stop that one, or give this one another file", .0.display())]
    InUse(PathBuf),
    /// Another version of the gateway wrote the file.
    #[error(
        "{} has layout {found}, and this gateway knows layout {known}; use the gateway that wrote it", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The layout named in the file.
        found: String,
        /// The layout that this gateway reads.
        known: &'static str,
    },
    /// The file contains something other than records, or is damaged.
    #[error(
        "{} cannot be read as a file of records ({detail}); put a copy of it in its place: it says what belongs together",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// An I/O error.
    #[error("{action} {}: {detail}", path.display())]
    File {
        /// What failed, such as "cannot open".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}
