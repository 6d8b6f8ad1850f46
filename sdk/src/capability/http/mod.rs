//! Replies that are written piece by piece; see [`Reply::stream`](crate::Reply::stream).

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{Writer, inform, take_streamed};
#[cfg(target_family = "wasm")]
pub(crate) use wasm::{Writer, inform};

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/http.md")]
#[derive(Debug)]
struct Book;
