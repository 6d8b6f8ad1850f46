//! Listings, in the order of their keys' bytes, of which a folder's ends with `/` (as in S3).
//!
//! Names are read folder by folder. Sizes are looked at in pieces, several at once and ahead of
//! the caller: each look is a wait where the disk is slow, and most of a listing's time where it
//! is not. What vanishes in between is left out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::io::Errno;
use tokio::task::JoinSet;

use super::workspace::read_folder;
use super::{Inner, fault, kept, tree};
use crate::error::{Result, StoreError};
use crate::key::{Folder, MAX_KEY, RESERVED};
use crate::{Entry, Listing};

/// Entries looked at in one piece.
const PIECE: usize = 512;

/// Begins a listing. Its first entries are there when it returns.
pub(super) async fn list(
    store: &Arc<Inner>,
    folder: &Folder,
    recursive: bool,
    after: Option<&str>,
) -> Result<Box<dyn Listing>> {
    let (store, folder) = (Arc::clone(store), folder.clone());
    let after = after.map(str::to_owned);
    let path = store.tree.path_of("");
    let (walk, first) = fault::blocking(move || {
        let dir = store.tree.folder(folder.as_str())?.ok_or(StoreError::NotFound)?;
        let mut walk = Walk { store, recursive, after, open: Vec::new(), pieces: 0 };
        walk.enter(dir, folder.as_str())?;
        let first = walk.piece()?.map(Piece::look).transpose()?;
        Ok((walk, first))
    })
    .await?;
    let ended = first.is_none();
    let ready = first.map_or_else(VecDeque::new, |(_, entries)| entries.into());
    Ok(Box::new(DiskListing {
        path,
        walk: Arc::new(Mutex::new(walk)),
        looks: JoinSet::new(),
        found: BTreeMap::new(),
        next: 1,
        ready,
        ended,
        failed: false,
    }))
}

/// What a look found: the number of the piece, and its entries.
type Found = (u64, Vec<Entry>);

struct DiskListing {
    /// Of the store, for messages.
    path: PathBuf,
    walk: Arc<Mutex<Walk>>,
    /// None of a look: there was no piece left.
    looks: JoinSet<Result<Option<Found>>>,
    /// Pieces whose turn has not come.
    found: BTreeMap<u64, Vec<Entry>>,
    /// The number of the piece whose turn it is.
    next: u64,
    ready: VecDeque<Entry>,
    /// The walk has no further piece.
    ended: bool,
    failed: bool,
}

#[async_trait]
impl Listing for DiskListing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        if self.failed {
            // It must never be taken for a short one.
            let source = io::Error::other("this listing failed before its end");
            return Err(fault::io("listing", &self.path, source));
        }
        let entries = self.try_next(max).await;
        self.failed = entries.is_err();
        entries
    }
}

impl DiskListing {
    async fn try_next(&mut self, max: usize) -> Result<Vec<Entry>> {
        self.look_ahead();
        while self.ready.is_empty() {
            if let Some(entries) = self.found.remove(&self.next) {
                self.next += 1;
                self.ready = entries.into();
                self.look_ahead();
                continue;
            }
            let Some(look) = self.looks.join_next().await else {
                return Ok(Vec::new());
            };
            match fault::joined(look)? {
                Some((number, entries)) => {
                    self.found.insert(number, entries);
                }
                None => self.ended = true,
            }
        }
        // An empty list would be the end.
        let count = max.max(1).min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }

    /// Begins as many looks as are allowed ahead of the caller.
    fn look_ahead(&mut self) {
        while !self.ended && self.looks.len() + self.found.len() < looks_ahead() {
            let walk = Arc::clone(&self.walk);
            self.looks.spawn_blocking(move || {
                // Whoever comes first takes the next piece: its number says which one it is.
                let piece = walk.lock().unwrap_or_else(PoisonError::into_inner).piece()?;
                piece.map(Piece::look).transpose()
            });
        }
    }
}

/// How many pieces may be under way or wait for their turn: as many as there are processors, and
/// more than one where there is one, because disks take their time too.
fn looks_ahead() -> usize {
    static PROCESSORS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PROCESSORS
        .get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).clamp(4, 16))
}

/// The folders between the listing's top and where it is now.
struct Walk {
    store: Arc<Inner>,
    recursive: bool,
    /// Only what comes after it is wanted.
    after: Option<String>,
    open: Vec<OpenFolder>,
    /// Handed out so far.
    pieces: u64,
}

struct OpenFolder {
    dir: Arc<OwnedFd>,
    /// With a slash at its end; empty for the store's top.
    prefix: Arc<str>,
    /// In the order of the listing, without those done.
    names: VecDeque<Name>,
}

struct Name {
    name: String,
    folder: bool,
    inode: u64,
}

/// Entries to be looked at in one go.
struct Piece {
    number: u64,
    store: Arc<Inner>,
    runs: Vec<Run>,
}

/// Those that lie in one folder.
struct Run {
    dir: Arc<OwnedFd>,
    prefix: Arc<str>,
    names: Vec<Name>,
}

impl Walk {
    /// The next [`PIECE`] entries, fewer only at the end; none after it.
    fn piece(&mut self) -> Result<Option<Piece>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut left = PIECE;
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
                // A symbolic link now, or gone: as if it had never been there.
                match self.store.tree.folder(&prefix) {
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
        let piece = Piece { number: self.pieces, store: Arc::clone(&self.store), runs };
        self.pieces += 1;
        Ok(Some(piece))
    }

    /// Reads the names of a folder.
    fn enter(&mut self, dir: OwnedFd, folder: &str) -> Result<()> {
        let path = || self.store.tree.path_of(folder);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let wanted = Wanted::below(&prefix, self.after.as_deref());
        let mut names = Vec::new();
        read_folder(&dir, |name, kind, inode| {
            let kind = if kind == FileType::Unknown { kind_of(&dir, name)? } else { kind };
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
        // Removed while it was read. Of the listing's top this is told: an empty answer would look
        // as if every blob had been deleted.
        .or_else(|errno| match errno {
            Errno::NOENT if !self.open.is_empty() => Ok(()),
            errno => Err(errno),
        })
        .map_err(|errno| match errno {
            Errno::NOENT if !folder.is_empty() => StoreError::NotFound,
            errno => fault::io("listing", path(), errno),
        })?;
        names.sort_unstable_by(|one, other| one.order().cmp(other.order()));
        let (dir, prefix) = (Arc::new(dir), prefix.into());
        self.open.push(OpenFolder { dir, prefix, names: names.into() });
        Ok(())
    }

    fn warn_of_name(&self, path: &Path) {
        if !self.store.warned_names.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                path = %path.display(),
                "a name in the store cannot be a key (not UTF-8, or too long); it is not listed, \
                 nor are others like it"
            );
        }
    }
}

/// Which names of a folder a listing has not passed where it begins.
enum Wanted<'a> {
    All,
    None,
    /// Those after this one, and the folder that it leads into.
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

impl Piece {
    /// Looks at the entries, and keeps what is there still.
    fn look(self) -> Result<Found> {
        let mut entries = Vec::with_capacity(PIECE);
        for run in self.runs {
            run.look(&self.store, &mut entries)?;
        }
        Ok((self.number, entries))
    }
}

impl Run {
    fn look(self, store: &Inner, entries: &mut Vec<Entry>) -> Result<()> {
        let mut found: Vec<_> = self.names.into_iter().map(|name| (name, None)).collect();
        // By inode, because that is how they lie on the disk.
        let mut by_inode: Vec<_> = found.iter_mut().collect();
        by_inode.sort_unstable_by_key(|(name, _)| name.inode);
        for (name, facts) in by_inode {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE | StatxFlags::MTIME;
            match rustix::fs::statx(&*self.dir, &name.name, flags, mask) {
                Ok(seen) => *facts = Some(seen),
                Err(Errno::NOENT | Errno::STALE) => {}
                Err(errno) => {
                    let path = store.tree.path_of(&self.prefix).join(&name.name);
                    return Err(fault::io("looking at", path, errno));
                }
            }
        }
        for (name, facts) in found {
            let Some(facts) = facts else { continue };
            let kind = tree::kind(&facts);
            // Another kind of thing by now.
            if (kind == FileType::Directory) != name.folder
                || !matches!(kind, FileType::Directory | FileType::RegularFile)
            {
                continue;
            }
            entries.push(Entry {
                key: format!("{}{}", self.prefix, name.name),
                size: if name.folder { 0 } else { facts.stx_size },
                modified: kept::time(&facts.stx_mtime),
                etag: if name.folder { String::new() } else { kept::etag(&facts) },
                folder: name.folder,
            });
        }
        Ok(())
    }
}

/// The kind of an entry, on file systems whose folders do not tell.
fn kind_of(dir: &OwnedFd, name: &[u8]) -> Result<FileType, Errno> {
    match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(facts) => Ok(tree::kind(&facts)),
        Err(Errno::NOENT | Errno::STALE) => Ok(FileType::Unknown),
        Err(errno) => Err(errno),
    }
}
