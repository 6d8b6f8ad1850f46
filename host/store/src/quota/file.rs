//! The state file: a count that was true once, and by how much it may be too low by now. Fields
//! may be added; a change of meaning needs another [`VERSION`]. A file that cannot be read, or of
//! another version, is as good as none: everything is counted anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::Compiled;
use super::tally::Tally;
use crate::error::{Result, StoreError};

const VERSION: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    /// Written at an orderly end; the sums are exact.
    pub(super) clean: bool,
    /// No sum is too low by more bytes than this.
    pub(super) ahead: u64,
    /// The patterns of the folders that were counted.
    patterns: Vec<String>,
    store: u64,
    folders: BTreeMap<String, u64>,
    /// None where users were not counted.
    users: Option<BTreeMap<String, u64>>,
}

impl Saved {
    pub(super) fn new(rules: &Compiled, tally: &Tally, ahead: u64, clean: bool) -> Self {
        let sums = |sums: &std::collections::HashMap<Arc<str>, u64>| {
            sums.iter().map(|(name, bytes)| (name.to_string(), *bytes)).collect()
        };
        Self {
            version: VERSION,
            clean,
            ahead,
            patterns: rules.patterns(),
            store: tally.store,
            folders: sums(&tally.folders),
            users: rules.counts_users().then(|| sums(&tally.users)),
        }
    }

    /// The sums, where all that these rules need was counted.
    pub(super) fn tally(&self, rules: &Compiled) -> Option<Tally> {
        if !rules.is_counted_by(&self.patterns, self.users.is_some()) {
            return None;
        }
        let sums = |sums: &BTreeMap<String, u64>| {
            sums.iter().map(|(name, bytes)| (name.as_str().into(), *bytes)).collect()
        };
        let folders =
            if rules.patterns().is_empty() { Default::default() } else { sums(&self.folders) };
        let users = self.users.as_ref().filter(|_| rules.counts_users()).map(sums);
        Some(Tally { store: self.store, folders, users: users.unwrap_or_default() })
    }

    /// Reads the file; none where there is none that can be used. Blocks.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", path, error)),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(saved) if saved.version == VERSION => Ok(Some(saved)),
            Ok(saved) => {
                let version = saved.version;
                tracing::warn!(
                    path = %path.display(), version,
                    "the state of a quota is of another version; everything is counted anew"
                );
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(
                    path = %path.display(), %error,
                    "the state of a quota cannot be read; everything is counted anew"
                );
                Ok(None)
            }
        }
    }
}

/// Where the state is written. Whoever holds it is the only one to write.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// Whatever keeps others from writing it. Calls hold on to this longer than the quota lives.
    _lock: Option<File>,
}

impl StateFile {
    /// Makes the folder that the file is in. Blocks.
    pub(super) fn new(path: PathBuf, lock: Option<File>) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed("making", folder, error))?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// Puts a state in the place of the one before; durable when it returns. Blocks.
    pub(super) fn write(&mut self, saved: &Saved) -> Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        let fail = |error| failed("writing the state of a quota to", &self.path, error);
        let json = serde_json::to_vec(saved).map_err(|error| fail(error.into()))?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
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
            // A file system that cannot sync folders.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other.map_err(fail),
        }
    }
}

fn io_error(error: &mut io::Error) -> io::Error {
    std::mem::replace(error, io::ErrorKind::Other.into())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}
