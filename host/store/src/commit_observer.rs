//! [`CommitObserver`]: callbacks at the very step that changes a blob, for code that must know
//! exactly what happened even if the caller has gone away.
//!
//! The result of a call is not enough for that: its future may be dropped while the commit runs to
//! its end on another thread, and a call may fail after the blob has changed (if its folder cannot
//! be synced). A store holds the observer as long as it may still change something, and as long as a
//! blob that was removed takes up space because somebody reads it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Result;
use crate::{Fields, RenameOptions};

/// Observes one call that changes one blob. It must not call the store.
pub trait CommitObserver: Send + Sync + fmt::Debug {
    /// The store is about to write `size` bytes, a number that only it could know. Called before
    /// the bytes are moved, on a thread that may block. An error ends the call without a change.
    fn admit(&self, size: u64) -> Result<()>;

    /// The blob that is to appear is that of another key, with this size and this metadata. If it
    /// `moves`, it goes from there in the same step, so that no bytes are added. Called instead of
    /// [`admit`](Self::admit), and again if another blob is there by then.
    fn admit_renamed(&self, size: u64, metadata: &Fields, moves: bool) -> Result<()> {
        let _ = (metadata, moves);
        self.admit(size)
    }

    /// The blob's folder was missing, or one above it, and was made: the folder so many levels above the blob's own.
    fn made_folder(&self, above: usize) {
        let _ = above;
    }

    /// So many markers of blobs that expire were made and removed.
    fn markers(&self, came: u64, gone: u64) {
        let _ = (came, gone);
    }

    /// The blob that is to be replaced, deleted or moved away was stored at this time. The store calls this when it has
    /// looked for the last time, so that no other blob is there when it goes; not for a blob that has expired. An error ends
    /// the call without a change.
    fn admit_removal(&self, stored: SystemTime) -> Result<()> {
        let _ = stored;
        Ok(())
    }

    /// The change is made in this [epoch](crate::BlobStore::epoch) of the store. Called before
    /// [`before_commit`](Self::before_commit). An error ends the call without a change.
    fn place(&self, epoch: u64) -> Result<()> {
        let _ = epoch;
        Ok(())
    }

    /// From now until [`after_commit`](Self::after_commit) the blob may change. The store calls
    /// both while it holds its lock on the key, so two changes of a key never overlap, and both
    /// must be quick. Returns whether the metadata of a removed blob is needed. An error ends the
    /// call without a change, and `after_commit` is not called.
    fn before_commit(&self) -> Result<bool>;

    /// What changed since [`before_commit`](Self::before_commit); `None` if nothing did.
    fn after_commit(&self, changed: Option<CommittedChange>);
}

/// Observes one call that makes folders.
pub trait FolderObserver: Send + Sync + fmt::Debug {
    /// A folder was missing and was made: the one so many levels above the folder with this index in the call.
    fn made_folder(&self, index: usize, above: usize);
}

/// How a key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedChange {
    /// The blob that was replaced or deleted.
    pub removed: Option<RemovedBlob>,
    /// Size in bytes of the new blob.
    pub size: Option<u64>,
}

/// A blob that was replaced or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedBlob {
    /// Size in bytes.
    pub size: u64,
    /// As given to `put`; empty if the observer did not ask for it.
    pub metadata: Fields,
}

/// A blob that was moved in one step.
#[derive(Clone, Debug)]
pub(crate) struct MovedBlob {
    /// As it was under the old key.
    pub(crate) blob: RemovedBlob,
    /// The one that was under the new key.
    pub(crate) replaced: Option<RemovedBlob>,
}

/// For stores that move a blob in one step, which is a change of two keys.
impl RenameOptions {
    pub(crate) fn admit(&self, size: u64, metadata: &Fields) -> Result<()> {
        self.comes.as_ref().map_or(Ok(()), |comes| comes.admit_renamed(size, metadata, true))
    }

    pub(crate) fn admit_removals(
        &self,
        moved: SystemTime,
        replaced: Option<SystemTime>,
    ) -> Result<()> {
        admit_removal(self.goes.as_ref(), Some(moved))?;
        admit_removal(self.comes.as_ref(), replaced)
    }

    pub(crate) fn place(&self, epoch: u64) -> Result<()> {
        self.comes.iter().chain(&self.goes).try_for_each(|observer| observer.place(epoch))
    }

    /// Returns whether the metadata of both blobs is needed.
    pub(crate) fn before_commit(&self) -> Result<bool> {
        let comes = self.comes.as_ref().map_or(Ok(false), |comes| comes.before_commit())?;
        match self.goes.as_ref().map_or(Ok(false), |goes| goes.before_commit()) {
            Ok(goes) => Ok(comes || goes),
            Err(error) => {
                // The one that agreed is told that nothing came of it.
                if let Some(comes) = &self.comes {
                    comes.after_commit(None);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn after_commit(&self, moved: Option<MovedBlob>) {
        let (came, went) = moved.map_or((None, None), |MovedBlob { blob, replaced }| {
            let came = CommittedChange { removed: replaced, size: Some(blob.size) };
            (Some(came), Some(CommittedChange { removed: Some(blob), size: None }))
        });
        if let Some(comes) = &self.comes {
            comes.after_commit(came);
        }
        if let Some(goes) = &self.goes {
            goes.after_commit(went);
        }
    }
}

/// Asks an observer, if there is one, whether a blob, if there is one, may go.
///
/// # Errors
///
/// The observer's.
pub fn admit_removal(observer: Option<&ObserverHandle>, stored: Option<SystemTime>) -> Result<()> {
    match (observer, stored) {
        (Some(observer), Some(stored)) => observer.admit_removal(stored),
        _ => Ok(()),
    }
}

/// A [`CommitObserver`] passed along with a call. Equal only to its own clones.
#[derive(Clone, Debug)]
pub struct ObserverHandle(Arc<dyn CommitObserver>);

impl ObserverHandle {
    /// Wraps an observer.
    pub fn new(observer: Arc<dyn CommitObserver>) -> Self {
        Self(observer)
    }
}

impl Deref for ObserverHandle {
    type Target = dyn CommitObserver;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for ObserverHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ObserverHandle {}
