//! What is known of a backup, as JSON beside it. Fields may be added; what is there keeps its
//! meaning. A backup without it is a backup all the same.

use keepgate_sdk::{Body, Failure, Part, PutOptions, Store};
use serde::{Deserialize, Serialize};

use crate::place::File;

/// More than any sidecar has, in bytes.
const LARGEST: usize = 64 * 1024;

/// What is written. Clients see it in lists with details.
#[derive(Debug, Serialize)]
pub(crate) struct Facts<'a> {
    pub(crate) filename: &'a str,
    /// Bytes of the file.
    pub(crate) filesize: u64,
    /// Of the file, in lower-case hex.
    pub(crate) sha256: &'a str,
    /// Bytes of what `etcdctl snapshot save` would have written.
    pub(crate) snapshot_size: u64,
    /// Of the database, in lower-case hex; it is what the snapshot ends with.
    pub(crate) snapshot_sha256: &'a str,
    /// When it was begun.
    pub(crate) created: String,
    pub(crate) duration_ms: u64,
    pub(crate) format: &'a str,
    pub(crate) cluster: &'a str,
    /// As etcd prints them, in hex: numbers of 64 bits do not survive every reader of JSON.
    pub(crate) cluster_id: String,
    pub(crate) member_id: String,
    pub(crate) endpoint: &'a str,
    pub(crate) etcd_version: &'a str,
    /// What was written up to this one is in it.
    pub(crate) revision: i64,
    /// Keys at that revision, where etcd let them be counted.
    pub(crate) keys: Option<u64>,
}

/// What is read.
#[derive(Debug)]
pub(crate) struct Sidecar {
    essence: Essence,
    /// All of it, one JSON object.
    pub(crate) json: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Essence {
    filename: String,
    filesize: u64,
    sha256: Option<String>,
}

impl Sidecar {
    /// Whether it speaks of this very file.
    pub(crate) fn fits(&self, file: &File) -> bool {
        self.essence.filename == file.name.as_str() && self.essence.filesize == file.size
    }

    /// Of the file, in lower-case hex.
    pub(crate) fn sha256(&self) -> Option<&str> {
        let is_hex = |text: &&str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        self.essence.sha256.as_deref().filter(is_hex)
    }
}

/// None where there is none, or something else in its place.
pub(crate) fn read(store: &Store, key: &str) -> Result<Option<Sidecar>, Failure> {
    let body = match store.get(key, Part::Whole) {
        Err(Failure::NotFound) => return Ok(None),
        found => found?.data,
    };
    let mut json = Vec::new();
    while let Some(piece) = body.read(u32::MAX)? {
        json.extend(piece);
        if json.len() > LARGEST {
            return Ok(None);
        }
    }
    let essence = serde_json::from_slice(&json).ok();
    Ok(essence.map(|essence| Sidecar { essence, json }))
}

/// Writes one where none is.
pub(crate) fn write(store: &Store, key: &str, facts: &Facts<'_>) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(facts)
        .map_err(|error| Failure::Internal(format!("{key} as JSON: {error}")))?;
    store.put(key, Body::from_bytes(&json), &PutOptions::absent())?;
    Ok(())
}
