//! Whether bytes are a whole snapshot: a bbolt database, and behind it its SHA-256. Knows nothing
//! of networks; the bytes come in any pieces.
//!
//! This is the only check that there is before somebody needs the backup: `etcdctl snapshot status`
//! looks at no checksum.

use sha2::{Digest, Sha256};

/// Length of the checksum behind the database.
const TRAILER: u64 = 32;

/// Databases are whole pages, and no page is smaller.
const SECTOR: u64 = 512;

/// Where the first page of a database has its mark, and the mark.
const MAGIC_AT: usize = 16;
const MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("it announces a snapshot of {blob} and {remaining} bytes, which no database has")]
    Length { blob: u64, remaining: u64 },
    #[error("what it sends is no etcd database")]
    NoDatabase,
    #[error("it sends more than the {size} bytes that it announced")]
    Longer { size: u64 },
    #[error("it ended the snapshot after {seen} of {size} bytes")]
    Shorter { seen: u64, size: u64 },
    #[error(
        "the snapshot does not have the checksum that it ends with: it was damaged on its way or is damaged on the member's disk"
    )]
    Checksum,
}

/// The length of the file, from the first message: the bytes in it, and how many it says are to
/// come.
///
/// etcd 3.4 to 3.6 does not count the checksum among those to come. Whether a version does can be
/// seen, since a database is a multiple of 512 bytes.
pub(super) fn size(blob: u64, remaining: u64) -> Result<u64, Wrong> {
    let wrong = Wrong::Length { blob, remaining };
    match blob.checked_add(remaining) {
        Some(sum) if sum >= SECTOR && sum % SECTOR == 0 => sum.checked_add(TRAILER).ok_or(wrong),
        Some(sum) if sum >= SECTOR && sum % SECTOR == TRAILER => Ok(sum),
        _ => Err(wrong),
    }
}

/// Looks at the bytes as they pass.
pub(super) struct Verifier {
    size: u64,
    seen: u64,
    /// The beginning, until the mark is in it.
    head: Vec<u8>,
    hash: Sha256,
    trailer: Vec<u8>,
}

impl Verifier {
    /// For a file of `size` bytes, as [`size`] has it.
    pub(super) fn new(size: u64) -> Self {
        Self { size, seen: 0, head: Vec::new(), hash: Sha256::new(), trailer: Vec::new() }
    }

    /// Bytes so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes of the whole file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let database_left = self.size.saturating_sub(TRAILER).saturating_sub(self.seen);
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if self.seen > self.size {
            return Err(Wrong::Longer { size: self.size });
        }
        self.look_at_head(bytes)?;
        // More than a slice can hold means all of it.
        let split = usize::try_from(database_left).unwrap_or(usize::MAX).min(bytes.len());
        let (database, trailer) = bytes.split_at(split);
        self.hash.update(database);
        self.trailer.extend_from_slice(trailer);
        Ok(())
    }

    fn look_at_head(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let missing = (MAGIC_AT + MAGIC.len()).saturating_sub(self.head.len());
        if missing == 0 {
            return Ok(());
        }
        self.head.extend(bytes.iter().take(missing));
        let mark = self.head.get(MAGIC_AT..).unwrap_or_default();
        if MAGIC.starts_with(mark) { Ok(()) } else { Err(Wrong::NoDatabase) }
    }

    /// At the end: whether everything came and has the checksum, which is returned in lower-case
    /// hex.
    pub(super) fn finish(self) -> Result<String, Wrong> {
        if self.seen != self.size {
            return Err(Wrong::Shorter { seen: self.seen, size: self.size });
        }
        let hash = self.hash.finalize();
        if hash.as_slice() == self.trailer.as_slice() {
            Ok(hex::encode(hash))
        } else {
            Err(Wrong::Checksum)
        }
    }
}

#[cfg(test)]
mod properties;
