//! Where the backups of a cluster are in the store: files named like backups, and beside each, in the folder
//! `index`, what is known of it. The files alone say what backups there are.

use std::collections::BTreeSet;

use keepgate_sdk::retention::Dated;
use keepgate_sdk::{Entry, Failure, Store, TimeName, Timestamp, etcd, sidecar};

use crate::name;
use crate::sidecar::Known;

/// The cluster that need not be named, whose backups are at the store's top.
const MAIN: &str = "main";

/// A cluster, by the name that paths and the mount's settings have for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster(String);

/// A backup, as a listing has it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: TimeName,
    /// In bytes.
    pub(crate) size: u64,
    /// Of this very file, and of none that ever takes its name.
    pub(crate) etag: String,
}

impl Dated for File {
    fn time(&self) -> Timestamp {
        self.name.time()
    }
}

/// What the store has of a cluster.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Oldest first.
    pub(crate) files: Vec<File>,
    /// Names that have a sidecar, whether or not the backup is there.
    pub(crate) index: BTreeSet<TimeName>,
}

impl Cluster {
    pub(crate) fn main() -> Self {
        Self(MAIN.to_owned())
    }

    /// None if no folder can have this name.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let is_folder = !matches!(name, "" | "." | ".." | ".keepgate")
            && !name.contains(['/', '\0'])
            && name.len() <= 255;
        is_folder.then(|| Self(name.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Whether the mount grants it; otherwise the error says which clusters it grants.
    pub(crate) fn require(&self) -> Result<(), String> {
        let granted = etcd::clusters();
        if granted.contains(&self.0) {
            return Ok(());
        }
        let granted = match granted.as_slice() {
            [] => "no clusters are configured".to_owned(),
            granted => format!("its `etcd` has: {}", granted.join(", ")),
        };
        Err(format!("this mount has no cluster {:?} ({granted})", self.0))
    }

    /// The key of a backup.
    pub(crate) fn file(&self, name: &TimeName) -> String {
        self.below(name.as_str())
    }

    /// The key of what is known of a backup.
    pub(crate) fn sidecar(&self, name: &TimeName) -> String {
        self.below(&format!("index/{name}.json"))
    }

    /// The backups, oldest first: names sort by time.
    pub(crate) fn files(&self, store: &Store) -> Result<Vec<File>, Failure> {
        let mut files = Vec::new();
        for entry in list(store, if self.0 == MAIN { "" } else { &self.0 })? {
            let entry = entry?;
            if let Some(name) = file_name(&entry).and_then(|name| name::FORM.parse(name)) {
                files.push(File { name, size: entry.size, etag: entry.etag });
            }
        }
        Ok(files)
    }

    /// The backups, and which of them have a sidecar.
    pub(crate) fn contents(&self, store: &Store) -> Result<Contents, Failure> {
        let mut index = BTreeSet::new();
        for entry in list(store, &self.below("index"))? {
            let entry = entry?;
            let name = file_name(&entry).and_then(|name| name.strip_suffix(".json"));
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

    /// The sidecar of a backup, if there is one that fits.
    pub(crate) fn known(&self, store: &Store, file: &File) -> Result<Option<Known>, Failure> {
        let known = sidecar::read(store, &self.sidecar(&file.name))?;
        Ok(known.filter(|known: &Known| known.value.fits(file)))
    }

    fn below(&self, name: &str) -> String {
        if self.0 == MAIN { name.to_owned() } else { format!("{}/{name}", self.0) }
    }
}

/// A folder's entries; none if there is no such folder.
fn list(
    store: &Store,
    folder: &str,
) -> Result<impl Iterator<Item = Result<Entry, Failure>> + use<>, Failure> {
    match store.list(folder, false) {
        Err(Failure::NotFound) => Ok(None.into_iter().flatten()),
        listing => Ok(Some(listing?).into_iter().flatten()),
    }
}

/// The name of a blob in its folder; none for a folder.
fn file_name(entry: &Entry) -> Option<&str> {
    entry.key.rsplit('/').next().filter(|_| !entry.folder)
}
