//! A directory as a store: a blob's key is its path below the root, so that other programs on the
//! same machine find the same files. What `put` returns from is on disk, whole, or not there.
//!
//! Linux only: it builds on `openat2`, `O_TMPFILE`, `renameat2` and `preadv2`, with a way round
//! each where a kernel or file system has it not ([`Features`]).
//!
//! Sizes and ways were measured (`cargo run --release -p keepgate-store --example throughput`, two
//! cores): handing over 256 KiB at a time to be hashed and written costs a sixth of the speed of
//! doing it in place, 128 KiB a third, 1 MiB a twelfth, and the next batch is received meanwhile.
//! Letting the disk begin every 2 MiB makes one stream of 16 MiB uploads a quarter to a half faster
//! (0.7 to 0.9 GB/s; SHA-256 alone does 1.8). Cached pages read in place are three to five times as
//! fast as on another thread, and `POSIX_FADV_SEQUENTIAL` adds a third where they are not cached
//! and the disk's readahead is the usual 128 KiB.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `tree` | names resolved below the root, so that nothing outside can be reached |
//! | `workspace` | the hidden folder for unfinished files; sweeping what killed processes left |
//! | `abilities` | what the kernel and the file systems turn out to be able to do |
//! | `temp` | an unfinished file, and the one step that gives it its name |
//! | `upload` | conditions, bytes and commit, on threads that may block |
//! | `put`, `read`, `list` | the async side of uploads, downloads, listings |
//! | `folders` | folders that survive a power cut |
//! | `kept` | etag and metadata |

mod abilities;
mod fault;
mod folders;
mod kept;
mod list;
mod put;
mod read;
mod temp;
mod tree;
mod upload;
mod workspace;

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

use self::abilities::Abilities;
use self::temp::Temp;
use self::tree::Tree;
use self::workspace::{Swept, Workspace};
use crate::body::Body;
use crate::error::Result;
use crate::key::{Folder, Key};
use crate::{
    BlobStore, Changed, DeleteOptions, Download, Info, Listing, Part, Piece, PutOptions, Stored,
};

/// Locks for keys: more than threads that could want one at a time.
const LOCKS: usize = 64;

/// How to open a [`DiskStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Make the root, and the folders above it, where they are missing.
    pub create: bool,
    /// Mode of new folders; the umask applies.
    pub directory_mode: u32,
    /// Mode of new files; the umask applies.
    pub file_mode: u32,
    /// What may be used of the kernel and the file system.
    pub features: Features,
}

impl Default for DiskOptions {
    /// Makes the root; folders `0700`, files `0600`; everything may be used.
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
    /// The same, with folders `0770` and files `0660`, so that the group may read and write.
    #[must_use]
    pub fn group_accessible(self) -> Self {
        Self { directory_mode: 0o770, file_mode: 0o660, ..self }
    }
}

/// What may be used of the kernel and the file system. What is missing is noticed by itself;
/// turning one off is for tests, and for file systems that have it but badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Names resolved in one call (`openat2`, Linux 5.6). Otherwise folder by folder.
    pub openat2: bool,
    /// Unfinished files without a name (`O_TMPFILE`), on file systems where their later name is
    /// durable: XFS, ext4 with a journal. Otherwise they have one in `.keepgate`.
    pub unnamed_files: bool,
    /// Renaming that does not replace (`RENAME_NOREPLACE`). Otherwise a hard link.
    pub rename_noreplace: bool,
    /// Hard links. Otherwise a look, then a rename: safe among the uploads of one process only.
    pub hard_links: bool,
}

impl Default for Features {
    /// Everything.
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
    abilities: Abilities,
    /// The root's mount; folders elsewhere need a workspace there.
    mount: (u32, u32, u64),
    /// Where unfinished files have names; none while it could not be made.
    central: Mutex<Option<Arc<Workspace>>>,
    /// Written while folders are being made that are not durable yet.
    making: RwLock<()>,
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
    buffers: Arc<read::Buffers>,
    warned_sync: AtomicBool,
    warned_names: AtomicBool,
}

impl DiskStore {
    /// Opens a directory as a store, and removes unfinished uploads of processes that are no
    /// more. Blocks; call it at the start.
    ///
    /// A root that is read-only or full is opened all the same: blobs can be read, and deleted
    /// from the full one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`](crate::StoreError::Io) where the root is missing and shall not be made,
    /// is not a directory or cannot be read.
    pub fn open(root: impl AsRef<Path>, options: DiskOptions) -> Result<Self> {
        let root = root.as_ref();
        if options.create {
            make_root(root, options.directory_mode)?;
        }
        let tree = Tree::open(root, options.features.openat2)?;
        let facts = tree::facts(tree.root())
            .map_err(|errno| fault::io("opening the store's root", root, errno))?;
        let inner = Inner {
            mount: tree::mount(&facts),
            tree,
            abilities: Abilities::new(options.features),
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
                path = %root.display(), %error,
                "this store cannot be written to now; blobs can still be read"
            );
        }
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// Where to make named files for a folder: one that can exchange files with it. `dir` is the
    /// folder or the deepest one above it that exists.
    fn workspace(&self, dir: &OwnedFd, folder: &str) -> Result<Arc<Workspace>> {
        let failed = |errno| fault::io("looking at", self.tree.path_of(folder), errno);
        if !self.abilities.central.works() {
            return self.passing_workspace(dir, folder);
        }
        let here = tree::mount(&tree::facts(dir).map_err(failed)?);
        if here == self.mount {
            return self.central_workspace();
        }
        // The top of the other mount: there it disturbs nobody.
        let (mut top, mut name) = self.tree.deepest(folder)?;
        while let Some((parent, _)) = name.rsplit_once('/') {
            let (above, _) = self.tree.deepest(parent)?;
            if tree::mount(&tree::facts(&above).map_err(failed)?) != here {
                break;
            }
            (top, name) = (above, parent);
        }
        self.passing_workspace(&top, name)
    }

    /// The workspace at the root, for as long as the store is open.
    fn central_workspace(&self) -> Result<Arc<Workspace>> {
        let mut central = self.central.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workspace) = &*central {
            return Ok(Arc::clone(workspace));
        }
        let (workspace, swept) = self.open_workspace(self.tree.root(), "", true)?;
        if swept != Swept::default() {
            tracing::info!(
                files = swept.files, processes = swept.folders,
                path = %self.tree.path_of("").display(),
                "removed unfinished uploads of processes that did not end properly"
            );
            // They may have made folders, and not have come to sync them.
            rustix::fs::syncfs(self.tree.root())
                .map_err(|errno| fault::io("syncing", self.tree.path_of(""), errno))?;
        }
        let workspace = Arc::new(workspace);
        *central = Some(Arc::clone(&workspace));
        Ok(workspace)
    }

    /// A workspace for one upload, in a folder of another mount. It holds nothing open there
    /// afterwards, so that the mount can be taken away.
    fn passing_workspace(&self, base: &OwnedFd, name: &str) -> Result<Arc<Workspace>> {
        Ok(Arc::new(self.open_workspace(base, name, false)?.0))
    }

    fn open_workspace(&self, base: &OwnedFd, name: &str, stay: bool) -> Result<(Workspace, Swept)> {
        let mode = Mode::from_raw_mode(self.options.directory_mode);
        Workspace::open(base, mode, stay).map_err(|errno| {
            let path = self.tree.path_of(name).join(crate::key::RESERVED);
            fault::io("making the folder for unfinished uploads", path, errno)
        })
    }

    /// Keeps others in this process from changing what is under a key.
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
            let name = upload::last(key);
            let facts = match tree::facts_at(&dir, name) {
                Ok(facts) if tree::is_regular(&facts) => facts,
                Ok(facts) if tree::is_symlink(&facts) => return Err(fault::symlink(key.as_str())),
                Ok(_) => return nothing(),
                Err(errno) if fault::is_missing(errno) => return nothing(),
                Err(errno) => return Err(fault::io("looking at", path(), errno)),
            };
            options.check(Some(&kept::etag(&facts)))?;
            let unlink = || match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(fault::io("deleting", path(), errno)),
            };
            let deleted = match &options.witness {
                None => unlink()?,
                Some(witness) => {
                    let wanted = witness.before()?;
                    let gone = kept::gone(self, &dir, key, &facts, wanted);
                    let outcome = unlink();
                    let changed = matches!(outcome, Ok(true));
                    witness.after(changed.then_some(Changed { gone: Some(gone), came: None }));
                    outcome?
                }
            };
            if !deleted {
                return nothing();
            }
            facts.stx_size
        };
        self.sync_folder(&dir, folder.as_str())?;
        Ok(Some(size))
    }

    /// Tries to keep metadata with a file at the store's top that nobody ever sees.
    fn check_metadata(&self) -> Result<()> {
        Temp::new(self, self.tree.root(), "", kept::Kept::sample().into()).map(drop)
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
        fault::blocking(move || inner.delete(&key, &options)).await
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
        fault::blocking(move || inner.make_folders(&folders)).await
    }

    async fn check_metadata(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        fault::blocking(move || inner.check_metadata()).await
    }
}

/// Makes the root and what is missing above it, each durable.
fn make_root(root: &Path, mode: u32) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let failed = |error: io::Error| fault::io("making the store's root", root, error);
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
