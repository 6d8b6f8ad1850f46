//! Bytes that are not what they were. The job of this file reads every file of the pool, or one, and takes those out whose
//! bytes do not have their hash any more, so that the next manifest says that they are missing and clients upload them
//! again. A whole download is verified on its way, by a checksum that was kept when it was uploaded: it breaks off before its end, and the job for that file starts. The
//! host reads and hashes; no byte enters the plugin.

use keepgate_sdk::jobs::{self, Job, Options, WhenBusy, report_progress};
use keepgate_sdk::records::{self, Record};
use keepgate_sdk::{Body, Failure, Part, PutOptions, Store, environment, json, pipes};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::layout;
use crate::pool::{self, Complete};

/// The kind of job.
pub(crate) const KIND: &str = "verify";

/// What the job is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// The only file to read; all of them without it.
    hash: Option<String>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Found {
    files: u64,
    bytes: u64,
    damaged: Vec<String>,
}

/// The key of a schedule's job.
pub(crate) fn key(input: &[u8]) -> Result<String, String> {
    let input: Result<Input, Failure> = jobs::input(KIND, input);
    match input.map_err(|failure| failure.message().to_owned())?.hash {
        None => Ok("all".to_owned()),
        Some(hash) => match Hash::parse(&hash) {
            Some(hash) => Ok(hash.to_string()),
            None => Err(format!("hash: {hash:?} is not a SHA-256")),
        },
    }
}

/// The bytes of a file, which are verified while they are sent: by their checksum, if it is known, because that is faster
/// than their hash.
pub(crate) fn on_the_way(stored: Body, hash: &Hash, xxh3: Option<&str>) -> Result<Body, Failure> {
    let hash = hash.to_string();
    let verified = match xxh3 {
        Some(xxh3) => pipes::checked(stored, xxh3),
        None => pipes::verified(stored, &hash),
    }?;
    let options = Options::new(&hash).attempts(5).when_busy(WhenBusy::JoinQueued);
    let input = json::to_vec(&Input { hash: Some(hash) })?;
    jobs::start_on_mismatch(verified, KIND, &input, &options)
}

/// Runs the job.
pub(crate) fn run(job: &Job) -> Result<Vec<u8>, Failure> {
    let input: Input = jobs::input(KIND, &job.input)?;
    let store = Store::open("main")?;
    let mut found = Found::default();
    match input.hash {
        Some(hash) => {
            let hash = Hash::parse(&hash);
            let hash = hash.ok_or_else(|| Failure::Invalid("hash is no SHA-256".to_owned()))?;
            if let Some(record) = records::get(&layout::file(&hash))? {
                look_at(&store, &hash, &record, &mut found)?;
            }
        }
        None => {
            for record in records::scan("f/") {
                let record = record?;
                let Some(hash) = record.key.strip_prefix("f/").and_then(Hash::parse) else {
                    continue;
                };
                look_at(&store, &hash, &record, &mut found)?;
                report_progress("files", found.files, None);
            }
        }
    }
    json::to_vec(&found)
}

/// Reads a file, and takes it out of the pool if it is damaged.
fn look_at(store: &Store, hash: &Hash, record: &Record, found: &mut Found) -> Result<(), Failure> {
    let file: Complete = record.json()?;
    found.files += 1;
    found.bytes = found.bytes.saturating_add(file.size);
    if !is_right(store, &file, hash)? {
        environment::warn("stored file is damaged", &[("hash", hash), ("blob", &file.key)]);
        found.damaged.push(hash.to_string());
        pool::remove_damaged(store, hash, &file, record)?;
    }
    Ok(())
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
