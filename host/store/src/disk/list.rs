//! Listings, sorted by the bytes of their keys, where a folder's key ends with `/` (as in S3).
//!
//! Names are read folder by folder. Sizes are read in batches, several at once and ahead of the
//! caller: each `statx` waits for the disk if the disk is slow, and takes most of a listing's time
//! if it is not. Entries that vanish in between are left out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Errno;
use tokio::task::JoinSet;

use super::sweep::{self, is_temporary, read_folder};
use super::tree::{Dir, FolderId, Tree};
use super::{Inner, errors, tree, xattr};
use crate::error::{Result, StoreError};
use crate::key::{Folder, MAX_KEY, RESERVED};
use crate::{Entry, Listing};

/// Entries in a batch.
const BATCH: usize = 512;

/// Begins a listing. Its first entries are ready when this returns.
pub(super) async fn list(
    store: &Arc<Inner>,
    folder: &Folder,
    recursive: bool,
    after: Option<&str>,
) -> Result<Box<dyn Listing>> {
    let (store, folder) = (Arc::clone(store), folder.clone());
    let after = after.map(str::to_owned);
    let path = store.path_of("");
    let (walk, first) = errors::blocking(move || {
        let tree = store.tree()?;
        let begin = |tree: &Tree| {
            let dir = tree.folder(folder.as_str())?.ok_or(StoreError::NotFound)?;
            let tree = tree.clone();
            let mut walk = Walk { store, tree, recursive, after, open: Vec::new(), batches: 0 };
            walk.enter(dir, folder.as_str())?;
            let first = walk.next_batch()?.map(Batch::stat).transpose()?;
            Ok((walk, first))
        };
        tree.settle(begin(&tree))
    })
    .await?;
    let ended = first.is_none();
    let ready = first.map_or_else(VecDeque::new, |(_, entries)| entries.into());
    Ok(Box::new(DiskListing {
        path,
        walk: Arc::new(Mutex::new(walk)),
        in_progress: JoinSet::new(),
        found: BTreeMap::new(),
        next: 1,
        ready,
        ended,
        failed: false,
    }))
}

/// The number of a batch, and the entries that were found in it.
type Found = (u64, Vec<Entry>);

struct DiskListing {
    /// The store's root, for messages.
    path: PathBuf,
    walk: Arc<Mutex<Walk>>,
    /// Batches in progress. One that returns none found the walk at its end.
    in_progress: JoinSet<Result<Option<Found>>>,
    /// Finished batches whose turn has not come.
    found: BTreeMap<u64, Vec<Entry>>,
    /// The number of the batch whose turn it is.
    next: u64,
    ready: VecDeque<Entry>,
    /// The walk has no more batches.
    ended: bool,
    failed: bool,
}

#[async_trait]
impl Listing for DiskListing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        if self.failed {
            // Otherwise a failed listing could be taken for a short one.
            let source = io::Error::other("this listing failed before its end");
            return Err(errors::io("cannot list", &self.path, source));
        }
        let entries = self.try_next(max).await;
        self.failed = entries.is_err();
        entries
    }
}

impl DiskListing {
    async fn try_next(&mut self, max: usize) -> Result<Vec<Entry>> {
        self.prefetch();
        while self.ready.is_empty() {
            if let Some(entries) = self.found.remove(&self.next) {
                self.next += 1;
                self.ready = entries.into();
                self.prefetch();
                continue;
            }
            let Some(result) = self.in_progress.join_next().await else {
                return Ok(Vec::new());
            };
            match errors::joined(result)? {
                Some((number, entries)) => {
                    self.found.insert(number, entries);
                }
                None => self.ended = true,
            }
        }
        // An empty list would mean the end.
        let count = max.max(1).min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }

    /// Starts as many batches as may be in progress ahead of the caller.
    fn prefetch(&mut self) {
        while !self.ended && self.in_progress.len() + self.found.len() < max_batches() {
            let walk = Arc::clone(&self.walk);
            self.in_progress.spawn_blocking(move || {
                // Whichever thread comes first takes the next batch; its number says which it is.
                let batch = walk.lock().unwrap_or_else(PoisonError::into_inner).next_batch()?;
                batch.map(Batch::stat).transpose()
            });
        }
    }
}

/// How many batches may be in progress or wait for their turn: as many as there are processors, but
/// at least four, because they also wait for the disk.
fn max_batches() -> usize {
    static PROCESSORS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PROCESSORS
        .get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).clamp(4, 16))
}

/// The folders between the listing's top and the current position.
struct Walk {
    store: Arc<Inner>,
    tree: Tree,
    recursive: bool,
    /// Only what comes after this is wanted.
    after: Option<String>,
    open: Vec<OpenFolder>,
    /// Number of batches handed out so far.
    batches: u64,
}

struct OpenFolder {
    dir: Arc<Dir>,
    /// Ends with a slash; empty for the store's top.
    prefix: Arc<str>,
    /// The names that are left, in the listing's order.
    names: VecDeque<Name>,
}

struct Name {
    name: String,
    folder: bool,
    inode: u64,
}

/// Entries whose metadata is read together.
struct Batch {
    number: u64,
    tree: Tree,
    runs: Vec<Run>,
}

/// Entries of a batch that are in one folder.
struct Run {
    dir: Arc<Dir>,
    prefix: Arc<str>,
    names: Vec<Name>,
}

impl Walk {
    /// The next [`BATCH`] names, fewer only at the end; none after the end.
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut left = BATCH;
        while left > 0 {
            let Some(here) = self.open.last_mut() else {
                break;
            };
            let Some(next) = here.names.front() else {
                self.open.pop();
                continue;
            };
            if self.recursive && next.folder {
                let prefix = format!("{}{}", here.prefix, next.name);
                here.names.pop_front();
                // A symbolic link by now, or gone: treated as if it had never been there.
                match self.tree.folder(&prefix) {
                    // A link that leads back would never end.
                    Ok(Some(dir)) if self.is_inside(dir.id) => {}
                    Ok(Some(dir)) => self.enter(dir, &prefix)?,
                    Ok(None) | Err(StoreError::Denied(_)) => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let run = here.names.iter().take(left);
            let run = run.take_while(|name| !(self.recursive && name.folder)).count();
            left -= run;
            runs.push(Run {
                dir: Arc::clone(&here.dir),
                prefix: Arc::clone(&here.prefix),
                names: here.names.drain(..run).collect(),
            });
        }
        if runs.is_empty() {
            return Ok(None);
        }
        let batch = Batch { number: self.batches, tree: self.tree.clone(), runs };
        self.batches += 1;
        Ok(Some(batch))
    }

    /// Whether the walk is in this folder already.
    fn is_inside(&self, id: FolderId) -> bool {
        self.tree.follow && self.open.iter().any(|open| open.dir.id == id)
    }

    /// Reads the names in a folder.
    fn enter(&mut self, dir: Dir, folder: &str) -> Result<()> {
        let path = || self.tree.path_of(folder);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let wanted = Wanted::below(&prefix, self.after.as_deref());
        let (mut names, mut unfinished) = (Vec::new(), Vec::new());
        read_folder(&dir, |name, kind, inode| {
            if is_temporary(name) {
                unfinished.push(name.to_vec());
                return Ok(());
            }
            let unknown =
                kind == FileType::Unknown || (kind == FileType::Symlink && self.tree.follow);
            let kind = if unknown { kind_of(&self.tree, &dir, name)? } else { kind };
            let folder = match kind {
                FileType::Directory => true,
                FileType::RegularFile => false,
                _ => return Ok(()),
            };
            match std::str::from_utf8(name) {
                Ok(RESERVED) => {}
                Ok(name) if prefix.len() + name.len() <= MAX_KEY => {
                    let name = Name { name: name.to_owned(), folder, inode };
                    if wanted.takes(&name, self.recursive) {
                        names.push(name);
                    }
                }
                _ => self.warn_of_name(&path().join(Path::new(std::ffi::OsStr::from_bytes(name)))),
            }
            Ok(())
        })
        // Removed while it was read. This is an error for the listing's top, where an empty answer
        // would look as if every blob had been deleted.
        .or_else(|errno| match errno {
            Errno::NOENT if !self.open.is_empty() => Ok(()),
            errno => Err(errno),
        })
        .map_err(|errno| match errno {
            Errno::NOENT if !folder.is_empty() => StoreError::NotFound,
            errno => errors::io("cannot list", path(), errno),
        })?;
        sweep::met(&dir, &unfinished);
        names.sort_unstable_by(|one, other| one.order().cmp(other.order()));
        let (dir, prefix) = (Arc::new(dir), prefix.into());
        self.open.push(OpenFolder { dir, prefix, names: names.into() });
        Ok(())
    }

    fn warn_of_name(&self, path: &Path) {
        if !self.store.warned_names.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                file = %path.display(),
                "names that cannot be keys (not UTF-8, or too long) are not listed; this is the \
                 first one found"
            );
        }
    }
}

/// Which names of a folder come after the listing's start.
enum Wanted<'a> {
    All,
    None,
    /// Those after this path, and the folder that it leads into.
    After(&'a str),
}

impl<'a> Wanted<'a> {
    /// `prefix` is what all keys in the folder begin with.
    fn below(prefix: &str, after: Option<&'a str>) -> Self {
        match after {
            None => Self::All,
            Some(after) => match after.strip_prefix(prefix) {
                Some(rest) => Self::After(rest),
                None if after < prefix => Self::All,
                None => Self::None,
            },
        }
    }

    fn takes(&self, name: &Name, recursive: bool) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::After(after) => {
                name.order().gt(after.bytes()) || (recursive && name.holds(after))
            }
        }
    }
}

impl Name {
    /// Whether it is the folder that a path leads into.
    fn holds(&self, path: &str) -> bool {
        self.folder && path.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('/'))
    }

    fn order(&self) -> impl Iterator<Item = u8> {
        self.name.bytes().chain(self.folder.then_some(b'/'))
    }
}

impl Batch {
    /// Reads the entries' metadata, and drops entries that are gone.
    fn stat(self) -> Result<Found> {
        let mut entries = Vec::with_capacity(BATCH);
        for run in self.runs {
            run.stat(&self.tree, &mut entries)?;
        }
        Ok((self.number, entries))
    }
}

impl Run {
    fn stat(self, tree: &Tree, entries: &mut Vec<Entry>) -> Result<()> {
        let mut found: Vec<_> = self.names.into_iter().map(|name| (name, None)).collect();
        // Sorted by inode, which is their order on disk.
        let mut by_inode: Vec<_> = found.iter_mut().collect();
        by_inode.sort_unstable_by_key(|(name, _)| name.inode);
        for (name, stat) in by_inode {
            let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE | StatxFlags::MTIME;
            match look(tree, &self.dir, name.name.as_bytes(), mask) {
                Ok(seen) => *stat = Some(seen),
                Err(Errno::NOENT | Errno::STALE | Errno::LOOP) => {}
                Err(errno) => {
                    let path = tree.path_of(&self.prefix).join(&name.name);
                    return Err(errors::io("cannot look up", path, errno));
                }
            }
        }
        for (name, stat) in found {
            let Some(stat) = stat else { continue };
            let kind = tree::kind(&stat);
            // Another kind of file by now.
            if (kind == FileType::Directory) != name.folder
                || !matches!(kind, FileType::Directory | FileType::RegularFile)
            {
                continue;
            }
            entries.push(Entry {
                key: format!("{}{}", self.prefix, name.name),
                size: if name.folder { 0 } else { stat.stx_size },
                modified: xattr::time(&stat.stx_mtime),
                etag: if name.folder { String::new() } else { xattr::etag(&stat) },
                folder: name.folder,
            });
        }
        Ok(())
    }
}

/// Some metadata of an entry; of the link itself if it is one and the store follows none.
fn look(tree: &Tree, dir: &Dir, name: &[u8], mask: StatxFlags) -> Result<Statx, Errno> {
    let flags = if tree.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    rustix::fs::statx(dir.as_fd(), name, flags, mask)
}

/// The kind of an entry, for file systems whose folders do not record it, and for links.
fn kind_of(tree: &Tree, dir: &Dir, name: &[u8]) -> Result<FileType, Errno> {
    match look(tree, dir, name, StatxFlags::TYPE) {
        Ok(stat) => Ok(tree::kind(&stat)),
        Err(Errno::NOENT | Errno::STALE | Errno::LOOP) => Ok(FileType::Unknown),
        Err(errno) => Err(errno),
    }
}
