//! Replies that are written piece by piece; see [`Reply::stream`](crate::Reply::stream).

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{Writer, take_streamed};
#[cfg(target_family = "wasm")]
pub(crate) use wasm::Writer;
