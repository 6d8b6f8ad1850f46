//! Who must know exactly what became of a blob, also where the caller has gone away: a [`Witness`]
//! travels with one call into the store and is told there, at the very step that changes the blob.
//!
//! A result is not enough for that: the future of a call may be dropped while its commit runs to
//! its end on another thread, and a call may fail after the blob has changed (a folder that cannot
//! be synced). A store keeps its witness exactly as long as it may still change something.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::Fields;
use crate::error::Result;

/// Follows one call that changes one blob. It must not call the store.
pub trait Witness: Send + Sync + fmt::Debug {
    /// The blob will have `size` bytes, which only the store could know; called before they are
    /// moved, on a thread that may block. An error ends the call with nothing changed.
    fn admit(&self, size: u64) -> Result<()>;

    /// The blob may change from now on until [`after`](Self::after). Both are called with the
    /// store's lock on the key held, so no two changes of a key are open at once, and both must be
    /// quick. True where the metadata of the blob that goes is wanted. An error ends the call with
    /// nothing changed, and `after` is not called.
    fn before(&self) -> Result<bool>;

    /// What changed since [`before`](Self::before); none where nothing did.
    fn after(&self, changed: Option<Changed>);
}

/// How a key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The blob that was there and is not any more.
    pub gone: Option<Gone>,
    /// Bytes of the blob that is there now.
    pub came: Option<u64>,
}

/// A blob that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Bytes.
    pub size: u64,
    /// What `put` was given; empty where nobody wanted it.
    pub metadata: Fields,
}

/// A [`Witness`] on its way with a call. Equal only to its own clones.
#[derive(Clone, Debug)]
pub struct Observer(Arc<dyn Witness>);

impl Observer {
    /// Sends a witness along.
    pub fn new(witness: Arc<dyn Witness>) -> Self {
        Self(witness)
    }
}

impl Deref for Observer {
    type Target = dyn Witness;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Observer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Observer {}
