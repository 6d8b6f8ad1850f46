//! Makes folders that survive a power cut: each new folder, and its entry in the parent, is synced
//! before the store promises anything about a blob in it.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Inner, errors};
use crate::error::Result;
use crate::key::Folder;

impl Inner {
    /// Opens a folder and makes it and its parents if they are missing; durable when it returns.
    pub(super) fn make_folder(&self, folder: &str) -> Result<OwnedFd> {
        let _making = self.making.write().unwrap_or_else(PoisonError::into_inner);
        let (mut dir, existing) = self.tree.deepest_existing(folder)?;
        let mut touched = Vec::new();
        for name in prefixes(folder).filter(|name| name.len() > existing.len()) {
            self.make_one(&dir, name)?;
            let made = self.reopen(name)?;
            touched.push((std::mem::replace(&mut dir, made), name));
        }
        for (parent, name) in touched {
            self.sync_folder(&parent, parent_of(name))?;
        }
        Ok(dir)
    }

    /// Makes folders and their parents; durable when it returns. A parent that several of them
    /// share is synced once.
    pub(super) fn make_folders(&self, folders: &[Folder]) -> Result<()> {
        let _making = self.making.write().unwrap_or_else(PoisonError::into_inner);
        let mut done = BTreeSet::new();
        // Synced even if nothing was made in them, because another call may have made what is
        // there a moment ago.
        let mut touched = BTreeSet::new();
        for name in folders.iter().flat_map(|folder| prefixes(folder.as_str())) {
            if done.insert(name) {
                let parent = self.reopen(parent_of(name))?;
                touched.insert(parent_of(name));
                self.make_one(&parent, name)?;
                self.reopen(name)?;
                if !self.capabilities.syncs_together(&parent) {
                    touched.insert(name);
                }
            }
        }
        for name in touched {
            self.sync_folder(&self.reopen(name)?, name)?;
        }
        Ok(())
    }

    /// Waits until the folders that other calls are making are durable. A caller that found a
    /// folder must call this before it promises that a blob in it is durable.
    pub(super) fn wait_for_folders(&self) {
        drop(self.making.read().unwrap_or_else(PoisonError::into_inner));
    }

    /// Syncs a folder's entries. Some file systems cannot do that; they are warned about once.
    pub(super) fn sync_folder(&self, folder: &OwnedFd, name: &str) -> Result<()> {
        match rustix::fs::fsync(folder) {
            Ok(()) => Ok(()),
            Err(errno) if errors::is_unsupported(errno) => {
                if !self.warned_sync.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        folder = %self.tree.path_of(name).display(),
                        "this file system cannot sync folders; the latest blobs may be missing \
                         after a power cut"
                    );
                }
                Ok(())
            }
            Err(errno) => Err(errors::io("cannot sync", self.tree.path_of(name), errno)),
        }
    }

    fn make_one(&self, parent: &OwnedFd, name: &str) -> Result<()> {
        let segment = name.rsplit('/').next().unwrap_or(name);
        let mode = Mode::from_raw_mode(self.options.directory_mode);
        match rustix::fs::mkdirat(parent, segment, mode) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno @ (Errno::NAMETOOLONG | Errno::ILSEQ)) => {
                Err(self.tree.path_error(name, errno))
            }
            Err(errno) => Err(errors::io("cannot create", self.tree.path_of(name), errno)),
        }
    }

    /// Opens a folder that should exist; the error says what is there instead.
    fn reopen(&self, name: &str) -> Result<OwnedFd> {
        let (folder, found) = self.tree.deepest_existing(name)?;
        if found == name {
            return Ok(folder);
        }
        Err(errors::io("cannot open", self.tree.path_of(name), Errno::NOENT))
    }
}

/// `a`, `a/b` and `a/b/c` for `a/b/c`; nothing for the store's top.
fn prefixes(folder: &str) -> impl Iterator<Item = &str> {
    let ends = folder.match_indices('/').map(|(at, _)| at);
    let whole = (!folder.is_empty()).then_some(folder.len());
    ends.chain(whole).filter_map(|end| folder.get(..end))
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
        assert_eq!(parent_of("a/b/c"), "a/b");
        assert_eq!(parent_of("a"), "");
    }
}
