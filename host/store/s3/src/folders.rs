//! Folders: prefixes of names, each with an empty object `.keepgate` in it.
//!
//! The marker is what is left of a folder whose last blob was removed, and what makes one that was only prepared. It
//! is a file and not a name that ends with a slash, because servers that keep files refuse those, or drop them when
//! the folder is empty. It is written before the first blob of its folder appears, and never removed.
//!
//! A blob and a folder cannot have the same name. S3 does not mind, so it is looked up before a blob is stored. Folders
//! that were seen are remembered, so this costs nothing for the second blob of a folder. Between two calls at the same
//! time nothing guards it: then both are there, and both are listed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use keepgate_store::{Folder, Key, Result, StoreError};

use crate::remote::{Failure, Guard};
use crate::{Inner, MAX_NAME};

/// Folders that are remembered.
const MANY: usize = 65_536;
/// Requests at the same time.
const PARALLEL: usize = 16;

/// Folders that are certainly there.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashSet<String>>);

impl Known {
    fn all(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, folder: &str) -> bool {
        folder.is_empty() || self.all().contains(folder)
    }

    fn add<'a>(&self, folders: impl IntoIterator<Item = &'a str>) {
        let mut all = self.all();
        if all.len() >= MANY {
            all.clear();
        }
        all.extend(folders.into_iter().map(str::to_owned));
    }

    /// Another bucket is there now.
    pub(crate) fn forget(&self) {
        self.all().clear();
    }
}

/// `a`, `a/b` and `a/b/c` for `a/b/c`.
fn with_parents(folder: &str) -> impl DoubleEndedIterator<Item = &str> {
    let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
    let ends: Vec<_> = ends.collect();
    ends.into_iter().filter_map(|end| folder.get(..end)).filter(|folder| !folder.is_empty())
}

impl Inner {
    fn marker(&self, folder: &str) -> String {
        format!("{}{folder}/{}", self.prefix, keepgate_store::key::RESERVED)
    }

    /// Checks that a blob can be stored here: it is no folder, and its folder is no blob.
    pub(crate) async fn check_place(&self, key: &Key) -> Result<()> {
        let inside = format!("{}{key}/", self.prefix);
        let is_folder = async {
            if inside.len() <= MAX_NAME && self.remote.any_below(&inside).await? {
                return Err(Failure::Store(StoreError::Invalid(format!(
                    "{key} is a folder, so no blob can be stored there"
                ))));
            }
            Ok(())
        };
        let folder = key.folder();
        let checked = futures_util::future::try_join(is_folder, self.check_folder(folder.as_str()));
        checked.await.map(|_| ()).map_err(|failure| self.told(failure))
    }

    /// Checks that neither a folder nor one of its parents is a blob.
    async fn check_folder(&self, folder: &str) -> Result<(), Failure> {
        if self.folders.has(folder) {
            return Ok(());
        }
        let marker = self.marker(folder);
        if marker.len() <= MAX_NAME && self.remote.head(&marker).await?.is_some() {
            self.folders.add(with_parents(folder));
            return Ok(());
        }
        let unknown = with_parents(folder).filter(|folder| !self.folders.has(folder));
        all(unknown.map(|folder| self.is_no_blob(folder).boxed()).collect()).await
    }

    async fn is_no_blob(&self, folder: &str) -> Result<(), Failure> {
        // The first in a list is the name itself. A HEAD of a folder in its file system is a 500 of s3s-fs.
        let name = format!("{}{folder}", self.prefix);
        let page = self.remote.list(&name, true, None, None, 1).await?;
        if page.objects.iter().any(|object| object.name == name) {
            return Err(Failure::Store(StoreError::Invalid(format!(
                "{folder} is a blob, so no folder can be made there"
            ))));
        }
        Ok(())
    }

    /// Makes a folder with its parents, which were checked.
    pub(crate) async fn make_folder(&self, folder: &str) -> Result<()> {
        self.make_markers(with_parents(folder).collect()).await
    }

    async fn make_markers(&self, mut folders: Vec<&str>) -> Result<()> {
        folders.retain(|folder| !self.folders.has(folder));
        let made = all(folders.iter().map(|folder| self.make_marker(folder).boxed()).collect());
        made.await.map_err(|failure| self.told(failure))?;
        self.folders.add(folders);
        Ok(())
    }

    async fn make_marker(&self, folder: &str) -> Result<(), Failure> {
        let marker = self.marker(folder);
        if marker.len() > MAX_NAME {
            // Its name would be too long, so this folder goes with its last blob.
            return Ok(());
        }
        let made = self.remote.put_own(&self.capabilities, &marker, "", &Guard::None).await;
        match made {
            // Several writers of one file: it is there.
            Ok(_) | Err(Failure::Conflict) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Makes folders with their parents.
    pub(crate) async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        let checks = folders.iter().map(|folder| self.check_folder(folder.as_str()).boxed());
        all(checks.collect()).await.map_err(|failure| self.told(failure))?;
        let mut names: Vec<&str> =
            folders.iter().flat_map(|folder| with_parents(folder.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        self.make_markers(names).await
    }
}

/// Waits for all of these requests, some of them at the same time.
async fn all(requests: Vec<BoxFuture<'_, Result<(), Failure>>>) -> Result<(), Failure> {
    stream::iter(requests).buffer_unordered(PARALLEL).try_collect().await
}
