//! What a mount grants of a store: the same to everybody, or something else to each principal.
//! Whoever wires the host decides; the runtime only asks when a plugin opens a store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use keepgate_connect::Snapshots;
use keepgate_jobs::Jobs;
use keepgate_pipes::Spool;
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

/// What a mount grants besides stores. Nothing, by default.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// Clusters of etcd, by the names under which the plugin asks for them.
    pub clusters: BTreeMap<String, Arc<dyn Snapshots>>,
    /// Where its jobs are kept.
    pub jobs: Option<Arc<Jobs>>,
    /// Where bodies wait whose length must be known.
    pub spool: Option<Arc<Spool>>,
}
