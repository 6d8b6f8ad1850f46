//! A file that is being written and has no name that anybody could ask for, and the step that
//! gives it one.
//!
//! The first choice, where it is durable, is a file without any name (`O_TMPFILE`) in the very
//! folder that it is for: no other file system, mount or quota is involved, and a killed process
//! leaves nothing. The second is a file in a [`Workspace`]. Both get their name in one step that
//! other processes see whole or not at all.

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

use super::abilities::cannot_link;
use super::kept::Kept;
use super::workspace::{Workspace, random_name};
use super::{Inner, fault, tree};
use crate::error::Result;

/// Bytes after which the disk may begin to write while more are coming.
const AHEAD: u64 = 2 * 1024 * 1024;
/// Bytes copied in one step where the kernel does not copy by itself.
const COPY: usize = 256 * 1024;

/// A file without a blob's name. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Temp {
    file: File,
    kept: Arc<Kept>,
    /// None for a file without any name.
    name: Option<Name>,
    /// Bytes written by [`Temp::write`], and how many of them the disk was told to begin with.
    written: u64,
    begun: u64,
}

/// The name of an unfinished file.
#[derive(Debug)]
struct Name {
    workspace: Arc<Workspace>,
    name: String,
    /// The file has gone elsewhere by now.
    left: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.left {
            let folder = self.workspace.folder();
            if let Err(errno) = rustix::fs::unlinkat(folder, &self.name, AtFlags::empty()) {
                tracing::warn!(name = self.name, error = %errno, "removing an unfinished file");
            }
        }
    }
}

/// Where a file is to appear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Its folder, open.
    pub(super) dir: &'a OwnedFd,
    /// The folder's name in the store.
    pub(super) folder: &'a str,
    /// Its name in the folder.
    pub(super) name: &'a str,
}

impl Target<'_> {
    fn path(&self, store: &Inner) -> PathBuf {
        store.tree.path_of(self.folder).join(self.name)
    }
}

impl Temp {
    /// A new one for a blob whose folder will be `folder`; `dir` is that folder or, where it is
    /// yet to be made, the deepest one above it.
    pub(super) fn new(store: &Inner, dir: &OwnedFd, folder: &str, kept: Arc<Kept>) -> Result<Self> {
        if store.abilities.unnamed_in(dir) {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let opened = rustix::io::retry_on_intr(|| {
                rustix::fs::openat(dir, ".", flags, store.file_mode())
            });
            match opened {
                Ok(file) => {
                    return Self::start(store, folder, file, kept, None);
                }
                Err(errno) if fault::is_unsupported(errno) || errno == Errno::ISDIR => {}
                Err(errno) => {
                    let path = store.tree.path_of(folder);
                    return Err(fault::io("making a file in", path, errno));
                }
            }
        }
        Self::named(store, store.workspace(dir, folder)?, kept, folder)
    }

    fn named(
        store: &Inner,
        workspace: Arc<Workspace>,
        kept: Arc<Kept>,
        folder: &str,
    ) -> Result<Self> {
        let failed = |errno| fault::io("making a file for", store.tree.path_of(folder), errno);
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
        kept: Arc<Kept>,
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
        // Drops empty slices at the front, which a write of nothing could not tell from an error.
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

    /// Lets the disk begin with what came so far, so that less is left to wait for at the end.
    /// Of what this advice says, only that part matters here: pages that will not be needed are
    /// written now. It is a hint; a file system may ignore it.
    fn begin_writeback(&mut self) {
        let fresh = self.written - self.begun;
        if fresh >= AHEAD {
            let length = NonZeroU64::new(fresh);
            let _ = rustix::fs::fadvise(&self.file, self.begun, length, Advice::DontNeed);
            self.begun = self.written;
        }
    }

    /// Appends `length` bytes of another file from `offset` on, in the kernel where it can. Fewer
    /// come back only where that file ends before.
    pub(super) fn append(&mut self, from: &File, offset: u64, length: u64) -> io::Result<u64> {
        let mut at = offset;
        let end = offset.saturating_add(length);
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut at), &self.file, None, step) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                // Another file system, or one that knows no copying.
                Err(errno) if fault::is_unsupported(errno) || errno == Errno::XDEV => {
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

    /// Writes everything to disk, with a time of its own to the nanosecond: the kernel's are some
    /// milliseconds apart, and two blobs of one etag must not be.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.file.set_modified(SystemTime::now())?;
        self.file.sync_all()
    }

    /// Gives the file its name where that is free; false where it is taken. The caller holds the
    /// key's lock.
    pub(super) fn place(&mut self, store: &Inner, target: Target<'_>) -> Result<bool> {
        let placed = match self.try_place(store, target) {
            Err(errno) if errno == Errno::XDEV || (self.name.is_none() && cannot_link(errno)) => {
                self.move_near(store, target)?;
                self.try_place(store, target)
            }
            other => other,
        };
        match placed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(fault::io("naming", target.path(store), errno)),
        }
    }

    /// Puts the file in the place of another, in one step.
    pub(super) fn replace(&mut self, store: &Inner, target: Target<'_>) -> Result<()> {
        let failed = |errno| fault::io("replacing", target.path(store), errno);
        if self.name.is_none() {
            self.give_name(store, target)?;
        }
        match self.rename_over(target) {
            Err(Errno::XDEV) => {
                self.move_near(store, target)?;
                self.rename_over(target).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    fn try_place(&mut self, store: &Inner, target: Target<'_>) -> Result<(), Errno> {
        let features = store.options.features;
        let Some(name) = &mut self.name else {
            return store.abilities.link_unnamed(&self.file, target.dir, target.name);
        };
        let from = name.workspace.folder();
        if features.rename_noreplace {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from, &name.name, target.dir, target.name, flags) {
                Ok(()) => {
                    name.left = true;
                    return Ok(());
                }
                Err(errno) if fault::is_unsupported(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
        if features.hard_links {
            let flags = AtFlags::empty();
            match rustix::fs::linkat(from, &name.name, target.dir, target.name, flags) {
                Err(errno) if cannot_link(errno) => {}
                // The first name goes when `self` is dropped.
                other => return other,
            }
        }
        // Neither step exists here (exFAT, some FUSE file systems). The key's lock keeps other
        // uploads of this process out; another process could come between.
        match tree::facts_at(target.dir, target.name) {
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

    /// Gives a file without any name one in a workspace, so that it can be renamed.
    fn give_name(&mut self, store: &Inner, target: Target<'_>) -> Result<()> {
        let failed = |errno| fault::io("naming a file for", target.path(store), errno);
        let name = random_name().map_err(failed)?;
        let link = |workspace: &Workspace| {
            store.abilities.link_unnamed(&self.file, workspace.folder(), &name)
        };
        let mut workspace = store.workspace(target.dir, target.folder)?;
        let mut linked = link(&workspace);
        if linked == Err(Errno::XDEV) {
            store.abilities.central.lose(|| target.path(store));
            workspace = store.passing_workspace(target.dir, target.folder)?;
            linked = link(&workspace);
        }
        match linked {
            Ok(()) => {
                self.name = Some(Name { workspace, name, left: false });
                Ok(())
            }
            Err(errno) if cannot_link(errno) => self.move_near(store, target),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Moves the bytes to a named file from which the target can surely be reached: in the
    /// target's own folder.
    fn move_near(&mut self, store: &Inner, target: Target<'_>) -> Result<()> {
        let failed = |error| fault::io("copying a file for", target.path(store), error);
        let abilities = &store.abilities;
        let lost = if self.name.is_none() { &abilities.unnamed } else { &abilities.central };
        lost.lose(|| target.path(store));
        let workspace = store.passing_workspace(target.dir, target.folder)?;
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
