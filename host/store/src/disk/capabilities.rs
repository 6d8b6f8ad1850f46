//! What the kernel and the file systems turn out to support, and naming files that have no name,
//! which depends on most of it.
//!
//! A capability that was marked as missing costs a detour, never a promise: steps on which promises
//! rest are attempted again each time, because another folder may be on another file system.
//! [`steps`](super::steps) says which steps those are.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::Features;
use super::tree::{Device, Dir};

/// File systems of the kernel itself. Cached names and pages are available without waiting, and an
/// error is the disk's. On others (NFS, CIFS, FUSE) even opening a cached name may wait for a server.
const LOCAL: [u64; 7] = [EXT4, XFS, TMPFS, BTRFS, ZFS, F2FS, BCACHEFS];
/// Also ext2 and ext3.
const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const TMPFS: u64 = 0x0102_1994;
const BTRFS: u64 = 0x9123_683e;
const ZFS: u64 = 0x2fc1_2fc1;
const F2FS: u64 = 0xf2f5_2010;
const BCACHEFS: u64 = 0xca45_1a4e;

/// Capabilities, each assumed to work until it fails.
#[derive(Debug)]
pub(super) struct Capabilities {
    /// Files without a name can be made, and named later.
    pub(super) unnamed: Capability,
    /// What is known about the file systems below a root.
    file_systems: Mutex<BTreeMap<Device, Arc<FileSystem>>>,
    /// An unnamed file can be named through its descriptor alone, without `/proc`.
    by_descriptor: Capability,
}

/// What is known about one file system.
#[derive(Debug)]
pub(super) struct FileSystem {
    /// Whether it is one of [`LOCAL`].
    pub(super) local: bool,
    /// Whether syncing a folder also writes what its entries refer to in its current state: that a
    /// file now has a name, or that a folder was made. No standard guarantees it; a journal that is
    /// known to put both into one transaction does.
    pub(super) syncs_together: bool,
    /// Whether it has synced a folder before.
    pub(super) folder_synced: AtomicBool,
    /// Whether it was reported that it cannot sync folders.
    pub(super) warned: AtomicBool,
    /// Whether it was reported that it cannot sync files.
    pub(super) files_warned: AtomicBool,
}

/// A single capability, assumed to work until it fails.
#[derive(Debug)]
pub(super) struct Capability {
    works: AtomicBool,
    /// The message to log when it fails; `None` if that is common.
    without: Option<&'static str>,
}

impl Capability {
    fn new(works: bool, without: Option<&'static str>) -> Self {
        Self { works: works.into(), without }
    }

    /// Whether to rely on it.
    pub(super) fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Records that it failed, so that the fallback is tried first from now on. `path` is where it
    /// failed.
    pub(super) fn lose(&self, path: impl Fn() -> PathBuf) {
        if let (true, Some(text)) = (self.works.swap(false, Ordering::Relaxed), self.without) {
            tracing::info!(folder = %path().display(), "{text}");
        }
    }
}

impl Capabilities {
    /// Starts with these features.
    pub(super) fn new(features: Features) -> Self {
        let unnamed = "this file system cannot name unnamed files; unfinished uploads have \
                       temporary names from now on";
        Self {
            unnamed: Capability::new(features.unnamed_files, Some(unnamed)),
            by_descriptor: Capability::new(true, None),
            file_systems: Mutex::default(),
        }
    }

    /// Whether to make an unfinished file without a name in this folder.
    pub(super) fn unnamed_in(&self, dir: &Dir) -> bool {
        self.unnamed.works() && self.file_system(dir).syncs_together
    }

    /// What is known about the file system of a folder.
    pub(super) fn file_system(&self, dir: &Dir) -> Arc<FileSystem> {
        let mut known = self.file_systems.lock().unwrap_or_else(PoisonError::into_inner);
        let device = dir.id.device;
        Arc::clone(known.entry(device).or_insert_with(|| Arc::new(FileSystem::of(device, dir))))
    }

    /// Gives a name to a file that has none; `EXIST` if the name is taken. Any other error means no
    /// more than that it has no name.
    pub(super) fn link_unnamed(
        &self,
        file: &File,
        dir: impl AsFd + Copy,
        name: &str,
    ) -> Result<(), Errno> {
        if self.by_descriptor.works() {
            match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
                // Kernels before 6.10 require a capability for it.
                Err(errno) if errno != Errno::EXIST => {}
                other => return other,
            }
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let linked = rustix::fs::linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW);
        if linked.is_ok() {
            self.by_descriptor.lose(PathBuf::new);
        }
        linked
    }
}

impl FileSystem {
    fn of(device: Device, folder: impl AsFd) -> Self {
        let magic = rustix::fs::fstatfs(folder).map_or(0, |stat| stat.f_type);
        let magic = u64::try_from(magic & 0xffff_ffff).unwrap_or(0);
        let syncs_together = match magic {
            XFS | TMPFS => true,
            EXT4 => has_journal(device).unwrap_or(false),
            // This includes ZFS: it would be correct, but takes seconds to name an unnamed file.
            _ => false,
        };
        Self {
            local: LOCAL.contains(&magic),
            syncs_together,
            folder_synced: false.into(),
            warned: false.into(),
            files_warned: false.into(),
        }
    }
}

/// Whether the ext4 file system on this device has a journal; `None` if the kernel does not say.
fn has_journal((major, minor): Device) -> Option<bool> {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = link.file_name()?.to_str()?;
    let task = std::fs::read_to_string(format!("/sys/fs/ext4/{name}/journal_task")).ok()?;
    Some(task.trim() != "<none>")
}
