//! The bytes of a key file.
//!
//! A file that is text is the key as it stands, without line breaks at its end, so that what an editor or `echo` adds
//! makes no difference; any other file is the key with all of its bytes. Nothing is decoded: a file with Base64 is as
//! good a key as the bytes that it stands for, and there is no second reading of it that somebody else could choose.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// The longest key file in bytes. Longer ones are something else.
pub const MAX_FILE: usize = 4096;

/// Why a file is not a key. The file's name is for the caller to add.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is a folder, a device or a FIFO.
    #[error("it is not a file")]
    NotAFile,
    /// It is too long.
    #[error("it is longer than {MAX_FILE} bytes, so it is no key")]
    TooLong,
    /// It is too short.
    #[error("it has {found} bytes; a key needs {least} or more")]
    TooShort {
        /// What the file holds.
        found: usize,
        /// What the purpose needs.
        least: usize,
    },
    /// It holds one byte over and over, as a file does whose content was lost in a crash.
    #[error("all of its bytes are the same, so it is no key")]
    Constant,
}

impl MaterialError {
    /// Whether there is no file, so that one has to be made.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The bytes of a key. They are wiped when it is dropped.
#[derive(Clone)]
pub struct Material {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Whether every user of the machine may read the file.
    pub others_may_read: bool,
}

impl Material {
    /// Reads a key of at least this many bytes.
    ///
    /// # Errors
    ///
    /// [`MaterialError`] if the file cannot be read or cannot be a key.
    pub fn read(file: &Path, least: usize) -> Result<Self, MaterialError> {
        // Opening a FIFO must not wait for somebody who writes to it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            File::from(rustix::fs::open(file, flags, Mode::empty()).map_err(io::Error::from)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(MaterialError::NotAFile);
        }
        // Of full size from the beginning: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_FILE {
            return Err(MaterialError::TooLong);
        }
        if std::str::from_utf8(&bytes).is_ok() {
            let breaks =
                bytes.iter().rev().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            let length = bytes.len() - breaks;
            bytes.truncate(length);
        }
        if bytes.len() < least {
            return Err(MaterialError::TooShort { found: bytes.len(), least });
        }
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(MaterialError::Constant);
        }
        Ok(Self { bytes, others_may_read: metadata.mode() & 0o004 != 0 })
    }

    /// A key of these bytes, for tests: nothing about them is checked.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: Zeroizing::new(bytes.to_vec()), others_may_read: false }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(..)")
    }
}
