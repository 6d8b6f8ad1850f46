//! Settings, clock, randomness, the operator's log and metrics.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

pub use crate::bindings::keepgate::plugin::environment::Level;
#[cfg(not(target_family = "wasm"))]
pub use native::*;
#[cfg(target_family = "wasm")]
pub use wasm::*;

/// Writes to the operator's log. Say one event on one line, in lower case; details belong into fields.
pub fn log(level: Level, message: &str) {
    log_with(level, message, &[]);
}
