//! Versions of manifests, by their records. A version is its user's, its name's and its time stamp's, as it was sent.

use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::retention::Dated;
use keepgate_sdk::{Body, Failure, PutOptions, Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::manifest::Manifest;
use crate::user::User;
use crate::{index, layout};

/// What the record of a version says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    /// As it was sent.
    pub(crate) timestamp: String,
    pub(crate) time: Timestamp,
    pub(crate) base: Option<String>,
    pub(crate) files: usize,
    pub(crate) directories: usize,
    pub(crate) bytes: u64,
    pub(crate) stored: Timestamp,
    /// Of its blobs.
    pub(crate) id: String,
    /// What is the same for the same content.
    pub(crate) content: String,
}

/// What has come of storing a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    New,
    /// It was there.
    Same,
    /// Another one has this name and time stamp.
    Other,
}

impl Dated for Version {
    fn time(&self) -> Timestamp {
        self.time
    }
}

/// Stores a version: its text and its index first, and the record that makes it visible last.
pub(crate) fn store(user: &User, manifest: &Manifest<'_>, text: &[u8]) -> Result<Stored, Failure> {
    let key = layout::version(user, &manifest.name, &manifest.timestamp);
    let content = manifest.content();
    if let Some(there) = records::get(&key)? {
        return Ok(same(&there.json::<Version>()?, &content));
    }
    let store = Store::open("main")?;
    let id = layout::id();
    let put = |key: &str, bytes: &[u8]| {
        store.put(key, Body::from_bytes(bytes), &PutOptions::absent()).map(|_| ())
    };
    put(&layout::text(user, &id), text)?;
    if let Err(failure) = put(&layout::index(user.as_str(), &id), &index::of(&manifest.files)) {
        remove_blobs(&store, user.as_str(), &id)?;
        return Err(failure);
    }
    let version = Version {
        name: manifest.name.clone(),
        timestamp: manifest.timestamp.clone(),
        time: manifest.time,
        base: manifest.base.clone(),
        files: manifest.files.len(),
        directories: manifest.directories,
        bytes: manifest.bytes(),
        stored: Timestamp::now(),
        id,
        content,
    };
    match Commit::new().absent(&key).put_json(&key, &version)?.run() {
        Ok(_) => Ok(Stored::New),
        Err(Failure::PreconditionFailed) => {
            remove_blobs(&store, user.as_str(), &version.id)?;
            let there = records::get(&key)?.ok_or_else(|| {
                Failure::Busy("this version is being changed; try again".to_owned())
            })?;
            Ok(same(&there.json::<Version>()?, &version.content))
        }
        Err(failure) => Err(failure),
    }
}

fn same(there: &Version, content: &str) -> Stored {
    if there.content == content { Stored::Same } else { Stored::Other }
}

/// The newest version of a manifest, or the one with this time stamp.
pub(crate) fn find(
    user: &User,
    name: &str,
    timestamp: Option<&str>,
) -> Result<Option<Version>, Failure> {
    if let Some(timestamp) = timestamp {
        let found = records::get(&layout::version(user, name, timestamp))?;
        return found.map(|record| record.json()).transpose();
    }
    let mut newest: Option<Version> = None;
    for record in records::scan(&layout::versions(user, name)) {
        let version: Version = record?.json()?;
        let order = |version: &Version| (version.time, version.stored);
        if newest.as_ref().is_none_or(|newest| order(newest) < order(&version)) {
            newest = Some(version);
        }
    }
    Ok(newest)
}

/// All versions of all of a user's manifests, by name and then by time.
pub(crate) fn all(user: &User) -> Result<Vec<Version>, Failure> {
    let mut versions: Vec<Version> = Vec::new();
    for record in records::scan(&layout::manifests(user)) {
        versions.push(record?.json()?);
    }
    versions.sort_by(|one, two| {
        (&one.name, one.time, one.stored).cmp(&(&two.name, two.time, two.stored))
    });
    Ok(versions)
}

/// The size with which one of a user's manifests names a file; `None` if none does. The newest are looked at first.
pub(crate) fn size_of(user: &User, hash: &Hash) -> Result<Option<u64>, Failure> {
    let store = Store::open("main")?;
    let mut versions = all(user)?;
    versions.sort_by_key(|version| std::cmp::Reverse(version.stored));
    for version in versions {
        match index::find(&store, &layout::index(user.as_str(), &version.id), hash) {
            Ok(None) => {}
            // Removed meanwhile.
            Err(Failure::NotFound) => {}
            found => return found,
        }
    }
    Ok(None)
}

/// Removes a version, if it is still the one that was read. The record goes first, so no version lacks its blobs.
pub(crate) fn remove(user: &str, record: &Record, version: &Version) -> Result<bool, Failure> {
    match Commit::new().unchanged(record).delete(&record.key).run() {
        Err(Failure::PreconditionFailed) => return Ok(false),
        made => made?,
    };
    remove_blobs(&Store::open("main")?, user, &version.id)?;
    Ok(true)
}

fn remove_blobs(store: &Store, user: &str, id: &str) -> Result<(), Failure> {
    store.delete(&format!("manifests/{user}/{id}"))?;
    store.delete(&layout::index(user, id)).map(|_| ())
}
