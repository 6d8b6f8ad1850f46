//! Where the backups of a cluster are in the store: files with the names of backups, and beside each, in the
//! folder `index`, what is known about it. Only the files count as backups.

use std::collections::BTreeSet;

use keepgate_sdk::retention::Dated;
use keepgate_sdk::{Call, Failure, Store, TimeName, Timestamp, is_key_segment, sidecar};
use serde::{Deserialize, Serialize};

use crate::name;
use crate::settings::Settings;
use crate::sidecar::{Essence, Known};

/// The cluster that requests need not name. Its backups are at the top of the store.
const MAIN: &str = "main";

/// A cluster, by its name in paths, jobs and the mount's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cluster(String);

impl Default for Cluster {
    fn default() -> Self {
        Self(MAIN.to_owned())
    }
}

impl TryFrom<String> for Cluster {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_key_segment(&name) {
            Ok(Self(name))
        } else {
            Err(format!("no cluster can be named {name:?}"))
        }
    }
}

/// A backup in a list.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: TimeName,
    /// The size in bytes.
    pub(crate) size: u64,
    /// The etag of this file, and of no other that ever has its name.
    pub(crate) etag: String,
}

impl Dated for File {
    fn time(&self) -> Timestamp {
        self.name.time()
    }
}

/// A cluster's files in the store.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Oldest first.
    pub(crate) files: Vec<File>,
    /// Names that have a sidecar, whether or not the backup exists.
    pub(crate) index: BTreeSet<TimeName>,
}

impl Cluster {
    /// The cluster that a path names.
    pub(crate) fn of(call: &Call<Settings>) -> Self {
        call.segment("cluster").map_or_else(Self::default, |name| Self(name.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The key of a backup.
    pub(crate) fn file(&self, name: &TimeName) -> String {
        self.below(name.as_str())
    }

    /// The key of a backup's sidecar.
    pub(crate) fn sidecar(&self, name: &TimeName) -> String {
        self.below(&format!("index/{name}.json"))
    }

    /// The backups, oldest first: names sort by time.
    pub(crate) fn files(&self, store: &Store) -> Result<Vec<File>, Failure> {
        let mut files = Vec::new();
        for entry in store.entries(if self.0 == MAIN { "" } else { &self.0 }, false)? {
            let entry = entry?;
            if let Some(name) = name::FORM.parse(entry.name()).filter(|_| !entry.folder) {
                files.push(File { name, size: entry.size, etag: entry.etag });
            }
        }
        Ok(files)
    }

    /// The backups, and which of them have a sidecar.
    pub(crate) fn contents(&self, store: &Store) -> Result<Contents, Failure> {
        let mut index = BTreeSet::new();
        for entry in store.entries(&self.below("index"), false)? {
            let entry = entry?;
            let name = entry.name().strip_suffix(".json").filter(|_| !entry.folder);
            index.extend(name.and_then(|name| name::FORM.parse(name)));
        }
        Ok(Contents { files: self.files(store)?, index })
    }

    /// The newest backup whose sidecar fits it; if there is none, the newest at all, because files of another
    /// program never had a sidecar.
    ///
    /// Neither rotation nor a request removes it. Since it only ever becomes a newer one, two clients that
    /// remove backups at the same time cannot take the last good one from each other.
    pub(crate) fn newest_good<'a>(
        &self,
        store: &Store,
        contents: &'a Contents,
    ) -> Result<Option<&'a TimeName>, Failure> {
        let known = |file: &&File| contents.index.contains(&file.name);
        for file in contents.files.iter().rev().filter(known) {
            if self.known(store, file)?.is_some() {
                return Ok(Some(&file.name));
            }
        }
        Ok(contents.files.last().map(|file| &file.name))
    }

    /// The sidecar of a backup, if there is one that describes this very file.
    pub(crate) fn known(&self, store: &Store, file: &File) -> Result<Option<Known>, Failure> {
        let known: Option<Known> = sidecar::read(store, &self.sidecar(&file.name))?;
        let fits = |Essence { filename, filesize, .. }: &Essence| {
            filename == file.name.as_str() && *filesize == file.size
        };
        Ok(known.filter(|known| fits(&known.value)))
    }

    fn below(&self, name: &str) -> String {
        if self.0 == MAIN { name.to_owned() } else { format!("{}/{name}", self.0) }
    }
}
