//! Why a file cannot be used. The texts are for operators.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Another process has the file.
    #[error("{} is in use by another gateway; stop that one, or give this one another file", .0.display())]
    InUse(PathBuf),
    /// The file does not exist, and must not be created: it never was, or it has been taken away while it was in use.
    #[error("{} does not exist: no gateway has kept {contents} there yet, or it was moved away", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// As in [`Format`](crate::Format).
        contents: &'static str,
    },
    /// Another version of the gateway wrote the file.
    #[error("{} has layout {found}, and this gateway knows layout {known}; {advice}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The layout named in the file.
        found: String,
        /// The layout that this gateway reads.
        known: &'static str,
        /// What the operator may do.
        advice: &'static str,
    },
    /// The file contains something else, or is damaged.
    #[error("{} cannot be read as a file of {contents} ({detail}); {advice}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// As in [`Format`](crate::Format).
        contents: &'static str,
        /// What is wrong.
        detail: String,
        /// What the operator may do.
        advice: &'static str,
    },
    /// The disk or the operating system refuses.
    #[error("{action} {}: {source}", path.display())]
    Failed {
        /// What failed, such as "cannot open".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<redb::Error>,
    },
}

impl FileError {
    /// That something failed at a file.
    pub fn failed(action: &'static str, path: &Path, source: impl Into<redb::Error>) -> Self {
        Self::Failed { action, path: path.to_owned(), source: Box::new(source.into()) }
    }

    /// Whether there is no space left on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Failed { source, .. } = self else { return false };
        matches!(&**source, redb::Error::Io(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
