//! The plain types of a call under their old path. They live in `keepgate-core`; use them from there.

pub use keepgate_core::{CallError, Failure, Limit, PluginRefusal, Principal, Reply, Request};
