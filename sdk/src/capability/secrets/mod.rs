//! Keys that the operator granted to the mount, to work with and not to see: they never leave the host.
//!
//! What a plugin stores for itself and nobody else may read is sealed: encrypted and authenticated, for one context.
//! What somebody else has to check, or has made, is signed with a key that both have.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(test)]
mod properties;

#[cfg(target_family = "wasm")]
pub use crate::bindings::keepgate::plugin::secrets::{
    hmac_sha256, keys, open, seal, verify_hmac_sha256,
};
#[cfg(not(target_family = "wasm"))]
pub use native::{hmac_sha256, keys, open, seal, verify_hmac_sha256};

/// The longest message to sign, and the longest plaintext to seal, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The longest context to seal for, in bytes.
pub const MAX_CONTEXT: usize = 1 << 10;

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/secrets.md")]
#[derive(Debug)]
struct Book;
