//! Who reads which file. A file that is removed or replaced while somebody reads it takes up space until the last
//! reader closes it, so the [`CommitObserver`](crate::CommitObserver) of the call that removed it is kept until then:
//! to a quota, that call is not over.
//!
//! A file is opened first and recorded as being read afterwards. If another one was removed in between, it may have been
//! this one, and whoever removed it did not see this reader. So a reader that finds that something was removed looks
//! whether its file still has a name, and if not, opens the blob again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Statx;

use super::tree::{self, Device, Opened, Tree};
use super::{Inner, errors};
use crate::ObserverHandle;
use crate::error::Result;
use crate::key::Key;

/// How often a blob is opened that is always gone by then: some file systems say of every file that it has no name.
const ATTEMPTS: usize = 8;

/// Which file it is. Inode numbers are reused, but not while the file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(Device, u64);

/// The files of a store that are being read.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<FileId, Open>,
    /// How many files were removed or replaced.
    removals: u64,
}

/// One file.
#[derive(Debug, Default)]
struct Open {
    readers: usize,
    /// Of the call that removed the file; of several if it had several names.
    removed_by: Vec<ObserverHandle>,
}

/// A reader of a file. To be dropped after the file.
#[derive(Debug)]
pub(super) struct Reading {
    file: FileId,
    readers: Arc<Readers>,
}

impl FileId {
    pub(super) fn of(stat: &Statx) -> Self {
        Self((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
    }
}

impl Readers {
    /// Records that a file was removed or replaced, in a call with this observer.
    pub(super) fn removed(&self, file: FileId, observer: &ObserverHandle) {
        let mut state = self.state();
        state.removals += 1;
        if let Some(open) = state.open.get_mut(&file) {
            open.removed_by.push(observer.clone());
        }
    }

    /// Records a reader. Returns also how many files were removed so far.
    fn begin(self: &Arc<Self>, file: FileId) -> (Reading, u64) {
        let mut state = self.state();
        state.open.entry(file).or_default().readers += 1;
        (Reading { file, readers: Arc::clone(self) }, state.removals)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Opens a blob to read it.
    pub(super) fn read_blob(&self, tree: &Tree, key: &Key) -> Result<Option<(Opened, Reading)>> {
        let mut attempts = ATTEMPTS;
        loop {
            let before = self.readers.state().removals;
            let Some((file, stat)) = tree.blob(key.as_str())? else { return Ok(None) };
            let (reading, removals) = self.readers.begin(FileId::of(&stat));
            attempts -= 1;
            if removals == before || attempts == 0 {
                return Ok(Some(((file, stat), reading)));
            }
            let now = tree::stat(&file)
                .map_err(|errno| errors::io("cannot read", tree.path_of(key.as_str()), errno))?;
            if now.stx_nlink > 0 {
                return Ok(Some(((file, stat), reading)));
            }
        }
    }

    /// The same if the kernel need not wait for a disk, as [`Tree::cached_blob`]; the outer none also if the blob may
    /// have been removed meanwhile.
    pub(super) fn read_cached_blob(
        &self,
        tree: &Tree,
        key: &Key,
    ) -> Option<Result<Option<(Opened, Reading)>>> {
        let before = self.readers.state().removals;
        let (file, stat) = match tree.cached_blob(key.as_str())? {
            Ok(Some(opened)) => opened,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        let (reading, removals) = self.readers.begin(FileId::of(&stat));
        (removals == before).then_some(Ok(Some(((file, stat), reading))))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.readers.state();
        let Entry::Occupied(mut open) = state.open.entry(self.file) else { return };
        open.get_mut().readers = open.get().readers.saturating_sub(1);
        let last = (open.get().readers == 0).then(|| open.remove());
        // Observers are dropped after the lock: what they do then takes locks of their own.
        drop(state);
        drop(last);
    }
}
