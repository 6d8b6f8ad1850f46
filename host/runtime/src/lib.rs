//! Loads, keeps and calls plugins. The only crate that uses wasmtime.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`capability`] | what a plugin can ask of its host, one folder or file each, and the list of them |
//! | [`loader`](Loader) | loads the plugin folder and builds generations |
//! | [`generation`] | the immutable table of mounts and plugins |
//! | [`load`] | from a file's bytes to a plugin; `error` has the reasons for refusals |
//! | [`folder`] | which files are in the plugin folder, and when to scan it again |
//! | [`trust`] | which files may be loaded: digests and signatures |
//! | `component_kind`, [`inspect`], `needs` | what a file is and needs, by its bytes alone |
//! | [`mount`], `spec` | a path prefix with its plugin; what the operator configures of it |
//! | `serving` | a plugin at a mount: the queue of calls, their instances |
//! | `instance`, `guest_state`, `cpu` | one instance with its limits |
//! | `circuit_breaker` | suspends plugins that keep breaking down |
//! | `host_allocation`, `guest_log` | limits on what the host holds and logs for a guest |
//! | `reply`, `streamed_reply` | the checks of a reply; a reply sent piece by piece |
//! | `job_runner` | runs jobs of the queue by the plugins of their mounts |
//! | `wasi_http` | components of `wasi:http`, served like plugins |
//! | `workbench`, `test_hooks` | a plugin on its own, for tools and tests |
//! | [`metrics`] | the runtime's metrics and those of plugins |
//! | `contract`, `guest` | the contract's name, version and failures; what plugins export |
//! | `compiler` | compiles in a process of its own |
//! | `engine`, `cache` | wasmtime's tuning, and what the system allows; compiled code on disk |
//!
//! Invariants: this crate knows no policy (stores come guarded, requests come authenticated), and the bytes
//! of a body pass through it only if a guest reads or writes them.

mod cache;
pub mod capability;
mod circuit_breaker;
mod compiler;
mod component_kind;
mod contract;
mod cpu;
mod engine;
mod error;
pub mod folder;
pub mod generation;
mod guest;
mod guest_log;
mod guest_state;
mod handler;
mod host_allocation;
pub mod inspect;
mod instance;
mod job_runner;
pub mod load;
mod loader;
pub mod metrics;
pub mod mount;
mod needs;
mod reply;
mod serving;
mod shares;
mod spec;
mod streamed_reply;
mod test_hooks;
pub mod trust;
mod wasi_http;
mod workbench;

pub use capability::Grants;
pub use circuit_breaker::{Faults, Open};
pub use compiler::Compiler;
pub use compiler::child::main as compile;
pub use engine::{Code, Execution, Memory};
pub use error::LoadError;
pub use folder::{Watch, read_component};
pub use generation::{Generation, Refused};
pub use inspect::Inspection;
pub use job_runner::JobRunner;
pub use load::Plugin;
pub use loader::{Loader, Scanned, Undo};
pub use metrics::Metrics;
pub use mount::Mount;
pub use shares::PluginMemory;
pub use spec::{Limits, MountSpec};
pub use test_hooks::{Hooks, TestHooks};
pub use trust::{Trust, TrustDecision, TrustError};
pub use workbench::{Instantiated, Workbench};
