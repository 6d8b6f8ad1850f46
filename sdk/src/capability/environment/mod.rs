//! Settings, clock, randomness, the operator's log and metrics.

mod metrics;
#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

use std::fmt::Display;

pub use crate::bindings::keepgate::plugin::environment::Level;
#[cfg(not(target_family = "wasm"))]
use native::log_fields;
#[cfg(not(target_family = "wasm"))]
pub use native::{count, now, random, set, settings};
#[cfg(target_family = "wasm")]
use wasm::log_fields;
#[cfg(target_family = "wasm")]
pub use wasm::{count, now, random, set, settings};

/// Writes one event to the operator's log, on one line and in lower case.
pub fn log(level: Level, message: &str) {
    log_fields(level, message, &[]);
}

/// The same with details in fields, as pairs of name and value.
///
/// ```
/// use keepgate_sdk::{Level, environment};
///
/// # let _host = keepgate_sdk::testing::Host::new();
/// let size = 4096;
/// environment::log_with(Level::Info, "archive stored", &[("name", &"a.tar"), ("size", &size)]);
/// ```
pub fn log_with(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    log_fields(level, message, &fields);
}
