//! etcd clusters that the operator has configured and granted to the mount.

#[cfg(not(target_family = "wasm"))]
mod native;

pub use crate::bindings::keepgate::plugin::etcd::Facts;
#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::etcd::{Snapshot, clusters};
#[cfg(not(target_family = "wasm"))]
pub use native::{Snapshot, TestSnapshot, clusters};

use crate::{Description, Failure};

/// Checks that the mount grants a cluster. Otherwise, fails with [`Failure::Denied`], which lists the granted
/// clusters.
pub fn require(cluster: &str) -> Result<(), Failure> {
    let granted = clusters();
    if granted.iter().any(|known| known == cluster) {
        return Ok(());
    }
    let granted = match granted.as_slice() {
        [] => "no clusters are configured".to_owned(),
        granted => format!("its `etcd` has: {}", granted.join(", ")),
    };
    Err(Failure::Denied(format!("this mount has no cluster {cluster:?} ({granted})")))
}

impl Description {
    /// Declares a cluster that the plugin takes snapshots of. Each mount must grant it. A plugin that uses
    /// whatever it is granted declares none, and asks [`clusters`].
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.0.clusters.push(name.to_owned());
        self
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/etcd.md")]
#[derive(Debug)]
struct Book;
