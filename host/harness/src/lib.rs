//! Tests of a plugin in isolation. The plugin runs in the server's own runtime, loaded, linked and
//! limited as there; only what is around it is told: stores in memory, clusters, a clock, a client.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`case`] | the form of case files |
//! | [`plugin`] | the component under test |
//! | [`mod@run`] | runs cases, and updates them |
//! | [`recording`] | what was recorded of a server, as cases |
//! | [`report`] | for people, as JSON, as JUnit's XML |
//! | [`kit`] | the same powers for `cargo test` |
//! | `world` | what is around the plugin |
//! | `play`, `reply`, `after` | one case: its steps, what came of each, and the world at its end |
//! | `judge`, `mismatch` | what differs, how it is shown, how a file is updated |
//!
//! The README beside this crate has the format of cases, whole.

mod after;
pub mod case;
mod judge;
pub mod kit;
mod mismatch;
mod play;
pub mod plugin;
pub mod recording;
mod reply;
pub mod report;
pub mod run;
mod world;

pub use kit::{Harness, Running, StartError};
pub use mismatch::Mismatch;
pub use play::Outcome;
pub use plugin::{PluginError, PluginUnderTest, component};
pub use recording::Recording;
pub use run::{Ran, Report, RunOptions, run, run_and_update};
pub use world::{Call, Count, Gauge, Response, Sending};
