//! What a mount grants of a store: the same to everybody, or something else to each principal.
//! Whoever wires the host decides; the runtime only asks when a plugin opens a store.

use std::fmt::Debug;
use std::sync::Arc;

use keepgate_store::BlobStore;

use crate::call::Principal;

/// A store as principals may use it.
pub trait Grant: Send + Sync + Debug + 'static {
    /// The store for the principal of one call; none where nobody was authenticated. Asked once
    /// for each `store.open` of a plugin: it must not be slow.
    fn store(&self, principal: Option<&Principal>) -> Arc<dyn BlobStore>;
}

/// The same store for everybody.
impl Grant for Arc<dyn BlobStore> {
    fn store(&self, _principal: Option<&Principal>) -> Arc<dyn BlobStore> {
        self.clone()
    }
}
