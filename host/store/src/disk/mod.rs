//! A directory as a store. A blob's key is its path below the root, so other programs on the same
//! machine find the same files. When `put` returns, its blob is on disk as a whole; otherwise no
//! part of it is there.
//!
//! Linux only: this code uses `openat2`, `O_TMPFILE`, `renameat2` and `preadv2`, with a fallback
//! for each if the kernel or the file system lacks it ([`Features`]).
//!
//! The sizes and methods were measured on two cores (`cargo bench -p keepgate-store --bench
//! throughput`). Passing 256 KiB at a time to another thread to be hashed and written costs a sixth
//! of the speed of doing it in place, 128 KiB a third, 1 MiB a twelfth, and the next batch is
//! received meanwhile. Starting write-back every 2 MiB makes a single stream of 16 MiB uploads a
//! quarter to a half faster (0.7 to 0.9 GB/s; SHA-256 alone does 1.8). Reading cached pages in
//! place is three to five times as fast as on another thread, and `POSIX_FADV_SEQUENTIAL` adds a
//! third if they are not cached and the disk's readahead is the usual 128 KiB.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `tree` | resolves names below the root, so that nothing outside can be reached |
//! | `workspace` | the hidden folder for unfinished files; sweeps what killed processes left |
//! | `capabilities` | what the kernel and the file systems turn out to support |
//! | `temp` | an unfinished file, and the one step that publishes it |
//! | `upload` | conditions, bytes and commit, on threads that may block |
//! | `put`, `read`, `list` | the async side of uploads, downloads and listings |
//! | `folders` | makes folders that survive a power cut |
//! | `xattr` | etag and metadata |
//! | `errors` | maps the system's errors; runs blocking work |

mod capabilities;
mod errors;
mod folders;
mod list;
mod put;
mod read;
mod temp;
mod tree;
mod upload;
mod workspace;
mod xattr;

use std::fmt;
use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use self::capabilities::Capabilities;
use self::temp::Temp;
use self::tree::Tree;
use self::workspace::{Swept, Workspace};
use crate::body::Body;
use crate::error::Result;
use crate::key::{Folder, Key};
use crate::{
    BlobStore, CommittedChange, DeleteOptions, Download, Info, Listing, Part, Piece, PutOptions,
    Stored,
};

/// Number of key locks: more than there are threads that could want one at a time.
const LOCKS: usize = 64;

/// How to open a [`DiskStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Make the root and its parents if they are missing.
    pub create: bool,
    /// Mode of new folders; the umask applies.
    pub directory_mode: u32,
    /// Mode of new files; the umask applies.
    pub file_mode: u32,
    /// Which features of the kernel and the file system to use.
    pub features: Features,
}

impl Default for DiskOptions {
    /// Makes the root; folders `0700`, files `0600`; uses every feature.
    fn default() -> Self {
        Self {
            create: true,
            directory_mode: 0o700,
            file_mode: 0o600,
            features: Features::default(),
        }
    }
}

impl DiskOptions {
    /// Changes the modes to `0770` for folders and `0660` for files, so that the group may read and
    /// write.
    #[must_use]
    pub fn group_accessible(self) -> Self {
        Self { directory_mode: 0o770, file_mode: 0o660, ..self }
    }
}

/// Which features of the kernel and the file system to use. Missing ones are detected; turn one off
/// for a test, or for a file system that has it but implements it badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Resolve names in one call (`openat2`, Linux 5.6). Otherwise folder by folder.
    pub openat2: bool,
    /// Write unfinished files without a name (`O_TMPFILE`), on file systems that make their later
    /// name durable: XFS, and ext4 with a journal. Otherwise they have a name in `.keepgate`.
    pub unnamed_files: bool,
    /// Rename without replacing (`RENAME_NOREPLACE`). Otherwise a hard link.
    pub rename_noreplace: bool,
    /// Hard links. Otherwise a check followed by a rename, which is safe only among the uploads of
    /// one process.
    pub hard_links: bool,
}

impl Default for Features {
    /// All of them.
    fn default() -> Self {
        Self { openat2: true, unnamed_files: true, rename_noreplace: true, hard_links: true }
    }
}

/// A directory as a store. Clones are the same store.
#[derive(Clone)]
pub struct DiskStore {
    inner: Arc<Inner>,
}

struct Inner {
    tree: Tree,
    options: DiskOptions,
    capabilities: Capabilities,
    /// The root's mount. Folders on another mount need a workspace there.
    mount: (u32, u32, u64),
    /// The workspace for unfinished files with names; none until it could be made.
    central: Mutex<Option<Arc<Workspace>>>,
    /// Write-locked while folders are being made that are not durable yet.
    making: RwLock<()>,
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
    buffers: Arc<read::Buffers>,
    warned_sync: AtomicBool,
    warned_names: AtomicBool,
}

impl DiskStore {
    /// Opens a directory as a store and removes unfinished uploads that dead processes left behind.
    /// Blocks; call it at startup.
    ///
    /// A root that is read-only or full opens too: blobs can be read, and deleted from a full one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`](crate::StoreError::Io) if the root is missing and must not be made, is
    /// not a directory, or cannot be read.
    pub fn open(root: impl AsRef<Path>, options: DiskOptions) -> Result<Self> {
        let root = root.as_ref();
        if options.create {
            make_root(root, options.directory_mode)?;
        }
        let tree = Tree::open(root, options.features.openat2)?;
        let stat = tree::stat(tree.root())
            .map_err(|errno| errors::io("cannot open the store's root", root, errno))?;
        let inner = Inner {
            mount: tree::mount(&stat),
            tree,
            capabilities: Capabilities::new(options.features),
            options,
            central: Mutex::default(),
            making: RwLock::default(),
            locks: [const { Mutex::new(()) }; LOCKS],
            hasher: RandomState::new(),
            buffers: Arc::default(),
            warned_sync: false.into(),
            warned_names: false.into(),
        };
        if let Err(error) = inner.central_workspace() {
            tracing::warn!(
                folder = %root.display(), %error,
                "store is not writable; blobs can still be read"
            );
        }
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// A workspace from which files can be moved to `folder`. `dir` is the folder, or its deepest
    /// existing parent.
    fn workspace(&self, dir: &OwnedFd, folder: &str) -> Result<Arc<Workspace>> {
        let failed = |errno| errors::io("cannot look up", self.tree.path_of(folder), errno);
        if !self.capabilities.central.works() {
            return self.temporary_workspace(dir, folder);
        }
        let here = tree::mount(&tree::stat(dir).map_err(failed)?);
        if here == self.mount {
            return self.central_workspace();
        }
        // The top of the other mount, where the workspace is in nobody's way.
        let (mut top, mut name) = self.tree.deepest_existing(folder)?;
        while let Some((parent, _)) = name.rsplit_once('/') {
            let (above, _) = self.tree.deepest_existing(parent)?;
            if tree::mount(&tree::stat(&above).map_err(failed)?) != here {
                break;
            }
            (top, name) = (above, parent);
        }
        self.temporary_workspace(&top, name)
    }

    /// The workspace at the root, which lives as long as the store is open.
    fn central_workspace(&self) -> Result<Arc<Workspace>> {
        let mut central = self.central.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workspace) = &*central {
            return Ok(Arc::clone(workspace));
        }
        let (workspace, swept) = self.open_workspace(self.tree.root(), "", true)?;
        if swept != Swept::default() {
            tracing::info!(
                files = swept.files, processes = swept.folders,
                folder = %self.tree.path_of("").display(),
                "unfinished uploads of processes that did not exit properly removed"
            );
            // Those processes may have made folders without having synced them.
            rustix::fs::syncfs(self.tree.root())
                .map_err(|errno| errors::io("cannot sync", self.tree.path_of(""), errno))?;
        }
        let workspace = Arc::new(workspace);
        *central = Some(Arc::clone(&workspace));
        Ok(workspace)
    }

    /// A workspace for one upload, in a folder of another mount. Afterwards nothing there is held
    /// open, so the mount can be unmounted.
    fn temporary_workspace(&self, base: &OwnedFd, name: &str) -> Result<Arc<Workspace>> {
        Ok(Arc::new(self.open_workspace(base, name, false)?.0))
    }

    fn open_workspace(&self, base: &OwnedFd, name: &str, stay: bool) -> Result<(Workspace, Swept)> {
        let mode = Mode::from_raw_mode(self.options.directory_mode);
        Workspace::open(base, mode, stay).map_err(|errno| {
            let path = self.tree.path_of(name).join(crate::key::RESERVED);
            errors::io("cannot create the folder for unfinished uploads", path, errno)
        })
    }

    /// Keeps other threads of this process from changing what is under a key.
    fn lock_key(&self, key: &Key) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % LOCKS as u64).unwrap_or(0);
        let [first, ..] = &self.locks;
        self.locks.get(index).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<Option<u64>> {
        let path = || self.tree.path_of(key.as_str());
        let nothing = || options.check(None).map(|()| None);
        let folder = key.folder();
        let Some(dir) = self.tree.folder(folder.as_str())? else {
            return nothing();
        };
        let size = {
            let _lock = self.lock_key(key);
            let name = key.name();
            let stat = match tree::stat_at(&dir, name) {
                Ok(stat) if tree::is_regular(&stat) => stat,
                Ok(stat) if tree::is_symlink(&stat) => return Err(errors::symlink(key.as_str())),
                Ok(_) => return nothing(),
                Err(errno) if errors::is_missing(errno) => return nothing(),
                Err(errno) => return Err(errors::io("cannot look up", path(), errno)),
            };
            options.check(Some(&xattr::etag(&stat)))?;
            let unlink = || match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(errors::io("cannot delete", path(), errno)),
            };
            let deleted = match &options.observer {
                None => unlink()?,
                Some(observer) => {
                    let wanted = observer.before_commit()?;
                    let gone = xattr::gone(self, &dir, key, &stat, wanted);
                    let outcome = unlink();
                    let changed = matches!(outcome, Ok(true));
                    observer.after_commit(
                        changed.then_some(CommittedChange { removed: Some(gone), size: None }),
                    );
                    outcome?
                }
            };
            if !deleted {
                return nothing();
            }
            stat.stx_size
        };
        self.sync_folder(&dir, folder.as_str())?;
        Ok(Some(size))
    }

    /// Tries to store metadata with an unnamed or hidden file at the store's top.
    fn check_metadata(&self) -> Result<()> {
        Temp::new(self, self.tree.root(), "", xattr::Attributes::sample().into()).map(drop)
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("root", &self.tree.path_of("")).finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for DiskStore {
    async fn head(&self, key: &Key) -> Result<Info> {
        read::head(&self.inner, key).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        read::get(&self.inner, key, part).await
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        put::put(&self.inner, key, body, options).await
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        put::concat(&self.inner, key, pieces, options).await
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        errors::blocking(move || inner.delete(&key, &options)).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        list::list(&self.inner, folder, recursive, after).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        let (inner, folders) = (Arc::clone(&self.inner), folders.to_vec());
        errors::blocking(move || inner.make_folders(&folders)).await
    }

    async fn check_metadata(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        errors::blocking(move || inner.check_metadata()).await
    }
}

/// Makes the root and its missing parents, each durable.
fn make_root(root: &Path, mode: u32) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let failed = |error: io::Error| errors::io("cannot create the store's root", root, error);
    let parent = match root.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    make_root(parent, mode)?;
    match DirBuilder::new().mode(mode).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => std::fs::File::open(parent)
            .and_then(|parent| match parent.sync_all() {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                other => other,
            })
            .map_err(failed),
    }
}
