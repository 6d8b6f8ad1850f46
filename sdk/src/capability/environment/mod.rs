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

/// Details of an event, as pairs of name and value.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

/// Logs an event that is worth knowing, with details in fields.
///
/// ```
/// use keepgate_sdk::environment;
///
/// # let _host = keepgate_sdk::testing::Host::new();
/// let (name, size) = ("a.tar", 4096);
/// environment::info("archive stored", &[("name", &name), ("size", &size)]);
/// ```
pub fn info(message: &str, fields: Fields<'_>) {
    log_with(Level::Info, message, fields);
}

/// Logs an event that an operator should look at, with details in fields.
pub fn warn(message: &str, fields: Fields<'_>) {
    log_with(Level::Warn, message, fields);
}

/// Writes one event to the operator's log, on one line and in lower case.
pub fn log(level: Level, message: &str) {
    log_fields(level, message, &[]);
}

/// Like [`log`], with details in fields: pairs of name and value.
pub fn log_with(level: Level, message: &str, fields: Fields<'_>) {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    log_fields(level, message, &fields);
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/environment.md")]
#[derive(Debug)]
struct Book;
