//! Listings, in the order of their keys' bytes, of which a folder's ends with `/` (as in S3).
//!
//! One folder's names are read at a time; sizes are looked at batch by batch, the next one while
//! the caller works on this one. What vanishes in between is left out.

use std::collections::VecDeque;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::workspace::read_folder;
use super::{Inner, fault, kept, tree};
use crate::error::{Result, StoreError};
use crate::key::{Folder, MAX_KEY, RESERVED};
use crate::{Entry, Listing};

/// Entries looked at in one step.
const BATCH: usize = 512;

/// Begins a listing. Its first entries are there when it returns.
pub(super) async fn list(
    store: &Arc<Inner>,
    folder: &Folder,
    recursive: bool,
) -> Result<Box<dyn Listing>> {
    let (store, folder) = (Arc::clone(store), folder.clone());
    let (walk, ready) = fault::blocking(move || {
        let dir = store.tree.folder(folder.as_str())?.ok_or(StoreError::NotFound)?;
        let mut walk = Walk { store, recursive, open: Vec::new() };
        walk.enter(dir, folder.as_str())?;
        let ready = walk.step()?;
        Ok((walk, ready))
    })
    .await?;
    let (ready, path) = (ready.into(), walk.store.tree.path_of(""));
    Ok(Box::new(DiskListing { path, ready, walk: Some(walk), coming: None }))
}

/// A walk at rest, and the entries it just found.
type Step = (Walk, Vec<Entry>);

struct DiskListing {
    /// Of the store, for messages.
    path: PathBuf,
    ready: VecDeque<Entry>,
    /// At rest; none while a step is under way or at the end.
    walk: Option<Walk>,
    coming: Option<JoinHandle<Result<Step>>>,
}

#[async_trait]
impl Listing for DiskListing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        self.go_on();
        while self.ready.is_empty() {
            let Some(coming) = &mut self.coming else {
                return self.end();
            };
            let result = coming.await;
            self.coming = None;
            let (walk, entries) = fault::joined(result)?;
            self.ready = entries.into();
            self.walk = Some(walk);
            self.go_on();
        }
        // An empty list would be the end.
        let count = max.max(1).min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }
}

impl DiskListing {
    /// The end of a whole listing. One that failed has none: asked again, it fails again, for it
    /// must never be taken for a short one.
    fn end(&self) -> Result<Vec<Entry>> {
        if self.walk.is_some() {
            return Ok(Vec::new());
        }
        let source = io::Error::other("this listing failed before its end");
        Err(fault::io("listing", &self.path, source))
    }

    /// Begins the next step, unless one is under way or there is none.
    fn go_on(&mut self) {
        if let Some(mut walk) = self.walk.take_if(|walk| !walk.open.is_empty()) {
            self.coming = Some(tokio::task::spawn_blocking(move || {
                let entries = walk.step()?;
                Ok((walk, entries))
            }));
        }
    }
}

/// The folders between the listing's top and where it is now.
struct Walk {
    store: Arc<Inner>,
    recursive: bool,
    open: Vec<OpenFolder>,
}

struct OpenFolder {
    dir: OwnedFd,
    /// With a slash at its end; empty for the store's top.
    prefix: String,
    /// In the order of the listing, without those done.
    names: VecDeque<Name>,
}

struct Name {
    name: String,
    folder: bool,
    inode: u64,
}

impl Walk {
    /// The next [`BATCH`] entries; fewer only at the end.
    fn step(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(BATCH);
        while entries.len() < BATCH {
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
            let run = here.names.iter().take(BATCH - entries.len());
            let run = run.take_while(|name| !(self.recursive && name.folder)).count();
            let names = here.names.drain(..run).collect();
            here.look_at(&self.store, names, &mut entries)?;
        }
        Ok(entries)
    }

    /// Reads the names of a folder.
    fn enter(&mut self, dir: OwnedFd, folder: &str) -> Result<()> {
        let path = || self.store.tree.path_of(folder);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
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
                    names.push(Name { name: name.to_owned(), folder, inode });
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

impl Name {
    fn order(&self) -> impl Iterator<Item = u8> {
        self.name.bytes().chain(self.folder.then_some(b'/'))
    }
}

impl OpenFolder {
    /// Looks at entries of this folder and appends what is there still.
    fn look_at(&self, store: &Inner, names: Vec<Name>, entries: &mut Vec<Entry>) -> Result<()> {
        let mut found: Vec<_> = names.into_iter().map(|name| (name, None)).collect();
        // By inode, because that is how they lie on the disk.
        let mut by_inode: Vec<_> = found.iter_mut().collect();
        by_inode.sort_unstable_by_key(|(name, _)| name.inode);
        for (name, facts) in by_inode {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MTIME;
            match rustix::fs::statx(&self.dir, &name.name, flags, mask) {
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
