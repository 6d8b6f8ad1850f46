//! A directory as a store. A blob's key is its path below the root, so other programs on the same
//! machine find the same files. When `put` returns, its blob is on disk as a whole; otherwise no
//! part of it is there.
//!
//! Linux only: this code uses `openat2`, `O_TMPFILE`, `renameat2` and `preadv2`, with a fallback
//! for each if the kernel or the file system lacks it ([`Features`]; `steps` has the rules).
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
//! | `root` | the root: what its path names now, and whether the store is available |
//! | `tree` | resolves names below the root, so that nothing outside can be reached |
//! | `steps` | which steps are guarantees and which best effort; what errors mean |
//! | `capabilities` | what the kernel and the file systems turn out to support |
//! | `temp` | an unfinished file, and the one step that publishes it |
//! | `upload` | conditions, bytes and commit, on threads that may block |
//! | `rename`, `remove` | moves a blob to another key; removes one |
//! | `put`, `read`, `list` | the async side of uploads, downloads and listings |
//! | `readers` | files that are being read, and take up space after they are removed |
//! | `sweep` | temporary names; removes what killed processes left |
//! | `report` | what operators see of a root: file system, device, free space |
//! | `expiry` | markers of blobs that expire |
//! | `folders` | makes folders that survive a power cut |
//! | `xattr` | etag and metadata |
//! | `errors` | maps the system's errors; runs blocking work |

mod capabilities;
mod errors;
mod expiry;
mod folders;
mod list;
mod put;
mod read;
mod readers;
mod remove;
mod rename;
mod report;
mod root;
mod steps;
mod sweep;
mod temp;
mod tree;
mod upload;
mod xattr;

use std::fmt;
use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use self::report::StorageReport;
use self::root::Root;
use self::temp::Temp;
use self::tree::Tree;
use crate::body::Body;
use crate::error::{Result, StoreError};
use crate::expiry::Due;
use crate::key::{Folder, Key};
use crate::{
    BlobStore, Clock, DeleteOptions, Download, FolderObserver, FolderVisitor, Info, Listing, Part,
    Piece, PutOptions, RenameOptions, Stored,
};
use async_trait::async_trait;

/// Number of key locks: more than there are threads that could want one at a time.
const LOCKS: usize = 64;

/// How long opening a store waits for the sweep, which goes on afterwards.
const SWEEP: Duration = Duration::from_secs(1);

/// How to open a [`DiskStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Make the root and its parents if they are missing when the store is opened, unless a disk or
    /// a marker is required. They are never made later.
    pub create: bool,
    /// Whether the root must be a mount point. If none is given, it must be one from the moment when
    /// it was one.
    pub require_mount: Option<bool>,
    /// A name that must exist in the root.
    pub marker: Option<String>,
    /// Follow symbolic links below the root. Only the operator can make them.
    pub follow_symlinks: bool,
    /// Mode of new folders; the umask applies.
    pub directory_mode: u32,
    /// Mode of new files; the umask applies.
    pub file_mode: u32,
    /// Which features of the kernel and the file system to use.
    pub features: Features,
    /// Says whether blobs have expired, and what time they get.
    pub clock: Clock,
}

impl Default for DiskOptions {
    /// Makes the root; folders `0700`, files `0600`; uses every feature.
    fn default() -> Self {
        Self {
            create: true,
            require_mount: None,
            marker: None,
            follow_symlinks: false,
            directory_mode: 0o700,
            file_mode: 0o600,
            features: Features::default(),
            clock: Clock::default(),
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

    /// Whether the operator says how to recognise the disk.
    fn is_guarded(&self) -> bool {
        self.require_mount == Some(true) || self.marker.is_some()
    }
}

/// Which features of the kernel and the file system to use. Missing ones are detected; turn one off
/// for a test, or for a file system that has it but implements it badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Resolve names in one call (`openat2`, Linux 5.6). Otherwise folder by folder.
    pub openat2: bool,
    /// Write unfinished files without a name (`O_TMPFILE`), on file systems that make their later
    /// name durable: XFS, and ext4 with a journal. Otherwise they have a temporary name.
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
    root: Root,
    options: DiskOptions,
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
    buffers: Arc<read::Buffers>,
    readers: Arc<readers::Readers>,
    warned_names: AtomicBool,
}

impl DiskStore {
    /// Opens a directory as a store, and begins to remove unfinished uploads that dead processes left
    /// behind. Blocks; call it at startup.
    ///
    /// A root that is read-only or full opens too: blobs can be read, and deleted from a full one. So
    /// does one that is not there, if a disk or a marker is required: calls then fail with
    /// [`StoreError::Unavailable`] until it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the root is missing and must not be made, is not a directory, or cannot
    /// be opened.
    pub fn open(root: impl AsRef<Path>, options: DiskOptions) -> Result<Self> {
        let (path, guarded) = (root.as_ref(), options.is_guarded());
        if options.create && !guarded {
            make_root(path, options.directory_mode)?;
        }
        let store = Self::unopened(path, options);
        if !guarded {
            let opened = rustix::fs::open(path, tree::DIRECTORY, rustix::fs::Mode::empty());
            opened.map_err(|errno| errors::io("cannot open the store's root", path, errno))?;
        }
        match store.inner.root.open() {
            Ok((tree, _)) => wait_for(sweep::start(tree).as_ref()),
            Err(StoreError::Unavailable(_)) if guarded => {}
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// A store at a path that is not looked at before the first call. Nothing is made.
    pub fn unopened(root: impl AsRef<Path>, options: DiskOptions) -> Self {
        let inner = Inner {
            root: Root::new(root.as_ref(), &options),
            options,
            locks: [const { Mutex::new(()) }; LOCKS],
            hasher: RandomState::new(),
            buffers: Arc::default(),
            readers: Arc::default(),
            warned_names: false.into(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether [`open`](Self::open) makes a missing root.
    pub fn is_made_at_start(&self) -> bool {
        self.inner.options.create && !self.inner.options.is_guarded()
    }

    /// Looks at the root now. Blocks. The error is a reason for operators why the store is not
    /// available.
    pub fn report(&self) -> Result<StorageReport, String> {
        report::report(&self.inner)
    }
}

/// Waits for a sweep, but no longer than [`SWEEP`].
fn wait_for(sweep: Option<&JoinHandle<()>>) {
    let begun = Instant::now();
    while sweep.is_some_and(|sweep| !sweep.is_finished()) && begun.elapsed() < SWEEP {
        std::thread::sleep(Duration::from_micros(100));
    }
}

impl Inner {
    /// What the root's path names now, for one call.
    fn tree(&self) -> Result<Tree> {
        let (tree, fresh) = self.root.open()?;
        if fresh {
            sweep::start(tree.clone());
        }
        Ok(tree)
    }

    /// The path of a name, for messages.
    fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.path().to_owned() } else { self.root.path().join(name) }
    }

    /// Keeps other threads of this process from changing what is under a key.
    fn lock_key(&self, key: &Key) -> MutexGuard<'_, ()> {
        self.lock(self.lock_of(key))
    }

    /// The same for two keys at once, which may have the same lock.
    fn lock_keys(
        &self,
        one: &Key,
        other: &Key,
    ) -> (MutexGuard<'_, ()>, Option<MutexGuard<'_, ()>>) {
        let (one, other) = (self.lock_of(one), self.lock_of(other));
        // Always in the same order, so that two calls never wait for each other.
        let first = self.lock(one.min(other));
        (first, (one != other).then(|| self.lock(one.max(other))))
    }

    fn lock_of(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % LOCKS as u64).unwrap_or(0)
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, ()> {
        let [first, ..] = &self.locks;
        self.locks.get(index).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to store metadata with an unfinished file at the store's top.
    fn check_metadata(&self) -> Result<()> {
        let tree = self.tree()?;
        let Some(root) = root::readable(&tree) else { return Ok(()) };
        let sample = xattr::Attributes::sample().into();
        Temp::new(self, &tree, &Arc::new(root), "", sample).map(drop)
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("root", &self.root.path()).finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for DiskStore {
    async fn head(&self, key: &Key) -> Result<Info> {
        read::head(&self.inner, key).await
    }

    async fn head_any(&self, key: &Key) -> Result<Info> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        errors::blocking(move || {
            let tree = inner.tree()?;
            let found = tree.settle(tree.blob(key.as_str()))?;
            let (file, stat) = found.ok_or(StoreError::NotFound)?;
            xattr::info(&tree, &key, &file, &stat)
        })
        .await
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

    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored> {
        let (inner, key, to) = (Arc::clone(&self.inner), key.clone(), to.clone());
        errors::blocking(move || rename::rename(&inner, &key, &to, &options)).await
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        errors::blocking(move || inner.delete(&key, &options)).await
    }

    async fn due(&self, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
        let (inner, after) = (Arc::clone(&self.inner), after.map(str::to_owned));
        errors::blocking(move || inner.due(after.as_deref(), max)).await
    }

    async fn expire(&self, due: &Due, options: DeleteOptions) -> Result<Option<u64>> {
        let (inner, due) = (Arc::clone(&self.inner), due.clone());
        errors::blocking(move || inner.expire(&due, &options)).await
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
        self.prepare_with(folders, None).await
    }

    async fn prepare_with(
        &self,
        folders: &[Folder],
        observer: Option<Arc<dyn FolderObserver>>,
    ) -> Result<()> {
        let (inner, folders) = (Arc::clone(&self.inner), folders.to_vec());
        errors::blocking(move || inner.make_folders(&folders, observer.as_deref())).await
    }

    async fn each_folder(&self, below: &Folder, found: FolderVisitor) -> Result<()> {
        let (inner, below) = (Arc::clone(&self.inner), below.clone());
        errors::blocking(move || inner.each_folder(&below, &*found)).await
    }

    async fn markers(&self) -> Result<u64> {
        let inner = Arc::clone(&self.inner);
        errors::blocking(move || inner.count_markers()).await
    }

    async fn check_metadata(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        errors::blocking(move || inner.check_metadata()).await
    }

    async fn epoch(&self) -> Result<u64> {
        if let Some(tree) = self.inner.root.cached() {
            return Ok(tree.known.epoch);
        }
        let inner = Arc::clone(&self.inner);
        errors::blocking(move || Ok(inner.tree()?.known.epoch)).await
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
