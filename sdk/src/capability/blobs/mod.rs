//! Stores that the operator has granted to the mount.

mod entries;
#[cfg(not(target_family = "wasm"))]
mod limits;
#[cfg(not(target_family = "wasm"))]
mod memory_store;
#[cfg(not(target_family = "wasm"))]
mod native;
mod options;
#[cfg(target_family = "wasm")]
mod wasm;

pub use crate::bindings::keepgate::plugin::blobs::{
    Change, Condition, Entry, Info, Part, Piece, PutOptions, Received, Stored,
};
pub use entries::{Entries, is_key_segment, is_sha256, join_key};
#[cfg(not(target_family = "wasm"))]
pub use native::{Download, Listing, Store};
#[cfg(target_family = "wasm")]
pub use wasm::{Download, Listing, Store};

use crate::Description;

impl Description {
    /// Declares a store that the plugin opens. Each mount must grant it.
    #[must_use]
    pub fn store(mut self, name: &str) -> Self {
        self.0.stores.push(name.to_owned());
        self
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/blobs.md")]
#[derive(Debug)]
struct Book;
