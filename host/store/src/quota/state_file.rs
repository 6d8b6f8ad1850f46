//! The state file: sums that were right once, and by how much they may be too low by now. Fields
//! may be added; a change of meaning needs a new [`VERSION`]. If the file cannot be read or has
//! another version, it is ignored and everything is counted again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::Compiled;
use super::totals::{Amount, Totals};
use crate::error::{Result, StoreError};

const VERSION: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    /// Written by an orderly shutdown: the sums are exact.
    pub(super) clean: bool,
    /// No sum is too low by more than this many bytes.
    pub(super) ahead: u64,
    /// The patterns of the folders that were counted.
    patterns: Vec<String>,
    store: u64,
    folders: BTreeMap<String, u64>,
    /// `None` if users were not counted.
    users: Option<BTreeMap<String, u64>>,
    /// The same sums of entries; `None` in a file of a version that did not count them.
    #[serde(default)]
    entries: Option<Entries>,
}

/// Sums of entries. After an unclean shutdown they may be too low, by any number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entries {
    store: u64,
    folders: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
}

impl Saved {
    pub(super) fn new(rules: &Compiled, totals: &Totals, ahead: u64, clean: bool) -> Self {
        let bytes = |amount: Amount| amount.bytes;
        let entries = |amount: Amount| amount.entries;
        Self {
            version: VERSION,
            clean,
            ahead,
            patterns: rules.patterns(),
            store: totals.store.bytes,
            folders: sums(&totals.folders, bytes),
            users: rules.counts_users().then(|| sums(&totals.users, bytes)),
            entries: Some(Entries {
                store: totals.store.entries,
                folders: sums(&totals.folders, entries),
                users: sums(&totals.users, entries),
            }),
        }
    }

    /// Whether the sums of entries are there.
    pub(super) fn has_entries(&self) -> bool {
        self.entries.is_some()
    }

    /// The sums, if everything that these rules need was counted.
    pub(super) fn totals(&self, rules: &Compiled) -> Option<Totals> {
        if !rules.is_counted_by(&self.patterns, self.users.is_some()) {
            return None;
        }
        let none = Entries::default();
        let entries = self.entries.as_ref().unwrap_or(&none);
        let store = Amount { bytes: self.store, entries: entries.store };
        let (mut folders, mut users) = (HashMap::new(), HashMap::new());
        if !rules.patterns().is_empty() {
            folders = amounts(&self.folders, &entries.folders);
        }
        if let Some(bytes) = self.users.as_ref().filter(|_| rules.counts_users()) {
            users = amounts(bytes, &entries.users);
        }
        Some(Totals { store, folders, users })
    }

    /// Reads the file; `None` if it is missing or unusable. Blocks.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read", path, error)),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(saved) if saved.version == VERSION => Ok(Some(saved)),
            Ok(saved) => {
                let version = saved.version;
                tracing::warn!(
                    file = %path.display(), version,
                    "quota state of another version ignored; counting everything"
                );
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(
                    file = %path.display(), %error,
                    "unreadable quota state ignored; counting everything"
                );
                Ok(None)
            }
        }
    }
}

/// One number of each sum, without those that are zero.
fn sums(
    amounts: &HashMap<Arc<str>, Amount>,
    number: impl Fn(Amount) -> u64,
) -> BTreeMap<String, u64> {
    let numbers = amounts.iter().map(|(name, amount)| (name.to_string(), number(*amount)));
    numbers.filter(|(_, number)| *number > 0).collect()
}

fn amounts(
    bytes: &BTreeMap<String, u64>,
    entries: &BTreeMap<String, u64>,
) -> HashMap<Arc<str>, Amount> {
    let mut amounts: HashMap<Arc<str>, Amount> = HashMap::new();
    for (name, bytes) in bytes {
        amounts.entry(name.as_str().into()).or_default().bytes = *bytes;
    }
    for (name, entries) in entries {
        amounts.entry(name.as_str().into()).or_default().entries = *entries;
    }
    amounts
}

/// The state file for writing. Only its holder writes it.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// Keeps other processes from writing it. Calls hold on to it after the quota is dropped.
    _lock: Option<OwnedFd>,
}

impl StateFile {
    /// Makes the file's folder. Blocks.
    pub(super) fn new(path: PathBuf, lock: Option<OwnedFd>) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| failed("cannot create", folder, error))?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// Replaces the saved state; durable when it returns. Blocks.
    pub(super) fn write(&mut self, saved: &Saved) -> Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        let fail = |error| failed("cannot write the state of a quota to", &self.path, error);
        let json = serde_json::to_vec(saved).map_err(|error| fail(error.into()))?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new);
        if file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            make_again(&self.path);
            file = options.open(&new);
        }
        let written = file.as_mut().map_err(io_error).and_then(|file| {
            file.write_all(&json)?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&new, &self.path)).map_err(fail)?;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // This file system cannot sync folders.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other.map_err(fail),
        }
    }
}

/// Makes the file's folder and the one above it again, after a disk was swapped for example. Not those
/// further up: they may be a store's root, which nobody but the operator puts back.
fn make_again(path: &Path) {
    let folders = path.ancestors().skip(1).take(2).collect::<Vec<_>>();
    for folder in folders.into_iter().rev() {
        // Writing the file says what is wrong.
        let _ = std::fs::create_dir(folder);
    }
}

fn io_error(error: &mut io::Error) -> io::Error {
    std::mem::replace(error, io::ErrorKind::Other.into())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}
