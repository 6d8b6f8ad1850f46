//! What a mount may grant a plugin, one folder each. In a folder, `mod.rs` has what both builds share, `wasm.rs`
//! the binding to the host's imports, and `native.rs` the double that stands in for the host in `cargo test`,
//! with what tests say to it through [`testing::Host`](crate::testing::Host).
//!
//! This file is the only list: a new capability is one folder and one line here, and one field in
//! [`described`] if plugins must name what they want of it.

pub(crate) mod blobs;
pub(crate) mod body;
pub mod environment;
pub mod etcd;
pub(crate) mod http;
pub mod jobs;
pub mod pipes;
pub mod records;
pub mod secrets;
pub mod topics;
pub mod turns;
pub mod upstreams;

pub use blobs::{
    Change, Condition, Download, Entries, Entry, Info, Listing, Part, Piece, PutOptions, Received,
    Store, Stored, is_key_segment, is_sha256, join_key,
};
pub use body::Body;
pub use environment::Level;

use crate::bindings::exports::keepgate::plugin::guest::Description;

/// A description that requests nothing yet.
pub(crate) fn described(name: &str, version: &str) -> Description {
    Description {
        name: name.to_owned(),
        version: version.to_owned(),
        summary: String::new(),
        default_mount: format!("/{name}"),
        stores: Vec::new(),
        clusters: Vec::new(),
        jobs: Vec::new(),
        metrics: Vec::new(),
    }
}

/// What stands in for a capability in tests.
#[cfg(not(target_family = "wasm"))]
pub(crate) mod doubles {
    pub use super::etcd::TestSnapshot;
    pub use super::upstreams::{SentRequest, TestExchange};
}
