//! Verifies that bytes are a whole snapshot: a bbolt database followed by its SHA-256. This code knows
//! nothing about networks; the bytes may come in pieces of any size.
//!
//! This is the only check before somebody needs the backup: `etcdctl snapshot status` does not verify
//! the checksum.

use sha2::{Digest, Sha256};

/// Length of the checksum that follows the database.
const TRAILER: u64 = 32;

/// A database consists of whole pages, and no page is smaller.
const SECTOR: u64 = 512;

/// Offset of the magic number in a database's first page, and the number.
const MAGIC_AT: usize = 16;
const MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSnapshot {
    #[error("it announced a snapshot of {blob} and {remaining} bytes, which cannot be a database")]
    Length { blob: u64, remaining: u64 },
    #[error("it did not send an etcd database")]
    NoDatabase,
    #[error("it sent more than the announced {size} bytes")]
    Longer { size: u64 },
    #[error("it ended the snapshot after {seen} of {size} bytes")]
    Shorter { seen: u64, size: u64 },
    #[error(
        "the snapshot does not match its own checksum: it was damaged in transit or on the member's disk"
    )]
    Checksum,
}

/// The length of the file, according to the first message: the bytes in it, and how many it says will
/// follow.
///
/// etcd 3.4 to 3.6 does not include the checksum in that number. Since the size of a database is a
/// multiple of 512 bytes, it can be told whether a version does.
pub(super) fn size(blob: u64, remaining: u64) -> Result<u64, InvalidSnapshot> {
    let wrong = InvalidSnapshot::Length { blob, remaining };
    match blob.checked_add(remaining) {
        Some(sum) if sum >= SECTOR && sum % SECTOR == 0 => sum.checked_add(TRAILER).ok_or(wrong),
        Some(sum) if sum >= SECTOR && sum % SECTOR == TRAILER => Ok(sum),
        _ => Err(wrong),
    }
}

/// Verifies the bytes as they pass.
pub(super) struct Verifier {
    size: u64,
    seen: u64,
    /// The beginning, until the magic number is in it.
    head: Vec<u8>,
    hash: Sha256,
    trailer: Vec<u8>,
}

impl Verifier {
    /// For a file of `size` bytes, as returned by [`size`].
    pub(super) fn new(size: u64) -> Self {
        Self { size, seen: 0, head: Vec::new(), hash: Sha256::new(), trailer: Vec::new() }
    }

    /// Bytes received so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Size of the whole file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidSnapshot> {
        let database_left = self.size.saturating_sub(TRAILER).saturating_sub(self.seen);
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if self.seen > self.size {
            return Err(InvalidSnapshot::Longer { size: self.size });
        }
        self.look_at_head(bytes)?;
        // A number beyond what a slice can hold means the whole slice.
        let split = usize::try_from(database_left).unwrap_or(usize::MAX).min(bytes.len());
        let (database, trailer) = bytes.split_at(split);
        self.hash.update(database);
        self.trailer.extend_from_slice(trailer);
        Ok(())
    }

    fn look_at_head(&mut self, bytes: &[u8]) -> Result<(), InvalidSnapshot> {
        let missing = (MAGIC_AT + MAGIC.len()).saturating_sub(self.head.len());
        if missing == 0 {
            return Ok(());
        }
        self.head.extend(bytes.iter().take(missing));
        let mark = self.head.get(MAGIC_AT..).unwrap_or_default();
        if MAGIC.starts_with(mark) { Ok(()) } else { Err(InvalidSnapshot::NoDatabase) }
    }

    /// Checks at the end that everything arrived and matches the checksum, which is returned in
    /// lower-case hex.
    pub(super) fn finish(self) -> Result<String, InvalidSnapshot> {
        if self.seen != self.size {
            return Err(InvalidSnapshot::Shorter { seen: self.seen, size: self.size });
        }
        let hash = self.hash.finalize();
        if hash.as_slice() == self.trailer.as_slice() {
            Ok(hex::encode(hash))
        } else {
            Err(InvalidSnapshot::Checksum)
        }
    }
}

#[cfg(test)]
mod properties;
