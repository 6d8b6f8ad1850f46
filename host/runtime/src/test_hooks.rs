//! Hooks for tests: a clock and random numbers that are the same each time, and a record of what a plugin
//! asks of its host.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use crate::capability::grants::Grant;
use keepgate_core::Failure;

/// Granted to a mount, these hooks are called instead of the machine's clock and random numbers, and
/// told of each call to an import. A server has none.
#[derive(Clone, Debug)]
pub struct Hooks(pub Arc<dyn TestHooks>);

impl Grant for Hooks {}

/// What [`Hooks`] call.
pub trait TestHooks: Send + Sync + Debug + 'static {
    /// The result of `environment.now`.
    fn now(&self) -> SystemTime;
    /// The result of `environment.random`.
    fn random(&self, bytes: &mut [u8]);
    /// The plugin calls an import, as in `blobs.put`; `about` has the essential arguments. Returns a
    /// number that identifies the call to [`failed`](Self::failed).
    fn called(&self, import: &'static str, about: String) -> u64;
    /// The call with this number failed.
    fn failed(&self, call: u64, failure: &Failure);
    /// The plugin logs a line; `level` is in lower case.
    fn logged(&self, level: &'static str, line: &str);
    /// The plugin adds to one of its counters; `refused` says why the value was dropped.
    fn counted(&self, metric: &str, labels: &[String], by: u64, refused: Option<&str>);
    /// The plugin sets one of its gauges; `refused` says why the value was dropped.
    fn set(&self, metric: &str, labels: &[String], value: f64, refused: Option<&str>);
}
