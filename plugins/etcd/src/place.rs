//! Where the backups of a cluster lie, and what is there: files named like backups, and beside each,
//! in the folder `index`, what is known of it. The files alone say what backups there are.

use std::collections::BTreeSet;

use keepgate_sdk::{Entry, Failure, Store};

use crate::name::Name;
use crate::sidecar::{self, Sidecar};

/// The cluster that needs not be named, whose backups lie at the store's top.
const MAIN: &str = "main";

/// Where the backups of a cluster lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    cluster: String,
}

/// A backup, as a listing has it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: Name,
    /// Bytes.
    pub(crate) size: u64,
    /// Of this very file, and of none that ever takes its name.
    pub(crate) etag: String,
}

/// What is in a place.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Oldest first.
    pub(crate) files: Vec<File>,
    /// Names that have a sidecar, be the backup there or not.
    pub(crate) index: BTreeSet<Name>,
}

impl Place {
    pub(crate) fn main() -> Self {
        Self { cluster: MAIN.to_owned() }
    }

    /// None for what is no folder's name.
    pub(crate) fn of(cluster: &str) -> Option<Self> {
        let folder = !matches!(cluster, "" | "." | ".." | ".keepgate")
            && !cluster.contains(['/', '\0'])
            && cluster.len() <= 255;
        folder.then(|| Self { cluster: cluster.to_owned() })
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The key of a backup.
    pub(crate) fn file(&self, name: &Name) -> String {
        self.below(name.as_str())
    }

    /// The key of what is known of a backup.
    pub(crate) fn sidecar(&self, name: &Name) -> String {
        self.below(&format!("index/{name}.json"))
    }

    /// The backups, oldest first, which is how names sort; none where the place itself is not there.
    pub(crate) fn files(&self, store: &Store) -> Result<Option<Vec<File>>, Failure> {
        let folder = if self.cluster == MAIN { "" } else { &self.cluster };
        let listing = match store.list(folder, false) {
            Err(Failure::NotFound) => return Ok(None),
            listing => listing?,
        };
        let mut files = Vec::new();
        for entry in listing {
            let entry = entry?;
            if let Some(name) = name_of(&entry).and_then(Name::parse) {
                files.push(File { name, size: entry.size, etag: entry.etag });
            }
        }
        Ok(Some(files))
    }

    /// Backups, and which of them have a sidecar.
    pub(crate) fn contents(&self, store: &Store) -> Result<Contents, Failure> {
        let mut index = BTreeSet::new();
        let listing = match store.list(&self.below("index"), false) {
            Err(Failure::NotFound) => None,
            listing => Some(listing?),
        };
        for entry in listing.into_iter().flatten() {
            let entry = entry?;
            let name = name_of(&entry).and_then(|name| name.strip_suffix(".json"));
            index.extend(name.and_then(Name::parse));
        }
        Ok(Contents { files: self.files(store)?.unwrap_or_default(), index })
    }

    /// The newest backup whose sidecar fits it. Without any, the newest at all: there may be files
    /// of another program that never had one.
    ///
    /// It is what never goes, be it by rotation or by request. Since it only ever becomes a newer
    /// one, two who remove backups at once cannot take the last good one from each other.
    pub(crate) fn newest_good<'a>(
        &self,
        store: &Store,
        contents: &'a Contents,
    ) -> Result<Option<&'a Name>, Failure> {
        let known = |file: &&File| contents.index.contains(&file.name);
        for file in contents.files.iter().rev().filter(known) {
            if self.known(store, file)?.is_some() {
                return Ok(Some(&file.name));
            }
        }
        Ok(contents.files.last().map(|file| &file.name))
    }

    /// What the sidecar of a backup says, where there is one that fits.
    pub(crate) fn known(&self, store: &Store, file: &File) -> Result<Option<Sidecar>, Failure> {
        let read = sidecar::read(store, &self.sidecar(&file.name))?;
        Ok(read.filter(|known| known.fits(file)))
    }

    fn below(&self, name: &str) -> String {
        if self.cluster == MAIN { name.to_owned() } else { format!("{}/{name}", self.cluster) }
    }
}

/// The name of a listing's blob in its folder; none for a folder.
fn name_of(entry: &Entry) -> Option<&str> {
    entry.key.rsplit('/').next().filter(|_| !entry.folder)
}
