//! Transformations that the host applies to bodies while they stream. No byte enters the plugin.

#[cfg(not(target_family = "wasm"))]
mod native;

pub use crate::bindings::keepgate::plugin::pipes::Sum;
#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::pipes::{
    Checksum, Entry, Meter, Spooled, checked, exactly, gunzip, gzip, join, limit, spool, tar,
    verified,
};
#[cfg(not(target_family = "wasm"))]
pub use native::{
    Checksum, Entry, Meter, Spooled, checked, exactly, gunzip, gzip, join, limit, spool, tar,
    verified,
};

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/pipes.md")]
#[derive(Debug)]
struct Book;
