//! What the kernel and the file systems can do, as far as it was found out, and the naming of
//! files without a name, which depends on most of it.
//!
//! What is lost here costs a detour, never a promise: steps on which promises rest are tried anew
//! each time, because another folder may be on another file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::{Features, fault, tree};

/// What is taken to work until it does not.
#[derive(Debug)]
pub(super) struct Abilities {
    /// Files without a name can be made, and named later.
    pub(super) unnamed: Ability,
    /// What [`syncs_together`](Self::syncs_together) found, by device.
    together: Mutex<BTreeMap<Device, bool>>,
    /// Files can be moved from the store's own workspace to where they belong. Project quotas and
    /// union file systems part folders that look like one file system.
    pub(super) central: Ability,
    /// An unnamed file can be named by its descriptor alone, without `/proc`.
    by_descriptor: Ability,
}

/// Major and minor number.
type Device = (u32, u32);

/// One thing that works until it does not.
#[derive(Debug)]
pub(super) struct Ability {
    works: AtomicBool,
    /// What it means to be without it; none where that is usual.
    without: Option<&'static str>,
}

impl Ability {
    fn new(works: bool, without: Option<&'static str>) -> Self {
        Self { works: works.into(), without }
    }

    /// Whether to rely on it.
    pub(super) fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// It did not work: from now on, the way round is taken in the first place. `path` is where
    /// it did not.
    pub(super) fn lose(&self, path: impl Fn() -> PathBuf) {
        if let (true, Some(text)) = (self.works.swap(false, Ordering::Relaxed), self.without) {
            tracing::info!(path = %path().display(), "{text}");
        }
    }
}

impl Abilities {
    /// At most these.
    pub(super) fn new(features: Features) -> Self {
        let unnamed = "files without a name cannot be given one here: from now on, unfinished \
                       uploads have names in .keepgate";
        let central = "finished files cannot be moved here from the store's root: from now on, \
                       unfinished uploads that need a name have it beside the folder that they \
                       are for";
        Self {
            unnamed: Ability::new(features.unnamed_files, Some(unnamed)),
            central: Ability::new(true, Some(central)),
            by_descriptor: Ability::new(true, None),
            together: Mutex::default(),
        }
    }

    /// Whether to make an unfinished file without a name in this folder.
    pub(super) fn unnamed_in(&self, dir: &OwnedFd) -> bool {
        self.unnamed.works() && self.syncs_together(dir)
    }

    /// Whether syncing this folder also writes what its entries stand for as it is by then: that a
    /// file has a name now, that a folder has been made. No standard says so; a journal that is
    /// known to have both in one transaction does it.
    pub(super) fn syncs_together(&self, dir: &OwnedFd) -> bool {
        let Ok(facts) = tree::facts(dir) else {
            return false;
        };
        let device = (facts.stx_dev_major, facts.stx_dev_minor);
        let mut together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
        *together.entry(device).or_insert_with(|| match tree::file_system(dir) {
            tree::XFS | tree::TMPFS => true,
            tree::EXT4 => has_journal(device).unwrap_or(false),
            // ZFS among them: it would do, but waits seconds to name a file that had no name.
            _ => false,
        })
    }

    /// Gives a file without any name one; `EXIST` where that is taken.
    pub(super) fn link_unnamed(&self, file: &File, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        // A folder that was removed says the same "no entry" as a kernel that cannot.
        let gone = || tree::facts(dir).is_ok_and(|facts| facts.stx_nlink == 0);
        if self.by_descriptor.works() {
            match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
                // Kernels before 6.10 want a capability for it.
                Err(Errno::NOENT | Errno::PERM | Errno::INVAL) if !gone() => {
                    self.by_descriptor.lose(PathBuf::new);
                }
                other => return other,
            }
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW) {
            // Without /proc.
            Err(Errno::NOENT) if !gone() => Err(Errno::OPNOTSUPP),
            other => other,
        }
    }
}

/// Whether the ext4 file system on this device has a journal; none where the kernel does not tell.
fn has_journal((major, minor): Device) -> Option<bool> {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = link.file_name()?.to_str()?;
    let task = std::fs::read_to_string(format!("/sys/fs/ext4/{name}/journal_task")).ok()?;
    Some(task.trim() != "<none>")
}

/// Whether this is how file systems without hard links say so.
pub(super) fn cannot_link(errno: Errno) -> bool {
    fault::is_unsupported(errno) || matches!(errno, Errno::PERM | Errno::MLINK)
}
