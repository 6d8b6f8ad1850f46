//! The case engine: runs cases, which are data, against a plugin in this process or against a server over a
//! socket. In this process, the plugin runs in the server's own runtime, loaded, linked and limited as there.
//! Only its surroundings are test doubles: stores in memory, a clock, a client, and whatever else a case
//! names.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`case`] | the format of case files |
//! | `runner` | runs one case or all of them, and updates case files |
//! | `driver` | carries steps out: `in_process`, and [`socket`] for any URL or start command |
//! | `compare`, `mismatch` | finds, shows and writes back differences |
//! | `final_state` | checks a plugin's world at the end of a case |
//! | [`differences`] | known differences of a server |
//! | [`report`] | reports as text, JSON and JUnit XML |
//! | `fixture` | the surroundings of a plugin in this process |
//! | `double` | test doubles of capabilities, one file each |
//! | [`plugin`] | the component under test |
//! | [`recording`] | turns a server's recordings into cases |
//! | [`kit`] | the same for `cargo test` |
//!
//! The README of this crate has the whole format of cases.

pub mod case;
mod compare;
pub mod differences;
mod double;
mod driver;
mod final_state;
mod fixture;
pub mod kit;
mod mismatch;
pub mod plugin;
pub mod recording;
pub mod report;
mod runner;

pub use differences::Differences;
pub use driver::socket;
pub use fixture::{Call, Count, Gauge, Response, Sending};
pub use kit::{Harness, Running, StartError};
pub use mismatch::Mismatch;
pub use plugin::{PluginError, PluginUnderTest, component};
pub use recording::Recording;
pub use runner::{
    Outcome, Ran, Report, RunOptions, Skipped, Target, run, run_against, run_and_update,
};
