//! Plugins: loading them, keeping them, calling them. The only crate that names wasmtime.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`call`] | a request and a reply, in plain types: what the rest of the host sees |
//! | [`mount`] | a path prefix with its plugin and limits; the way of a call |
//! | `serving` | a plugin at a mount: turns, instances, what becomes of them |
//! | `faults` | plugins that break down again and again are put aside |
//! | `held`, `voice` | what a guest may have the host hold, and say |
//! | [`generation`] | the immutable table of all that, and how a new one is made |
//! | [`folder`] | the plugin folder: what is in it, when to look again |
//! | [`load`] | from a file's bytes to a plugin, and refusals in words |
//! | [`inspect`] | what a file is, by its bytes alone |
//! | [`trust`] | which files may be loaded at all: digests and signatures |
//! | [`jobs`] | how jobs get from the queue to the plugins that run them |
//! | `workbench` | a plugin on its own, for tools |
//! | [`metrics`] | what is counted |
//! | `contract` | the WIT of `wit/0.1.0` bound to Rust |
//! | `imports` | the contract's host side, one file for each interface |
//! | `instance`, `state`, `cpu` | one instance with its limits |
//! | `wasi_http` | components of the standard's own world, served like plugins |
//! | [`grant`] | what a mount grants of a store, to whom |
//! | `engine`, `cache` | wasmtime's tuning; compiled code on disk |
//!
//! Invariants: policy is no business of this crate (stores come guarded, requests come
//! authenticated), and a body's bytes pass through it only where a guest reads or writes them.

mod cache;
pub mod call;
mod contract;
mod cpu;
mod engine;
mod faults;
pub mod folder;
pub mod generation;
pub mod grant;
mod handler;
mod held;
mod imports;
pub mod inspect;
mod instance;
pub mod jobs;
pub mod load;
pub mod metrics;
pub mod mount;
mod reply;
mod serving;
mod state;
pub mod trust;
mod voice;
mod wasi_http;
mod workbench;

pub use call::{CallError, Failure, Limit, PluginRefusal, Principal, Reply, Request};
pub use faults::{Aside, Faults};
pub use folder::Watch;
pub use generation::{Generation, Loader, Refused, Scanned};
pub use grant::{Grant, Services, Surroundings};
pub use inspect::Inspection;
pub use jobs::JobRunner;
pub use load::{LoadError, Plugin};
pub use metrics::Metrics;
pub use mount::{Limits, Mount, MountSpec};
pub use trust::{Trust, TrustError, Warrant};
pub use workbench::{Instantiated, Workbench};
