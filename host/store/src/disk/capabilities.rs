//! What the kernel and the file systems turn out to support, and naming files that have no name,
//! which depends on most of it.
//!
//! A capability that was marked as missing costs a detour, never a promise: steps on which promises
//! rest are attempted again each time, because another folder may be on another file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::{Features, errors, tree};

/// Capabilities, each assumed to work until it fails.
#[derive(Debug)]
pub(super) struct Capabilities {
    /// Files without a name can be made, and named later.
    pub(super) unnamed: Capability,
    /// What [`syncs_together`](Self::syncs_together) found out, by device.
    together: Mutex<BTreeMap<Device, bool>>,
    /// Files can be moved from the store's own workspace to their folders. Project quotas and union
    /// file systems forbid this between folders that appear to be on one file system.
    pub(super) central: Capability,
    /// An unnamed file can be named through its descriptor alone, without `/proc`.
    by_descriptor: Capability,
}

/// Major and minor number.
type Device = (u32, u32);

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
        let unnamed = "this file system cannot name unnamed files; unfinished uploads are kept \
                       in .keepgate from now on";
        let central = "files cannot be moved from the store's root to this folder; unfinished \
                       uploads that need a name are kept beside their folder from now on";
        Self {
            unnamed: Capability::new(features.unnamed_files, Some(unnamed)),
            central: Capability::new(true, Some(central)),
            by_descriptor: Capability::new(true, None),
            together: Mutex::default(),
        }
    }

    /// Whether to make an unfinished file without a name in this folder.
    pub(super) fn unnamed_in(&self, dir: &OwnedFd) -> bool {
        self.unnamed.works() && self.syncs_together(dir)
    }

    /// Whether syncing this folder also writes what its entries refer to in its current state: that
    /// a file now has a name, or that a folder was made. No standard guarantees it; a journal that
    /// is known to put both into one transaction does.
    pub(super) fn syncs_together(&self, dir: &OwnedFd) -> bool {
        let Ok(stat) = tree::stat(dir) else {
            return false;
        };
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        let mut together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
        *together.entry(device).or_insert_with(|| match tree::file_system(dir) {
            tree::XFS | tree::TMPFS => true,
            tree::EXT4 => has_journal(device).unwrap_or(false),
            // This includes ZFS: it would be correct, but takes seconds to name an unnamed file.
            _ => false,
        })
    }

    /// Gives a name to a file that has none; `EXIST` if the name is taken.
    pub(super) fn link_unnamed(&self, file: &File, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        // A removed folder causes the same "no entry" as a kernel without the feature.
        let gone = || tree::stat(dir).is_ok_and(|stat| stat.stx_nlink == 0);
        if self.by_descriptor.works() {
            match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
                // Kernels before 6.10 require a capability for it.
                Err(Errno::NOENT | Errno::PERM | Errno::INVAL) if !gone() => {
                    self.by_descriptor.lose(PathBuf::new);
                }
                other => return other,
            }
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW) {
            // /proc is not mounted.
            Err(Errno::NOENT) if !gone() => Err(Errno::OPNOTSUPP),
            other => other,
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

/// Whether this error means that the file system has no hard links.
pub(super) fn cannot_link(errno: Errno) -> bool {
    errors::is_unsupported(errno) || matches!(errno, Errno::PERM | Errno::MLINK)
}
