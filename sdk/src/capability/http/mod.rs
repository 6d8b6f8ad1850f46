//! Replies that are written piece by piece; see [`Reply::stream`](crate::Reply::stream).

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{Writer, take_streamed};
#[cfg(target_family = "wasm")]
pub(crate) use wasm::Writer;

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/http.md")]
#[derive(Debug)]
struct Book;
