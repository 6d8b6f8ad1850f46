//! etcd clusters that the operator named and granted to the mount.

#[cfg(not(target_family = "wasm"))]
mod native;

pub use crate::bindings::keepgate::plugin::etcd::Facts;
#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::etcd::{Snapshot, clusters};
#[cfg(not(target_family = "wasm"))]
pub use native::{Snapshot, TestSnapshot, clusters};

use crate::Description;

impl Description {
    /// Names a cluster that the plugin takes snapshots of; each mount must grant it. A plugin that takes
    /// whatever it is granted names none, and asks [`clusters`](crate::etcd::clusters).
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.0.clusters.push(name.to_owned());
        self
    }
}
