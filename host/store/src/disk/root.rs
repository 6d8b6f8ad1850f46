//! The root of a store: whatever its path names at this moment.
//!
//! Each call opens the root anew and closes it when it is over, so nothing is held while the store is
//! idle: the disk below it can be unmounted, swapped, or mounted in the first place, and a folder can
//! be replaced by another one. What was found out about a root ([`Known`]) is kept as long as the path
//! leads to the same folder, and found out again otherwise.
//!
//! A root that cannot be opened, or that does not pass the operator's [`Guard`], makes the store
//! unavailable until it can: calls fail with [`StoreError::Unavailable`], the log has one line for each
//! change of that state, and nothing is created in its place.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::capabilities::Capabilities;
use super::tree::{self, DIRECTORY, Dir, FolderId, Tree};
use super::{DiskOptions, errors, folders};
use crate::error::{Result, StoreError};

const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A path that names a store's root.
#[derive(Debug)]
pub(super) struct Root {
    path: Arc<PathBuf>,
    options: DiskOptions,
    known: RwLock<Option<Arc<Known>>>,
    /// Why the store cannot be used, as it was logged; none if it can.
    lost: Mutex<Option<String>>,
    is_lost: AtomicBool,
}

/// What is known about the folder that the path leads to.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: FolderId,
    born: (i64, u32),
    /// Differs between roots that a process has seen at one path.
    pub(super) epoch: u64,
    pub(super) openat2: bool,
    /// Whether cached names may be used on the caller's thread.
    pub(super) local: bool,
    /// Whether it is the top of a mount.
    is_mount: bool,
    /// The folder above it, if it can be looked at.
    parent: Option<FolderId>,
    pub(super) capabilities: Capabilities,
    /// Write-locked while folders are being made that are not durable yet.
    pub(super) making: RwLock<()>,
    /// Folders whose entries in their parents were synced.
    pub(super) durable: Mutex<HashSet<String>>,
}

/// Why a store cannot be used.
#[derive(Debug)]
pub(super) enum Lost {
    /// The system's error.
    Unopened(Errno),
    /// What the operator demanded and is not so.
    Guarded(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopened(errno) => write!(f, "cannot open it: {}", std::io::Error::from(*errno)),
            Self::Guarded(why) => f.write_str(why),
        }
    }
}

impl Root {
    pub(super) fn new(path: &Path, options: &DiskOptions) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            options: options.clone(),
            known: RwLock::default(),
            lost: Mutex::default(),
            is_lost: false.into(),
        }
    }

    /// The path of the root.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what the path names now, and says whether that is another folder than before. Logs if
    /// the store becomes unavailable or available again.
    pub(super) fn open(&self) -> Result<(Tree, bool)> {
        match self.attempt() {
            Ok(found) => {
                if self.is_lost.load(Ordering::Relaxed) {
                    self.came_back();
                }
                Ok(found)
            }
            // This process has too many files open, for example, which says nothing about the store.
            Err(Lost::Unopened(errno)) if super::steps::is_ours(errno) => {
                Err(errors::io("cannot open the store's root", &*self.path, errno))
            }
            Err(lost) => {
                self.went_away(&lost);
                Err(StoreError::Unavailable("the store is not available at the moment".to_owned()))
            }
        }
    }

    /// Like [`open`](Self::open), without logging.
    pub(super) fn attempt(&self) -> Result<(Tree, bool), Lost> {
        let root = rustix::io::retry_on_intr(|| rustix::fs::open(&*self.path, ROOT, Mode::empty()))
            .map_err(Lost::Unopened)?;
        let stat = stat(&root).map_err(Lost::Unopened)?;
        let before = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = before.clone().filter(|known| known.is(&stat)) {
            self.check_marker(&root)?;
            return Ok((self.tree(root, known), false));
        }
        let epoch = before.as_ref().map_or(0, |before| before.epoch + 1);
        let fresh = Arc::new(Known::look(&root, &stat, epoch, &self.options));
        self.check_mount(&fresh, before.as_deref())?;
        self.check_marker(&root)?;
        // Whoever comes first says what is known from now on.
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.is(&stat)) {
            return Ok((self.tree(root, Arc::clone(known)), false));
        }
        *known = Some(Arc::clone(&fresh));
        drop(known);
        let tree = self.tree(root, fresh);
        folders::try_sync_of_folders(&tree);
        if before.is_some() {
            tracing::warn!(
                folder = %self.path.display(),
                "another folder is at the store's path now; it is the store from now on"
            );
        }
        Ok((tree, true))
    }

    /// The root, if it can be opened without waiting for a disk and is known.
    pub(super) fn cached(&self) -> Option<Tree> {
        let known = self.known.try_read().ok()?.clone().filter(|known| known.openat2)?;
        if !known.local || self.options.marker.is_some() || self.is_lost.load(Ordering::Relaxed) {
            return None;
        }
        let how = ResolveFlags::CACHED;
        let root = rustix::fs::openat2(CWD, &*self.path, ROOT, Mode::empty(), how).ok()?;
        let same = stat(&root).is_ok_and(|stat| known.is(&stat));
        same.then(|| self.tree(root, known))
    }

    fn tree(&self, root: OwnedFd, known: Arc<Known>) -> Tree {
        Tree::new(root, Arc::clone(&self.path), self.options.follow_symlinks, known)
    }

    /// Checks that a disk is mounted, if one must be. Unless the operator said otherwise, one must be
    /// where one was: an empty folder below it is not the store.
    fn check_mount(&self, found: &Known, before: Option<&Known>) -> Result<(), Lost> {
        let was_there = before.is_some_and(|before| {
            before.is_mount && before.parent.is_some() && before.parent == found.parent
        });
        match self.options.require_mount {
            _ if found.is_mount => Ok(()),
            Some(true) => Err(Lost::Guarded(
                "it is not a mount point, and `require_mount` is set; mount the disk".to_owned(),
            )),
            None if was_there => Err(Lost::Guarded(
                "it was a mount point and is none any more; mount the disk again, or restart the \
                 gateway if the folder itself is to be the store"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that the operator's marker is in the root.
    fn check_marker(&self, root: &OwnedFd) -> Result<(), Lost> {
        let Some(marker) = &self.options.marker else { return Ok(()) };
        match tree::stat_at(root, marker) {
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => Err(Lost::Guarded(format!(
                "the marker {marker:?} is not in it; mount the disk, or create the marker there"
            ))),
            Err(errno) => Err(Lost::Unopened(errno)),
        }
    }

    fn went_away(&self, lost: &Lost) {
        let reason = lost.to_string();
        let mut logged = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.as_ref() != Some(&reason) {
            tracing::error!(
                folder = %self.path.display(), reason,
                "store unavailable, its requests are refused with status 503"
            );
            *logged = Some(reason);
            self.is_lost.store(true, Ordering::Relaxed);
        }
    }

    fn came_back(&self) {
        let mut logged = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.take().is_some() {
            self.is_lost.store(false, Ordering::Relaxed);
            tracing::warn!(folder = %self.path.display(), "store available again");
        }
    }
}

impl Known {
    fn look(root: &OwnedFd, stat: &Statx, epoch: u64, options: &DiskOptions) -> Self {
        let id = FolderId::of(stat);
        let capabilities = Capabilities::new(options.features);
        let above = rustix::fs::openat(root, "..", ROOT, Mode::empty());
        let parent = above.and_then(tree::stat).map(|stat| FolderId::of(&stat)).ok();
        let says = stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
        // Kernels before 5.8 do not say.
        let is_mount = if says {
            stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        } else {
            parent.is_some_and(|parent| parent.device != id.device)
        };
        let local =
            rustix::io::dup(root).is_ok_and(|fd| capabilities.file_system(&Dir { fd, id }).local);
        Self {
            id,
            born: born(stat),
            epoch,
            openat2: options.features.openat2 && tree::has_openat2(root),
            local,
            is_mount,
            parent,
            capabilities,
            making: RwLock::default(),
            durable: Mutex::default(),
        }
    }

    /// Whether this is the folder with these metadata. Numbers of devices, mounts and inodes are used
    /// again, by the next disk for example; the time of birth tells them apart.
    fn is(&self, stat: &Statx) -> bool {
        self.id == FolderId::of(stat) && self.born == born(stat)
    }

    /// Whether it is the top of a mount.
    pub(super) fn is_mount(&self) -> bool {
        self.is_mount
    }
}

fn born(stat: &Statx) -> (i64, u32) {
    if stat.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return (0, 0);
    }
    (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
}

fn stat(root: &OwnedFd) -> Result<Statx, Errno> {
    tree::stat(root)
}

/// Opens the root itself so that it can be read and synced; none if it cannot.
pub(super) fn readable(tree: &Tree) -> Option<Dir> {
    let fd = rustix::fs::openat(&*tree.root, ".", DIRECTORY, Mode::empty()).ok()?;
    Some(Dir { fd, id: tree.known.id })
}
