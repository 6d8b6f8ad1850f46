//! Makes folders that survive a power cut: each new folder, and its entry in the parent, is synced
//! before the store promises anything about a blob in it.
//!
//! A folder that was there already may have been made by a process that died before it synced it. So
//! the first promise about each folder syncs its parents too, once ([`Tree::settle_folder`]).

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::steps::{self, Sync};
use super::sweep::read_folder;
use super::tree::{self, Dir, Tree};
use super::{Inner, errors, root};
use crate::error::{Result, StoreError};
use crate::key::{Folder, RESERVED};
use crate::{FolderObserver, ObserverHandle};

/// The most folders that are remembered as durable; beyond that they are synced again.
const MAX_DURABLE: usize = 100_000;

impl Inner {
    /// Opens a folder and makes it and its parents if they are missing; durable when it returns. The observer of the blob in
    /// it is told of each that was.
    pub(super) fn make_folder(
        &self,
        tree: &Tree,
        folder: &str,
        observer: Option<&ObserverHandle>,
    ) -> Result<Dir> {
        let _making = tree.known.making.write().unwrap_or_else(PoisonError::into_inner);
        let (mut dir, existing) = tree.deepest_existing(folder)?;
        let mut touched = Vec::new();
        for name in prefixes(folder).filter(|name| name.len() > existing.len()) {
            let made = || {
                if let Some(observer) = observer {
                    observer.made_folder(levels_above(folder, name));
                }
            };
            let next = self.make_one(tree, &dir, name, &made)?;
            touched.push((std::mem::replace(&mut dir, next), name));
        }
        for (parent, name) in &touched {
            tree.sync_folder(parent, parent_of(name))?;
        }
        tree.remember(touched.iter().map(|(_, name)| *name));
        Ok(dir)
    }

    /// Makes folders and their parents; durable when it returns. A parent that several of them
    /// share is synced once.
    pub(super) fn make_folders(
        &self,
        folders: &[Folder],
        observer: Option<&dyn FolderObserver>,
    ) -> Result<()> {
        let tree = self.tree()?;
        tree.settle(self.make_folders_below(&tree, folders, observer))
    }

    fn make_folders_below(
        &self,
        tree: &Tree,
        folders: &[Folder],
        observer: Option<&dyn FolderObserver>,
    ) -> Result<()> {
        let _making = tree.known.making.write().unwrap_or_else(PoisonError::into_inner);
        let mut done = BTreeSet::new();
        // Synced even if nothing was made in them, because another call may have made what is
        // there a moment ago.
        let mut touched = BTreeSet::new();
        let names = folders.iter().enumerate().flat_map(|(index, folder)| {
            prefixes(folder.as_str()).map(move |name| (index, folder, name))
        });
        for (index, folder, name) in names {
            if done.insert(name) {
                let parent = reopen(tree, parent_of(name))?;
                touched.insert(parent_of(name));
                let made = || {
                    if let Some(observer) = observer {
                        observer.made_folder(index, levels_above(folder.as_str(), name));
                    }
                };
                self.make_one(tree, &parent, name, &made)?;
                if !tree.known.capabilities.file_system(&parent).syncs_together {
                    touched.insert(name);
                }
            }
        }
        for name in touched {
            let folder = reopen(tree, name)?;
            tree.sync_folder(&folder, name)?;
            tree.must_name(name, &folder)?;
        }
        tree.remember(done.into_iter());
        Ok(())
    }

    /// Calls `found` with each folder below this one. Folders behind symbolic links are not looked for.
    pub(super) fn each_folder(&self, below: &Folder, found: &dyn Fn(&str)) -> Result<()> {
        let tree = self.tree()?;
        let mut left = vec![below.as_str().to_owned()];
        while let Some(name) = left.pop() {
            // Gone by now, or a symbolic link.
            let dir = match tree.folder(&name) {
                Ok(Some(dir)) => dir,
                Ok(None) | Err(StoreError::Denied(_)) => continue,
                Err(error) => return tree.settle(Err(error)),
            };
            let read = read_folder(&dir, |entry, kind, _| {
                let Ok(entry) = std::str::from_utf8(entry) else { return Ok(()) };
                let is_folder = match kind {
                    FileType::Directory => true,
                    FileType::Unknown => tree::stat_at(&dir, entry)
                        .is_ok_and(|stat| tree::kind(&stat) == FileType::Directory),
                    _ => false,
                };
                if is_folder && entry != RESERVED {
                    let inner =
                        if name.is_empty() { entry.to_owned() } else { format!("{name}/{entry}") };
                    found(&inner);
                    left.push(inner);
                }
                Ok(())
            });
            match read {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return tree.settle(Err(errors::io("cannot list", tree.path_of(&name), errno)));
                }
            }
        }
        Ok(())
    }

    /// Makes a folder, unless it is there, and opens it. File systems disagree about the error for a
    /// folder that is there and cannot be written to, so only the result counts.
    fn make_one(&self, tree: &Tree, parent: &Dir, name: &str, then: &dyn Fn()) -> Result<Dir> {
        let segment = name.rsplit('/').next().unwrap_or(name);
        let mode = Mode::from_raw_mode(self.options.directory_mode);
        let made = rustix::fs::mkdirat(parent, segment, mode);
        if made.is_ok() {
            then();
        }
        match (made, reopen(tree, name)) {
            (_, Ok(folder)) => Ok(folder),
            (Ok(()) | Err(Errno::EXIST), Err(error)) => Err(error),
            (Err(errno @ (Errno::NAMETOOLONG | Errno::ILSEQ)), _) => {
                Err(tree.path_error(name, errno))
            }
            (Err(_), Err(error @ (StoreError::Denied(_) | StoreError::Unavailable(_)))) => {
                Err(error)
            }
            (Err(errno), _) => Err(errors::io("cannot create", tree.path_of(name), errno)),
        }
    }
}

impl Tree {
    /// Waits until the folders that other calls are making are durable, and syncs the parents of this
    /// one if that was not done before. A caller that found a folder must call this before it promises
    /// that a blob in it is durable.
    pub(super) fn settle_folder(&self, folder: &str) -> Result<()> {
        drop(self.known.making.read().unwrap_or_else(PoisonError::into_inner));
        let new: Vec<_> = {
            let durable = self.known.durable.lock().unwrap_or_else(PoisonError::into_inner);
            if durable.contains(folder) {
                return Ok(());
            }
            prefixes(folder).filter(|name| !durable.contains(*name)).collect()
        };
        for name in &new {
            let parent = parent_of(name);
            match self.folder(parent) {
                Ok(Some(dir)) => self.sync_folder(&dir, parent)?,
                // A folder that this process may not read was not made by one like it.
                Ok(None) | Err(StoreError::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.remember(new.into_iter());
        Ok(())
    }

    fn remember<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut durable = self.known.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.len() > MAX_DURABLE {
            durable.clear();
        }
        durable.extend(names.map(str::to_owned));
    }

    /// Syncs a folder's entries. Some file systems cannot do that; they are reported once.
    pub(super) fn sync_folder(&self, folder: &Dir, name: &str) -> Result<()> {
        match rustix::fs::fsync(folder) {
            Ok(()) => {
                let file_system = self.known.capabilities.file_system(folder);
                file_system.folder_synced.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(errno) => {
                let file_system = self.known.capabilities.file_system(folder);
                let proven = file_system.local || file_system.folder_synced.load(Ordering::Relaxed);
                if steps::folder_sync(errno, proven) == Sync::Failed {
                    return Err(errors::io("cannot sync", self.path_of(name), errno));
                }
                if !file_system.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        folder = %self.path_of(name).display(), error = %errno, "{CANNOT_SYNC}"
                    );
                }
                Ok(())
            }
        }
    }
}

/// What follows for the operator if a file system cannot sync folders.
pub(super) const CANNOT_SYNC: &str = "this file system cannot sync folders, so the names of the \
    latest blobs are not certain to survive a power cut or a lost connection; blobs that are there \
    are whole";

/// Finds out whether folders can be synced on the root's file system, and reports it if not.
pub(super) fn try_sync_of_folders(tree: &Tree) {
    if let Some(root) = root::readable(tree)
        && let Err(error) = tree.sync_folder(&root, "")
    {
        tracing::warn!(%error, "cannot sync the store's root");
    }
}

/// Opens a folder that should exist; the error says what is there instead.
fn reopen(tree: &Tree, name: &str) -> Result<Dir> {
    let (folder, found) = tree.deepest_existing(name)?;
    if found == name {
        return Ok(folder);
    }
    Err(errors::io("cannot open", tree.path_of(name), Errno::NOENT))
}

/// `a`, `a/b` and `a/b/c` for `a/b/c`; nothing for the store's top.
fn prefixes(folder: &str) -> impl Iterator<Item = &str> {
    let ends = folder.match_indices('/').map(|(at, _)| at);
    let whole = (!folder.is_empty()).then_some(folder.len());
    ends.chain(whole).filter_map(|end| folder.get(..end))
}

/// How many levels a folder is below one of its prefixes.
fn levels_above(folder: &str, prefix: &str) -> usize {
    folder.get(prefix.len()..).map_or(0, |rest| rest.matches('/').count())
}

/// The folder that contains a name.
fn parent_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_listed_from_the_top_down() {
        assert_eq!(prefixes("a/b/c").collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
        assert_eq!(prefixes("a").collect::<Vec<_>>(), ["a"]);
        assert_eq!(prefixes("").count(), 0);
        assert_eq!(prefixes("a/b/c").map(|name| levels_above("a/b/c", name)).sum::<usize>(), 3);
        assert_eq!(levels_above("a/b/c", "a"), 2);
        assert_eq!(parent_of("a/b/c"), "a/b");
        assert_eq!(parent_of("a"), "");
    }
}
