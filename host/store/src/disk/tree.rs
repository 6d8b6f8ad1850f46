//! Resolves names below a root, so that nothing outside it can be reached: no symbolic link is
//! followed and no name leads upwards. The root itself may be a symbolic link.
//!
//! Linux 5.6 does this in one call (`openat2`); for older kernels it is done folder by folder.

use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::errors;
use crate::error::{Result, StoreError};

/// File systems on which cached names and pages are available without waiting. On others (NFS,
/// FUSE) even opening a cached name may wait for a server.
const LOCAL: [u64; 7] = [EXT4, XFS, TMPFS, BTRFS, ZFS, F2FS, BCACHEFS];
/// Also ext2 and ext3.
pub(super) const EXT4: u64 = 0xef53;
pub(super) const XFS: u64 = 0x5846_5342;
pub(super) const TMPFS: u64 = 0x0102_1994;
const BTRFS: u64 = 0x9123_683e;
const ZFS: u64 = 0x2fc1_2fc1;
const F2FS: u64 = 0xf2f5_2010;
const BCACHEFS: u64 = 0xca45_1a4e;

const STAT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// Opening a pipe or a device must not wait for its other end, nor become our terminal.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A blob's file, open for reading, and its metadata at that moment.
pub(super) type Opened = (OwnedFd, Statx);

/// A directory and the names below it.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    openat2: bool,
    /// Whether cached names may be used on the caller's thread.
    local: bool,
}

impl Tree {
    /// Opens an existing directory. `openat2` says whether to use that call if the kernel has it.
    pub(super) fn open(path: &Path, openat2: bool) -> Result<Self> {
        let failed = |errno| errors::io("cannot open the store's root", path, errno);
        let root = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(failed)?;
        // Old container runtimes forbid the call instead of not knowing it, so any error means no.
        let openat2 =
            openat2 && rustix::fs::openat2(&root, ".", DIRECTORY, Mode::empty(), BENEATH).is_ok();
        let local = LOCAL.contains(&file_system(&root));
        Ok(Self { root, path: path.to_owned(), openat2, local })
    }

    /// The root.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The path of a name, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    /// Opens a folder (`""` is the root) so that it can be listed and synced; `None` if there is no
    /// such folder.
    pub(super) fn folder(&self, name: &str) -> Result<Option<OwnedFd>> {
        match self.resolve(name, DIRECTORY) {
            Ok(folder) => Ok(Some(folder)),
            Err(errno) if errors::is_missing(errno) => Ok(None),
            Err(Errno::LOOP) => Err(errors::symlink(name)),
            Err(errno) => Err(errors::io("cannot open", self.path_of(name), errno)),
        }
    }

    /// Opens a blob; `None` if there is no regular file with this name.
    pub(super) fn blob(&self, name: &str) -> Result<Option<Opened>> {
        match self.resolve(name, READ) {
            Ok(file) => self.regular(name, file),
            // A socket, or a device without a driver.
            Err(Errno::NXIO | Errno::NODEV) => Ok(None),
            Err(errno) if errors::is_missing(errno) => Ok(None),
            Err(Errno::LOOP) => Err(errors::symlink(name)),
            Err(errno) => Err(errors::io("cannot open", self.path_of(name), errno)),
        }
    }

    /// Like [`blob`](Self::blob), but only if the kernel has the name in memory and need not wait
    /// for a disk. The outer none means that it has not, or that something is wrong.
    pub(super) fn cached_blob(&self, name: &str) -> Option<Result<Option<Opened>>> {
        if !(self.openat2 && self.local) {
            return None;
        }
        // Another mount below the root could make us wait.
        let resolve = BENEATH | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.root, name, READ, Mode::empty(), resolve) {
            Ok(file) => Some(self.regular(name, file)),
            Err(Errno::NOENT) => Some(Ok(None)),
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
    pub(super) fn deepest_existing<'a>(&self, folder: &'a str) -> Result<(OwnedFd, &'a str)> {
        let mut name = folder;
        loop {
            match self.resolve(name, DIRECTORY) {
                Ok(found) => return Ok((found, name)),
                Err(Errno::NOENT) if !name.is_empty() => {
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
            Errno::LOOP => errors::symlink(folder),
            Errno::NAMETOOLONG | Errno::ILSEQ => StoreError::Invalid(format!(
                "{folder}: the store's file system cannot hold this name"
            )),
            errno => errors::io("cannot open", self.path_of(folder), errno),
        }
    }

    /// Opens `name` below the root. A symbolic link anywhere in it causes `ELOOP`.
    fn resolve(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = if name.is_empty() { "." } else { name };
        if !self.openat2 {
            return self.walk(name, flags);
        }
        rustix::io::retry_on_intr(|| {
            rustix::fs::openat2(&self.root, name, flags, Mode::empty(), BENEATH)
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

/// Identifies a mount. Files can be renamed between two folders with the same value, because they
/// are on the same file system seen through the same mount.
pub(super) fn mount(stat: &Statx) -> (u32, u32, u64) {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_mnt_id)
}

/// The kernel's magic number for the file system of a folder.
pub(super) fn file_system(folder: &OwnedFd) -> u64 {
    let magic = rustix::fs::fstatfs(folder).map_or(0, |stat| stat.f_type);
    u64::try_from(magic & 0xffff_ffff).unwrap_or(0)
}
