//! [`CommitObserver`]: callbacks at the very step that changes a blob, for code that must know
//! exactly what happened even if the caller has gone away.
//!
//! The result of a call is not enough for that: its future may be dropped while the commit runs to
//! its end on another thread, and a call may fail after the blob has changed (if its folder cannot
//! be synced). A store holds the observer exactly as long as it may still change something.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::Fields;
use crate::error::Result;

/// Observes one call that changes one blob. It must not call the store.
pub trait CommitObserver: Send + Sync + fmt::Debug {
    /// The store is about to write `size` bytes, a number that only it could know. Called before
    /// the bytes are moved, on a thread that may block. An error ends the call without a change.
    fn admit(&self, size: u64) -> Result<()>;

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
