//! A file that is being written under no name that a client could ask for, and the one step that
//! publishes it.
//!
//! It is always made in its destination folder, which gives it its group, ACLs and labels: without any
//! name (`O_TMPFILE`) where its later name is durable, so that a killed process leaves nothing behind,
//! otherwise with a temporary name ([`sweep`](super::sweep)). Both get their name in one step that other
//! processes see as a whole or not at all.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::steps::{self, Sync};
use super::sweep::{hold, temporary_name};
use super::tree::{self, Dir, Tree};
use super::xattr::Attributes;
use super::{Inner, errors};
use crate::error::Result;

/// Bytes after which write-back is started while more bytes arrive.
const WRITEBACK: u64 = 2 * 1024 * 1024;
/// Bytes copied in one step if the kernel cannot copy by itself.
const COPY: usize = 256 * 1024;
/// What follows for the operator if a file system cannot sync files.
pub(super) const CANNOT_SYNC_FILES: &str = "this file system cannot sync files, so the latest blobs \
    are not certain to survive a power cut or a lost connection";
/// How often to start again if a sweep takes a new file for a dead one.
const TRIES: usize = 100;

/// A file that is not published yet. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Temp {
    file: File,
    kept: Arc<Attributes>,
    /// `None` if the file has no name at all.
    name: Option<Name>,
    /// Bytes written by [`Temp::write`], and how many of them were submitted for write-back.
    written: u64,
    begun: u64,
}

/// The name of an unfinished file.
#[derive(Debug)]
struct Name {
    dir: Arc<Dir>,
    name: String,
    /// The file has been moved away.
    left: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.left
            && let Err(errno) = rustix::fs::unlinkat(&*self.dir, &self.name, AtFlags::empty())
        {
            tracing::warn!(file = self.name, error = %errno, "cannot remove an unfinished file");
        }
    }
}

/// Where a file is to be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The folder, open.
    pub(super) dir: &'a Arc<Dir>,
    /// The folder's name in the store.
    pub(super) folder: &'a str,
    /// The name in the folder.
    pub(super) name: &'a str,
}

impl Target<'_> {
    fn path(&self, tree: &Tree) -> PathBuf {
        tree.path_of(self.folder).join(self.name)
    }
}

impl Temp {
    /// Makes a file for a blob in `folder`. `dir` is that folder or, if it does not exist yet, its
    /// deepest existing parent.
    pub(super) fn new(
        store: &Inner,
        tree: &Tree,
        dir: &Arc<Dir>,
        folder: &str,
        kept: Arc<Attributes>,
    ) -> Result<Self> {
        if tree.known.capabilities.unnamed_in(dir) {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let opened = rustix::io::retry_on_intr(|| {
                rustix::fs::openat(&**dir, ".", flags, store.file_mode())
            });
            // After any error a file with a name is tried, and its error is the one that counts.
            if let Ok(file) = opened {
                return Self::start(tree, folder, file, kept, None);
            }
        }
        Self::named(store, tree, dir, folder, kept)
    }

    fn named(
        store: &Inner,
        tree: &Tree,
        dir: &Arc<Dir>,
        folder: &str,
        kept: Arc<Attributes>,
    ) -> Result<Self> {
        let failed = |errno| errors::io("cannot create a file in", tree.path_of(folder), errno);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let name = temporary_name().map_err(failed)?;
            let file = rustix::io::retry_on_intr(|| {
                rustix::fs::openat(&**dir, &name, flags, store.file_mode())
            })
            .map_err(failed)?;
            if hold(&file) {
                let name = Some(Name { dir: Arc::clone(dir), name, left: false });
                return Self::start(tree, folder, file, kept, name);
            }
        }
        Err(failed(Errno::BUSY))
    }

    fn start(
        tree: &Tree,
        folder: &str,
        file: OwnedFd,
        kept: Arc<Attributes>,
        name: Option<Name>,
    ) -> Result<Self> {
        let temp = Self { file: file.into(), kept, name, written: 0, begun: 0 };
        temp.kept.write(tree, folder, &temp.file)?;
        Ok(temp)
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<_> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut rest = slices.as_mut_slice();
        // Drops empty slices at the front: writing nothing cannot be told from an error.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut rest, written);
                    self.written += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.begin_writeback();
        Ok(())
    }

    /// Starts write-back, so that less is left to wait for at the end. Of this advice only one
    /// effect matters here: pages that will not be needed are written now. It is a hint that a file
    /// system may ignore.
    fn begin_writeback(&mut self) {
        let fresh = self.written - self.begun;
        if fresh >= WRITEBACK {
            let length = NonZeroU64::new(fresh);
            let _ = rustix::fs::fadvise(&self.file, self.begun, length, Advice::DontNeed);
            self.begun = self.written;
        }
    }

    /// Appends `length` bytes of another file from `offset` on, in the kernel if possible. Returns
    /// fewer only if that file ends earlier.
    pub(super) fn append(&mut self, from: &File, offset: u64, length: u64) -> io::Result<u64> {
        let mut at = offset;
        let end = offset.saturating_add(length);
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut at), &self.file, None, step) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return self.append_by_hand(from, at, end).map(|at| at - offset),
            }
        }
        Ok(at - offset)
    }

    fn append_by_hand(&mut self, from: &File, mut at: u64, end: u64) -> io::Result<u64> {
        let mut from = from;
        from.seek(SeekFrom::Start(at))?;
        let mut buffer = vec![0; COPY];
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(COPY).min(COPY);
            let piece = buffer.get_mut(..step).unwrap_or_default();
            let read = from.read(piece)?;
            if read == 0 {
                break;
            }
            self.file.write_all(piece.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        Ok(at)
    }

    /// Syncs the file, with a unique modification time to the nanosecond: the kernel's own times
    /// are some milliseconds apart, and two blobs must not have the same etag.
    pub(super) fn finish(&self, store: &Inner, tree: &Tree, dir: &Dir) -> io::Result<()> {
        // Without it the etag still has the inode and the size.
        let _ = self.file.set_modified(store.options.clock.arrival());
        let Err(errno) = rustix::io::retry_on_intr(|| rustix::fs::fsync(&self.file)) else {
            return Ok(());
        };
        if steps::file_sync(errno) == Sync::Failed {
            return Err(errno.into());
        }
        if !tree.known.capabilities.file_system(dir).files_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %tree.path_of("").display(), error = %errno, "{CANNOT_SYNC_FILES}"
            );
        }
        Ok(())
    }

    /// Gives the file its name if the name is free; false if it is taken. The caller holds the
    /// key's lock.
    pub(super) fn publish_new(
        &mut self,
        store: &Inner,
        tree: &Tree,
        target: Target<'_>,
    ) -> Result<bool> {
        let placed = match self.try_publish_new(store, tree, target) {
            Err(errno) if errno != Errno::EXIST && self.is_elsewhere(errno) => {
                self.copy_near(store, tree, target)?;
                self.try_publish_new(store, tree, target)
            }
            other => other,
        };
        match placed {
            Ok(()) => Ok(true),
            // On a network, the answer to a step that succeeded may have been lost.
            Err(Errno::EXIST) => Ok(self.has_name(target)),
            Err(errno) => Err(errors::io("cannot name", target.path(tree), errno)),
        }
    }

    /// Replaces another file, in one step.
    pub(super) fn publish_over(
        &mut self,
        store: &Inner,
        tree: &Tree,
        target: Target<'_>,
    ) -> Result<()> {
        let failed = |errno| errors::io("cannot replace", target.path(tree), errno);
        if self.name.is_none() && !self.link_temporarily(tree, target).map_err(failed)? {
            self.copy_near(store, tree, target)?;
        }
        match self.rename_over(target) {
            Err(Errno::XDEV) => {
                self.copy_near(store, tree, target)?;
                self.rename_over(target).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    /// Whether an error of the naming step may only mean that the file cannot be named from where it
    /// is: it has no name, or it was made in a parent of the folder. Project quotas and union file
    /// systems forbid moves between folders that appear to be on one file system.
    fn is_elsewhere(&self, errno: Errno) -> bool {
        self.name.is_none() || errno == Errno::XDEV
    }

    /// Whether the file has this name already.
    fn has_name(&self, target: Target<'_>) -> bool {
        let (ours, there) = (tree::stat(&self.file), tree::stat_at(&**target.dir, target.name));
        let id = |stat: rustix::fs::Statx| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        matches!((ours, there), (Ok(ours), Ok(there)) if id(ours) == id(there))
    }

    fn try_publish_new(
        &mut self,
        store: &Inner,
        tree: &Tree,
        target: Target<'_>,
    ) -> Result<(), Errno> {
        let features = store.options.features;
        let Some(name) = &mut self.name else {
            return tree.known.capabilities.link_unnamed(&self.file, &**target.dir, target.name);
        };
        let from = &*name.dir;
        if features.rename_noreplace {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from, &name.name, target.dir, target.name, flags) {
                Ok(()) => {
                    name.left = true;
                    return Ok(());
                }
                Err(errno @ (Errno::EXIST | Errno::XDEV)) => return Err(errno),
                Err(_) => {}
            }
        }
        if features.hard_links {
            let flags = AtFlags::empty();
            let linked = rustix::fs::linkat(from, &name.name, target.dir, target.name, flags);
            if matches!(linked, Ok(()) | Err(Errno::EXIST | Errno::XDEV)) {
                // Dropping `self` removes the first name.
                return linked;
            }
        }
        // This file system has neither (exFAT, some FUSE file systems). The key's lock excludes
        // other uploads of this process; another process could interfere.
        match tree::stat_at(&**target.dir, target.name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => self.rename_over(target),
            Err(errno) => Err(errno),
        }
    }

    fn rename_over(&mut self, target: Target<'_>) -> Result<(), Errno> {
        let Some(name) = &mut self.name else {
            return Err(Errno::NOENT);
        };
        rustix::fs::renameat(&*name.dir, &name.name, target.dir, target.name)?;
        name.left = true;
        Ok(())
    }

    /// Gives a file without a name a temporary one beside its target, so that it can be renamed; false
    /// if it cannot have one.
    fn link_temporarily(&mut self, tree: &Tree, target: Target<'_>) -> Result<bool, Errno> {
        let name = temporary_name()?;
        // Before it can be seen. If there are no locks, its age protects it from sweeps.
        let _ = rustix::fs::flock(&self.file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        let linked = tree.known.capabilities.link_unnamed(&self.file, &**target.dir, &name);
        if linked.is_ok() {
            self.name = Some(Name { dir: Arc::clone(target.dir), name, left: false });
        }
        Ok(linked.is_ok())
    }

    /// Copies the bytes to a file with a temporary name in the target's own folder, from which the
    /// target can certainly be reached.
    fn copy_near(&mut self, store: &Inner, tree: &Tree, target: Target<'_>) -> Result<()> {
        let failed = |error| errors::io("cannot copy a file for", target.path(tree), error);
        let kept = Arc::clone(&self.kept);
        let mut near = Self::named(store, tree, target.dir, target.folder, kept)?;
        let length = self.file.metadata().map_err(failed)?.len();
        if near.append(&self.file, 0, length).map_err(failed)? != length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        near.finish(store, tree, target.dir).map_err(failed)?;
        if self.name.is_none() {
            // The folder is well, so it was the missing name.
            tree.known.capabilities.unnamed.lose(|| target.path(tree));
        }
        *self = near;
        Ok(())
    }
}

impl Inner {
    /// The mode of new files; the umask applies.
    fn file_mode(&self) -> Mode {
        Mode::from_raw_mode(self.options.file_mode)
    }
}
