//! Moves a blob to another key: in one step of the file system, so that at each moment exactly one of
//! the two names has it. No bytes are copied.
//!
//! There are two exceptions. A file system that has only hard links to keep two processes from the same
//! name has the blob under both names for a moment. And if the two folders are on different file
//! systems, or if a symbolic link stands for the blob, it is copied like any upload and then removed.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags, Statx};
use rustix::io::Errno;

use super::steps::{self, Sync};
use super::tree::{self, Dir, FolderId, Tree};
use super::upload::{Upload, change};
use super::xattr::Gone;
use super::{Inner, errors, read, xattr};
use crate::commit_observer::MovedBlob;
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{
    Change, Condition, DeleteOptions, Info, PutOptions, RemovedBlob, RenameOptions, Stored,
};

/// Moves a blob.
pub(super) fn rename(
    store: &Arc<Inner>,
    key: &Key,
    to: &Key,
    options: &RenameOptions,
) -> Result<Stored> {
    options.check(key, to)?;
    let tree = store.tree()?;
    let rename = Rename { store, tree: &tree, key, to, options };
    tree.settle(rename.run())
}

struct Rename<'a> {
    store: &'a Arc<Inner>,
    tree: &'a Tree,
    key: &'a Key,
    to: &'a Key,
    options: &'a RenameOptions,
}

/// The blob as it was found.
struct Source {
    dir: Dir,
    file: File,
    stat: Statx,
    info: Info,
}

/// What came of the step.
enum Step {
    Moved(MovedBlob, Change),
    /// Another blob is under the old key by now, or none.
    Changed,
    /// It cannot be moved there.
    Elsewhere,
}

impl Rename<'_> {
    fn run(&self) -> Result<Stored> {
        loop {
            let source = self.find()?;
            let dir = self.prepare(&source)?;
            match self.step(&source, &dir)? {
                Step::Moved(_, change) => return self.settle(source, &dir, change),
                Step::Changed => {}
                Step::Elsewhere => {
                    if let Some(stored) = self.copy(&source)? {
                        return Ok(stored);
                    }
                }
            }
        }
    }

    fn find(&self) -> Result<Source> {
        let dir = self.tree.folder(self.key.folder().as_str())?.ok_or(StoreError::NotFound)?;
        let found = self.tree.blob(self.key.as_str());
        let found = read::described(self.store, self.tree, self.key, found)?;
        let (file, info) = found.ok_or(StoreError::NotFound)?;
        let stat = tree::stat(&file)
            .map_err(|errno| errors::io("cannot read", self.path(self.key), errno))?;
        Ok(Source { dir, file, stat, info })
    }

    /// Everything that takes time. Returns the new folder.
    fn prepare(&self, source: &Source) -> Result<Dir> {
        let (tree, folder) = (self.tree, self.to.folder());
        let (dir, existing) = tree.deepest_existing(folder.as_str())?;
        let exists = existing == folder.as_str();
        let mut there = if exists { tree.blob_at(&dir, self.to)? } else { None };
        if self.options.condition != Condition::Always {
            there = there.filter(|there| !self.replaced(&dir, there, false).expired);
        }
        self.check(there.as_ref())?;
        self.options.admit(source.info.size, &source.info.metadata)?;
        // Its upload may not be over yet, or it is another program's.
        if let Err(errno) = rustix::io::retry_on_intr(|| rustix::fs::fsync(&source.file))
            && steps::file_sync(errno) == Sync::Failed
        {
            return Err(errors::io("cannot sync", tree.path_of(self.key.as_str()), errno));
        }
        let dir = if exists {
            tree.settle_folder(folder.as_str())?;
            dir
        } else {
            self.store.make_folder(tree, folder.as_str(), self.options.comes.as_ref())?
        };
        // Nothing is to change in a folder that was replaced meanwhile.
        self.must_name(source, &dir)?;
        if let Some(expires) = source.info.expires {
            self.store.mark(tree, self.to, expires, self.options.comes.as_ref())?;
        }
        Ok(dir)
    }

    fn must_name(&self, source: &Source, dir: &Dir) -> Result<()> {
        self.tree.must_name(self.to.folder().as_str(), dir)?;
        self.tree.must_name(self.key.folder().as_str(), &source.dir)
    }

    fn step(&self, source: &Source, dir: &Dir) -> Result<Step> {
        // Held while looking and renaming, never while syncing.
        let _locks = self.store.lock_keys(self.key, self.to);
        self.options.place(self.tree.known.epoch)?;
        let wanted = self.options.before_commit()?;
        let outcome = self.step_locked(source, dir, wanted);
        let moved = match &outcome {
            Ok(Step::Moved(moved, _)) => Some(moved.clone()),
            Ok(Step::Changed | Step::Elsewhere) | Err(_) => None,
        };
        self.options.after_commit(moved);
        outcome
    }

    fn step_locked(&self, source: &Source, dir: &Dir, wanted: bool) -> Result<Step> {
        match tree::stat_at(&source.dir, self.key.name()) {
            Ok(stat) if tree::is_symlink(&stat) => return Ok(Step::Elsewhere),
            Ok(stat) if xattr::etag(&stat) == source.info.etag => {}
            Ok(_) => return Ok(Step::Changed),
            Err(errno) if errors::is_missing(errno) => return Ok(Step::Changed),
            Err(errno) => {
                return Err(errors::io("cannot look up", self.path(self.key), errno));
            }
        }
        loop {
            let there = self.tree.blob_at(dir, self.to)?;
            let replaced = there.as_ref().map(|there| self.replaced(dir, there, wanted));
            let live = there.as_ref().filter(|_| replaced.as_ref().is_some_and(|it| !it.expired));
            self.check(live)?;
            let stored = live.map(|live| xattr::time(&live.stx_mtime));
            self.options.admit_removals(source.info.modified, stored)?;
            let moved = match &there {
                None => self.move_new(source, dir),
                Some(there) => self.move_over(source, dir, there),
            };
            match moved {
                Ok(()) => {
                    let change = change(replaced.as_ref());
                    if let (Some(replaced), Some(comes)) = (&replaced, &self.options.comes) {
                        self.store.readers.removed(replaced.file, comes);
                    }
                    let replaced = replaced.map(|replaced| replaced.blob);
                    let moved = MovedBlob { blob: gone(source, wanted), replaced };
                    return Ok(Step::Moved(moved, change));
                }
                Err(Errno::XDEV) => return Ok(Step::Elsewhere),
                // Another process was faster.
                Err(Errno::EXIST) if there.is_none() => {}
                Err(errno) => return Err(errors::io("cannot rename", self.path(self.key), errno)),
            }
        }
    }

    /// Whether the condition holds for the blob under the new key, if there is one that has not expired.
    fn check(&self, live: Option<&Statx>) -> Result<()> {
        match (&self.options.condition, live.map(xattr::etag)) {
            (Condition::Absent | Condition::AbsentOrIdentical, Some(_)) => {
                Err(StoreError::AlreadyExists)
            }
            (Condition::Matches(etag), live) if live.as_ref() != Some(etag) => {
                Err(StoreError::PreconditionFailed)
            }
            _ => Ok(()),
        }
    }

    /// What is under the new key.
    fn replaced(&self, dir: &Dir, there: &Statx, all: bool) -> Gone {
        xattr::gone(self.tree, dir, self.to, (there, &self.store.options.clock), all)
    }

    /// Moves it if the new name is free; otherwise `EEXIST`. In the order of
    /// [`Temp::publish_new`](super::temp::Temp::publish_new).
    fn move_new(&self, source: &Source, dir: &Dir) -> Result<(), Errno> {
        let (features, from, to) = (self.store.options.features, self.key.name(), self.to.name());
        if features.rename_noreplace {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&source.dir, from, dir, to, flags) {
                Ok(()) => return Ok(()),
                // On a network, the answer to a step that succeeded may have been lost.
                Err(Errno::EXIST) if self.is_moved(source, dir) => return Ok(()),
                Err(errno @ (Errno::EXIST | Errno::XDEV)) => return Err(errno),
                Err(_) => {}
            }
        }
        if features.hard_links {
            match rustix::fs::linkat(&source.dir, from, dir, to, AtFlags::empty()) {
                Ok(()) => return rustix::fs::unlinkat(&source.dir, from, AtFlags::empty()),
                Err(errno @ (Errno::EXIST | Errno::XDEV)) => return Err(errno),
                Err(_) => {}
            }
        }
        match tree::stat_at(dir, to) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(&source.dir, from, dir, to),
            Err(errno) => Err(errno),
        }
    }

    fn move_over(&self, source: &Source, dir: &Dir, there: &Statx) -> Result<(), Errno> {
        if is_same(&source.stat, there) {
            // Two names of one file, as a process that was killed may have left them: a rename would do nothing.
            return rustix::fs::unlinkat(&source.dir, self.key.name(), AtFlags::empty());
        }
        rustix::fs::renameat(&source.dir, self.key.name(), dir, self.to.name())
    }

    fn is_moved(&self, source: &Source, dir: &Dir) -> bool {
        tree::stat_at(dir, self.to.name()).is_ok_and(|there| is_same(&source.stat, &there))
            && matches!(tree::stat_at(&source.dir, self.key.name()), Err(Errno::NOENT))
    }

    /// Makes the move durable.
    fn settle(&self, source: Source, dir: &Dir, change: Change) -> Result<Stored> {
        self.tree.sync_folder(dir, self.to.folder().as_str())?;
        if source.dir.id != dir.id {
            self.tree.sync_folder(&source.dir, self.key.folder().as_str())?;
        }
        // The last look: what is acknowledged can be seen.
        self.must_name(&source, dir)?;
        let info = Info { key: self.to.clone(), ..source.info };
        Ok(Stored { info, change })
    }

    /// Stores the blob anew and removes it; `None` if it was replaced or removed by others meanwhile.
    fn copy(&self, source: &Source) -> Result<Option<Stored>> {
        let Info { size, etag, content_type, metadata, tags, expires, .. } = source.info.clone();
        // Nothing is copied that may not go.
        self.options.admit_removals(source.info.modified, None)?;
        let RenameOptions { condition, comes, goes } = self.options.clone();
        let options = PutOptions {
            condition,
            sha256: None,
            content_type,
            metadata,
            tags,
            expires,
            observer: comes.clone(),
        };
        let mut upload = Upload::begin(Arc::clone(self.store), self.to.clone(), options)?;
        upload.append(&source.file, 0, size)?;
        let stored = upload.finish()?;
        let same = DeleteOptions { matches: Some(etag), observer: goes };
        match self.store.delete(self.key, &same) {
            Err(StoreError::PreconditionFailed) if stored.change == Change::Created => {
                let copy = DeleteOptions { matches: Some(stored.info.etag), observer: comes };
                self.store.delete(self.to, &copy).map(|_| None)
            }
            Ok(_) | Err(StoreError::PreconditionFailed) => Ok(Some(stored)),
            Err(error) => Err(error),
        }
    }

    fn path(&self, key: &Key) -> std::path::PathBuf {
        self.tree.path_of(key.as_str())
    }
}

fn gone(source: &Source, wanted: bool) -> RemovedBlob {
    let metadata = if wanted { source.info.metadata.clone() } else { Vec::new() };
    RemovedBlob { size: source.info.size, metadata }
}

/// Whether both are the same file.
fn is_same(one: &Statx, other: &Statx) -> bool {
    FolderId::of(one) == FolderId::of(other)
}
