//! What a mount grants of a store: the same to everybody, or something else to each principal.
//! Whoever wires the host decides; the runtime only asks when a plugin opens a store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use keepgate_connect::Snapshots;
use keepgate_jobs::Jobs;
use keepgate_pipes::Spool;
use keepgate_store::BlobStore;

use crate::call::{Failure, Principal};

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
    /// What stands in for the machine's clock and randomness, and hears of calls. A server has none.
    pub surroundings: Option<Arc<dyn Surroundings>>,
}

/// A clock, randomness and an ear: what tests put in the place of the machine, so that a plugin does
/// the same each time, and what it asked its host for can be told.
pub trait Surroundings: Send + Sync + Debug + 'static {
    /// What `environment.now` says.
    fn now(&self) -> SystemTime;
    /// Fills what `environment.random` hands out.
    fn random(&self, bytes: &mut [u8]);
    /// A plugin calls an import, as in `blobs.put`; `about` has what matters of its arguments. The
    /// number names this call to [`failed`](Self::failed).
    fn called(&self, import: &'static str, about: String) -> u64;
    /// The call of this number failed.
    fn failed(&self, call: u64, failure: &Failure);
    /// The plugin writes a line into the log; `level` in lower case.
    fn logged(&self, level: &'static str, line: &str);
    /// The plugin adds to one of its counters; `refused` says why this was dropped.
    fn counted(&self, metric: &str, labels: &[String], by: u64, refused: Option<&str>);
    /// The plugin sets one of its gauges; `refused` says why this was dropped.
    fn set(&self, metric: &str, labels: &[String], value: f64, refused: Option<&str>);
}
