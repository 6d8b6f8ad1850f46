//! A file that is being written under no name that a client could ask for, and the one step that
//! publishes it.
//!
//! If its later name is durable, it is a file without any name (`O_TMPFILE`) in its destination
//! folder: no other file system, mount or quota is involved, and a killed process leaves nothing
//! behind. Otherwise it is a file in a [`Workspace`]. Both get their name in one step that other
//! processes see as a whole or not at all.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::capabilities::cannot_link;
use super::workspace::{Workspace, random_name};
use super::xattr::Attributes;
use super::{Inner, errors, tree};
use crate::error::Result;

/// Bytes after which write-back is started while more bytes arrive.
const WRITEBACK: u64 = 2 * 1024 * 1024;
/// Bytes copied in one step if the kernel cannot copy by itself.
const COPY: usize = 256 * 1024;

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
    workspace: Arc<Workspace>,
    name: String,
    /// The file has been moved away.
    left: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.left {
            let folder = self.workspace.folder();
            if let Err(errno) = rustix::fs::unlinkat(folder, &self.name, AtFlags::empty()) {
                tracing::warn!(file = self.name, error = %errno, "cannot remove an unfinished file");
            }
        }
    }
}

/// Where a file is to be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The folder, open.
    pub(super) dir: &'a OwnedFd,
    /// The folder's name in the store.
    pub(super) folder: &'a str,
    /// The name in the folder.
    pub(super) name: &'a str,
}

impl Target<'_> {
    fn path(&self, store: &Inner) -> PathBuf {
        store.tree.path_of(self.folder).join(self.name)
    }
}

impl Temp {
    /// Makes a file for a blob in `folder`. `dir` is that folder or, if it does not exist yet, its
    /// deepest existing parent.
    pub(super) fn new(
        store: &Inner,
        dir: &OwnedFd,
        folder: &str,
        kept: Arc<Attributes>,
    ) -> Result<Self> {
        if store.capabilities.unnamed_in(dir) {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let opened = rustix::io::retry_on_intr(|| {
                rustix::fs::openat(dir, ".", flags, store.file_mode())
            });
            match opened {
                Ok(file) => {
                    return Self::start(store, folder, file, kept, None);
                }
                Err(errno) if errors::is_unsupported(errno) || errno == Errno::ISDIR => {}
                Err(errno) => {
                    let path = store.tree.path_of(folder);
                    return Err(errors::io("cannot create a file in", path, errno));
                }
            }
        }
        Self::named(store, store.workspace(dir, folder)?, kept, folder)
    }

    fn named(
        store: &Inner,
        workspace: Arc<Workspace>,
        kept: Arc<Attributes>,
        folder: &str,
    ) -> Result<Self> {
        let failed =
            |errno| errors::io("cannot create a file for", store.tree.path_of(folder), errno);
        let name = random_name().map_err(failed)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::io::retry_on_intr(|| {
            rustix::fs::openat(workspace.folder(), &name, flags, store.file_mode())
        })
        .map_err(failed)?;
        let name = Some(Name { workspace, name, left: false });
        Self::start(store, folder, file, kept, name)
    }

    fn start(
        store: &Inner,
        folder: &str,
        file: OwnedFd,
        kept: Arc<Attributes>,
        name: Option<Name>,
    ) -> Result<Self> {
        let temp = Self { file: file.into(), kept, name, written: 0, begun: 0 };
        temp.kept.write(store, folder, &temp.file)?;
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
                // Another file system, or one that cannot copy.
                Err(errno) if errors::is_unsupported(errno) || errno == Errno::XDEV => {
                    return self.append_by_hand(from, at, end).map(|at| at - offset);
                }
                Err(errno) => return Err(errno.into()),
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
    pub(super) fn finish(&self) -> io::Result<()> {
        self.file.set_modified(SystemTime::now())?;
        self.file.sync_all()
    }

    /// Gives the file its name if the name is free; false if it is taken. The caller holds the
    /// key's lock.
    pub(super) fn publish_new(&mut self, store: &Inner, target: Target<'_>) -> Result<bool> {
        let placed = match self.try_publish_new(store, target) {
            Err(errno) if errno == Errno::XDEV || (self.name.is_none() && cannot_link(errno)) => {
                self.copy_near(store, target)?;
                self.try_publish_new(store, target)
            }
            other => other,
        };
        match placed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errors::io("cannot name", target.path(store), errno)),
        }
    }

    /// Replaces another file, in one step.
    pub(super) fn publish_over(&mut self, store: &Inner, target: Target<'_>) -> Result<()> {
        let failed = |errno| errors::io("cannot replace", target.path(store), errno);
        if self.name.is_none() {
            self.link_in_workspace(store, target)?;
        }
        match self.rename_over(target) {
            Err(Errno::XDEV) => {
                self.copy_near(store, target)?;
                self.rename_over(target).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    fn try_publish_new(&mut self, store: &Inner, target: Target<'_>) -> Result<(), Errno> {
        let features = store.options.features;
        let Some(name) = &mut self.name else {
            return store.capabilities.link_unnamed(&self.file, target.dir, target.name);
        };
        let from = name.workspace.folder();
        if features.rename_noreplace {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from, &name.name, target.dir, target.name, flags) {
                Ok(()) => {
                    name.left = true;
                    return Ok(());
                }
                Err(errno) if errors::is_unsupported(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
        if features.hard_links {
            let flags = AtFlags::empty();
            match rustix::fs::linkat(from, &name.name, target.dir, target.name, flags) {
                Err(errno) if cannot_link(errno) => {}
                // Dropping `self` removes the first name.
                other => return other,
            }
        }
        // This file system has neither (exFAT, some FUSE file systems). The key's lock excludes
        // other uploads of this process; another process could interfere.
        match tree::stat_at(target.dir, target.name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => self.rename_over(target),
            Err(errno) => Err(errno),
        }
    }

    fn rename_over(&mut self, target: Target<'_>) -> Result<(), Errno> {
        let Some(name) = &mut self.name else {
            return Err(Errno::NOENT);
        };
        let from = name.workspace.folder();
        rustix::fs::renameat(from, &name.name, target.dir, target.name)?;
        name.left = true;
        Ok(())
    }

    /// Gives a file without a name one in a workspace, so that it can be renamed.
    fn link_in_workspace(&mut self, store: &Inner, target: Target<'_>) -> Result<()> {
        let failed = |errno| errors::io("cannot name a file for", target.path(store), errno);
        let name = random_name().map_err(failed)?;
        let link = |workspace: &Workspace| {
            store.capabilities.link_unnamed(&self.file, workspace.folder(), &name)
        };
        let mut workspace = store.workspace(target.dir, target.folder)?;
        let mut linked = link(&workspace);
        if linked == Err(Errno::XDEV) {
            store.capabilities.central.lose(|| target.path(store));
            workspace = store.temporary_workspace(target.dir, target.folder)?;
            linked = link(&workspace);
        }
        match linked {
            Ok(()) => {
                self.name = Some(Name { workspace, name, left: false });
                Ok(())
            }
            Err(errno) if cannot_link(errno) => self.copy_near(store, target),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Copies the bytes to a named file in the target's own folder, from which the target can
    /// certainly be reached.
    fn copy_near(&mut self, store: &Inner, target: Target<'_>) -> Result<()> {
        let failed = |error| errors::io("cannot copy a file for", target.path(store), error);
        let capabilities = &store.capabilities;
        let lost = if self.name.is_none() { &capabilities.unnamed } else { &capabilities.central };
        lost.lose(|| target.path(store));
        let workspace = store.temporary_workspace(target.dir, target.folder)?;
        let mut near = Self::named(store, workspace, Arc::clone(&self.kept), target.folder)?;
        let length = self.file.metadata().map_err(failed)?.len();
        if near.append(&self.file, 0, length).map_err(failed)? != length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        near.finish().map_err(failed)?;
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
