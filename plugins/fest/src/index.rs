//! The hashes that a version of a manifest names, as a blob beside its text: sorted, with a table of where each first byte
//! begins. So whether a manifest names a file takes two short reads, and the sweep reads one part after another.
//!
//! The form, in big-endian numbers: 257 times 4 bytes, the number of hashes before those that begin with 0, 1, … 255, and
//! of all; then 40 bytes for each hash, itself and the size.

use keepgate_sdk::{Failure, Part, Store};

use crate::hash::Hash;
use crate::manifest::File;

const TABLE: usize = 257 * 4;
const ENTRY: usize = 40;

/// The blob of a manifest's files.
pub(crate) fn of(files: &[File<'_>]) -> Vec<u8> {
    let mut all: Vec<(Hash, u64)> = files.iter().map(|file| (file.hash, file.size)).collect();
    all.sort_unstable();
    all.dedup_by_key(|(hash, _)| *hash);
    let mut blob = Vec::with_capacity(TABLE + all.len() * ENTRY);
    for first in 0..=256_usize {
        let before = all.partition_point(|(hash, _)| usize::from(first_byte(hash)) < first);
        blob.extend(u32::try_from(before).unwrap_or(u32::MAX).to_be_bytes());
    }
    for (hash, size) in &all {
        blob.extend(hash.0);
        blob.extend(size.to_be_bytes());
    }
    blob
}

/// The size with which an index names a file; `None` if it does not.
pub(crate) fn find(store: &Store, key: &str, hash: &Hash) -> Result<Option<u64>, Failure> {
    let found = part(store, key, first_byte(hash))?;
    Ok(found.into_iter().find(|(known, _)| known == hash).map(|(_, size)| size))
}

/// The files whose hashes begin with this byte.
pub(crate) fn part(store: &Store, key: &str, first: u8) -> Result<Vec<(Hash, u64)>, Failure> {
    let at = u64::from(first) * 4;
    let bounds = slice(store, key, at, 8)?;
    let number = |range| bounds.get(range).and_then(|four: &[u8]| four.try_into().ok());
    let (Some(from), Some(to)) = (number(0..4), number(4..8)) else {
        return Err(damaged(key));
    };
    let (from, to) = (u32::from_be_bytes(from), u32::from_be_bytes(to));
    let count = u64::from(to.checked_sub(from).ok_or_else(|| damaged(key))?);
    if count == 0 {
        return Ok(Vec::new());
    }
    let at = TABLE as u64 + u64::from(from) * ENTRY as u64;
    let entries = slice(store, key, at, count * ENTRY as u64)?;
    let read = |entry: &[u8]| {
        let (hash, size) = entry.split_at_checked(32)?;
        Some((Hash(hash.try_into().ok()?), u64::from_be_bytes(size.try_into().ok()?)))
    };
    let read: Option<Vec<_>> = entries.chunks(ENTRY).map(read).collect();
    read.filter(|read| read.len() as u64 == count).ok_or_else(|| damaged(key))
}

fn slice(store: &Store, key: &str, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
    store.get(key, Part::Slice((offset, Some(length))))?.data.bytes(length)
}

fn first_byte(hash: &Hash) -> u8 {
    let [first, ..] = hash.0;
    first
}

fn damaged(key: &str) -> Failure {
    Failure::Internal(format!("{key} is damaged"))
}
