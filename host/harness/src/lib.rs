//! The case engine: plays cases, which are data, against a plugin in this process or against a server over a
//! socket. In this process a plugin runs in the server's own runtime, loaded, linked and limited as there;
//! only its surroundings are test doubles: stores in memory, a clock, a client and what else a case names.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`case`] | the form of case files |
//! | `runner` | plays one case; runs all of them; updates case files |
//! | `driver` | carries steps out: `in_process`, and [`socket`] for any URL or start command |
//! | `compare`, `mismatch` | what differs, how it is shown, how a file is updated |
//! | `final_state` | a plugin's world at the end of a case |
//! | [`differences`] | where a server is known to differ |
//! | [`report`] | for people, as JSON, as JUnit's XML |
//! | `fixture` | what surrounds a plugin in this process |
//! | `double` | test doubles of capabilities, one file each |
//! | [`plugin`] | the component under test |
//! | [`recording`] | what was recorded of a server, as cases |
//! | [`kit`] | the same powers for `cargo test` |
//!
//! The README beside this crate has the whole format of cases.

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
