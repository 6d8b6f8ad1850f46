//! Resolves names below a root, so that nothing outside it can be reached: no symbolic link is
//! followed, unless the operator asked for it, and no name leads upwards. The root itself may be a
//! symbolic link.
//!
//! A [`Tree`] is what the root's path named when one call began. Each call gets a new one from
//! [`root`](super::root), and asks it before it promises anything whether the path still leads to the
//! same folder: [`Tree::still_names`].
//!
//! Linux 5.6 resolves a name in one call (`openat2`); for older kernels it is done folder by folder.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::errors;
use super::root::Known;
use crate::error::{Result, StoreError};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): in `stx_mnt_id`, a number that no later mount gets. Older
/// kernels ignore it and give one that is used again.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
const STAT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID).union(MNT_ID_UNIQUE);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// With links followed. What `/proc` calls links stays closed.
const FOLLOW: ResolveFlags = ResolveFlags::NO_MAGICLINKS;
/// Opening a pipe or a device must not wait for its other end, nor become our terminal.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A blob's file, open for reading, and its metadata at that moment.
pub(super) type Opened = (OwnedFd, Statx);

/// Which folder it is, and through which mount it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderId {
    pub(super) device: Device,
    inode: u64,
    mount: u64,
}

/// Major and minor number.
pub(super) type Device = (u32, u32);

/// An open folder.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) id: FolderId,
}

/// A store's root as one call sees it, and the names below it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) root: Arc<OwnedFd>,
    path: Arc<PathBuf>,
    /// Whether symbolic links are followed.
    pub(super) follow: bool,
    pub(super) known: Arc<Known>,
}

impl FolderId {
    pub(super) fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            mount: stat.stx_mnt_id,
        }
    }
}

impl Dir {
    fn open(fd: OwnedFd) -> Result<Self, Errno> {
        let id = FolderId::of(&stat(&fd)?);
        Ok(Self { fd, id })
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Tree {
    pub(super) fn new(root: OwnedFd, path: Arc<PathBuf>, follow: bool, known: Arc<Known>) -> Self {
        Self { root: Arc::new(root), path, follow, known }
    }

    /// The path of a name, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { (*self.path).clone() } else { self.path.join(name) }
    }

    /// Opens a folder (`""` is the root) so that it can be listed and synced; `None` if there is no
    /// such folder.
    pub(super) fn folder(&self, name: &str) -> Result<Option<Dir>> {
        match self.resolve(name, DIRECTORY).and_then(Dir::open) {
            Ok(folder) => Ok(Some(folder)),
            Err(errno) if errors::is_missing(errno) => self.not_there(name),
            Err(Errno::LOOP) => Err(self.symlink(name)),
            Err(errno) => Err(errors::io("cannot open", self.path_of(name), errno)),
        }
    }

    /// Opens a blob; `None` if there is no regular file with this name.
    pub(super) fn blob(&self, name: &str) -> Result<Option<Opened>> {
        match self.resolve(name, READ) {
            Ok(file) => self.regular(name, file),
            // A socket, or a device without a driver.
            Err(Errno::NXIO | Errno::NODEV) => Ok(None),
            Err(errno) if errors::is_missing(errno) => self.not_there(name),
            Err(Errno::LOOP) => Err(self.symlink(name)),
            Err(errno) => Err(errors::io("cannot open", self.path_of(name), errno)),
        }
    }

    /// Like [`blob`](Self::blob), but only if the kernel has the name in memory and need not wait
    /// for a disk. The outer none means that it has not, or that something is wrong.
    pub(super) fn cached_blob(&self, name: &str) -> Option<Result<Option<Opened>>> {
        if !(self.known.openat2 && self.known.local) {
            return None;
        }
        // Another mount below the root could make us wait.
        let resolve = self.how() | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&*self.root, name, READ, Mode::empty(), resolve) {
            Ok(file) => Some(self.regular(name, file)),
            Err(Errno::NOENT) if !self.follow => Some(Ok(None)),
            Err(_) => None,
        }
    }

    fn regular(&self, name: &str, file: OwnedFd) -> Result<Option<Opened>> {
        let stat =
            stat(&file).map_err(|errno| errors::io("cannot read", self.path_of(name), errno))?;
        Ok(is_regular(&stat).then_some((file, stat)))
    }

    /// The deepest existing folder on the way to `folder`, and the part of the name that exists.
    /// [`StoreError::Invalid`] if there is a blob in place of a folder.
    pub(super) fn deepest_existing<'a>(&self, folder: &'a str) -> Result<(Dir, &'a str)> {
        let mut name = folder;
        loop {
            match self.resolve(name, DIRECTORY).and_then(Dir::open) {
                Ok(found) => return Ok((found, name)),
                Err(Errno::NOENT) if !name.is_empty() => {
                    self.not_there::<()>(name)?;
                    name = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                }
                Err(errno) => return Err(self.path_error(name, errno)),
            }
        }
    }

    /// Why a required folder cannot be opened.
    pub(super) fn path_error(&self, folder: &str, errno: Errno) -> StoreError {
        match errno {
            Errno::NOTDIR => StoreError::Invalid(format!(
                "a part of {folder} is a blob, so no folder can be made there"
            )),
            Errno::LOOP => self.symlink(folder),
            Errno::NAMETOOLONG | Errno::ILSEQ => StoreError::Invalid(format!(
                "{folder}: the store's file system cannot hold this name"
            )),
            errno => errors::io("cannot open", self.path_of(folder), errno),
        }
    }

    /// The error if a symbolic link stands in place of a folder or a blob.
    pub(super) fn symlink(&self, name: &str) -> StoreError {
        StoreError::Denied(if self.follow {
            format!("{name} is, or is below, a symbolic link that leads to itself or to nothing")
        } else {
            format!("{name} is, or is below, a symbolic link, and the store follows none")
        })
    }

    /// None, unless the name is below a symbolic link that leads to nothing, such as a disk that is
    /// not mounted: what is there is not known then.
    fn not_there<T>(&self, name: &str) -> Result<Option<T>> {
        if self.follow {
            let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
            for part in ends.filter_map(|end| name.get(..end)).filter(|part| !part.is_empty()) {
                match stat_at(&*self.root, part) {
                    Err(_) => break,
                    Ok(stat) if is_symlink(&stat) && self.stat_at(&*self.root, part).is_err() => {
                        tracing::warn!(
                            path = %self.path_of(part).display(),
                            "a symbolic link in the store leads to nothing"
                        );
                        return Err(StoreError::Unavailable(format!(
                            "{part} is not available at the moment"
                        )));
                    }
                    Ok(_) => {}
                }
            }
        }
        Ok(None)
    }

    /// Whether the path still leads to the folder that a call has open; otherwise nobody would see
    /// what the call promises. True for the root if `folder` is empty.
    pub(super) fn still_names(&self, folder: &str, dir: &Dir) -> bool {
        let path = self.path_of(folder);
        match rustix::fs::statx(CWD, &path, AtFlags::empty(), STAT) {
            Ok(stat) => FolderId::of(&stat) == dir.id,
            // Longer than paths may be, though each part is not. The root must do.
            Err(Errno::NAMETOOLONG) => self.is_current(),
            Err(_) => false,
        }
    }

    /// Whether the root's path still leads to this root.
    pub(super) fn is_current(&self) -> bool {
        rustix::fs::statx(CWD, &*self.path, AtFlags::empty(), STAT)
            .is_ok_and(|stat| FolderId::of(&stat) == self.known.id)
    }

    /// [`StoreError::Unavailable`] unless [`still_names`](Self::still_names).
    pub(super) fn must_name(&self, folder: &str, dir: &Dir) -> Result<()> {
        if self.still_names(folder, dir) { Ok(()) } else { Err(replaced()) }
    }

    /// Makes an I/O error that happened because the root is gone or another one by now a reason to
    /// try again.
    pub(super) fn settle<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(StoreError::Io { .. }) if !self.is_current() => Err(replaced()),
            result => result,
        }
    }

    /// Metadata of an entry in a folder; of the link itself if it is a symbolic link and the store
    /// follows none.
    pub(super) fn stat_at(&self, folder: impl AsFd, name: &str) -> Result<Statx, Errno> {
        let flags = if self.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        rustix::fs::statx(folder, name, flags, STAT)
    }

    fn how(&self) -> ResolveFlags {
        if self.follow { FOLLOW } else { BENEATH }
    }

    /// Opens `name` below the root. A symbolic link anywhere in it causes `ELOOP`, if the store
    /// follows none.
    fn resolve(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = if name.is_empty() { "." } else { name };
        rustix::io::retry_on_intr(|| match (self.known.openat2, self.follow) {
            (true, _) => rustix::fs::openat2(&*self.root, name, flags, Mode::empty(), self.how()),
            // Names have no `..`, and clients cannot make links: they lead where the operator said.
            (false, true) => rustix::fs::openat(&*self.root, name, flags, Mode::empty()),
            (false, false) => self.walk(name, flags),
        })
    }

    fn walk(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let step = |folder: &OwnedFd, segment: &str, flags| {
            rustix::io::retry_on_intr(|| {
                rustix::fs::openat(folder, segment, flags | OFlags::NOFOLLOW, Mode::empty())
            })
            .map_err(|errno| match errno {
                // With O_DIRECTORY the kernel reports a symbolic link as "not a directory".
                Errno::NOTDIR if stat_at(folder, segment).is_ok_and(|stat| is_symlink(&stat)) => {
                    Errno::LOOP
                }
                errno => errno,
            })
        };
        let Some((folders, last)) = name.rsplit_once('/') else {
            return step(&self.root, name, flags);
        };
        let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folders = folders.split('/');
        let mut folder = step(&self.root, folders.next().unwrap_or("."), through)?;
        for segment in folders {
            folder = step(&folder, segment, through)?;
        }
        step(&folder, last, flags)
    }
}

/// The error of a call whose folder, or the root above it, was replaced or taken away meanwhile.
fn replaced() -> StoreError {
    StoreError::Unavailable(
        "the store was replaced or taken away during the request; try it again".to_owned(),
    )
}

/// Whether this kernel resolves names in one call. Old container runtimes forbid the call instead of
/// not knowing it, so any error means no.
pub(super) fn has_openat2(root: &OwnedFd) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(root, ".", flags, Mode::empty(), BENEATH).is_ok()
}

/// Metadata of an open file.
pub(super) fn stat(file: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, STAT)
}

/// Metadata of an entry in a folder; of the link itself if it is a symbolic link.
pub(super) fn stat_at(folder: impl AsFd, name: &str) -> Result<Statx, Errno> {
    rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, STAT)
}

/// The kind of file.
pub(super) fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// Whether it is a regular file.
pub(super) fn is_regular(stat: &Statx) -> bool {
    kind(stat) == FileType::RegularFile
}

/// Whether it is a symbolic link.
pub(super) fn is_symlink(stat: &Statx) -> bool {
    kind(stat) == FileType::Symlink
}
