//! The job that reads every file of the pool and takes those out whose bytes are not what they were, so that the next
//! manifest says that they are missing and clients upload them again. The host reads and hashes; no byte enters the
//! plugin.

use keepgate_sdk::jobs::report_progress;
use keepgate_sdk::records;
use keepgate_sdk::{Failure, Part, PutOptions, Store, environment, json};
use serde::Serialize;

use crate::hash::Hash;
use crate::pool::{self, Complete};

/// The kind of job.
pub(crate) const KIND: &str = "verify";

/// What was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Found {
    files: u64,
    bytes: u64,
    damaged: Vec<String>,
}

/// Runs the job.
pub(crate) fn run() -> Result<Vec<u8>, Failure> {
    let store = Store::open("main")?;
    let mut found = Found::default();
    for record in records::scan("f/") {
        let record = record?;
        let file: Complete = record.json()?;
        let Some(hash) = record.key.strip_prefix("f/").and_then(Hash::parse) else { continue };
        found.files += 1;
        found.bytes = found.bytes.saturating_add(file.size);
        if !is_right(&store, &file, &hash)? {
            environment::warn("stored file is damaged", &[("hash", &hash), ("blob", &file.key)]);
            found.damaged.push(hash.to_string());
            pool::is_corrupt(&hash, &record)?;
            store.delete(&file.key)?;
        }
        report_progress("files", found.files, None);
    }
    json::to_vec(&found)
}

/// Whether the bytes of a blob have the hash: what is put is the blob itself, which is compared and not written.
fn is_right(store: &Store, file: &Complete, hash: &Hash) -> Result<bool, Failure> {
    let there = match store.get(&file.key, Part::Whole) {
        Err(Failure::NotFound) => return Ok(false),
        there => there?,
    };
    if there.info.size != file.size {
        return Ok(false);
    }
    let same = PutOptions::absent_or_identical().sha256(&hash.to_string());
    match store.put(&file.key, there.data, &same) {
        Ok(_) => Ok(true),
        Err(Failure::ChecksumMismatch(_) | Failure::AlreadyExists) => Ok(false),
        Err(failure) => Err(failure),
    }
}
