//! Capabilities: what a plugin can ask of its host, one folder or file each.
//!
//! [`registry::REGISTRY`] is the only list of them. Everything that has to know which capabilities exist reads it:
//! the linker, the check of a component's imports, the check of a mount, `/status`, `plugin check`,
//! `inspect`, and the tools that call a plugin without a gateway. To add a capability, write its module
//! and add one line to the registry.
//!
//! A capability has up to four parts:
//!
//! - its *interface*: the host's side of one interface of the contract, implemented for [`GuestState`];
//! - its *requests*: names that a plugin's description lists, which a mount has to grant;
//! - its *grant*: a type of its own in a mount's [`Grants`], put there by whoever configures the mount;
//! - its *state*: what it keeps for one call, in the call's [`CallState`](call_state::CallState).
//!
//! An import that waits is an ordinary async function: the guest is suspended meanwhile, holds no
//! thread, and its CPU clock stands still (see `cpu`).

use std::collections::BTreeMap;

use wasmtime::component::Linker;

use crate::guest::exported;
use crate::guest_state::GuestState;

pub use grants::{Grant, Grants};
pub use registry::{granted, stand_in, unmet_imports};
pub use requests::Requests;

pub mod blobs;
pub(crate) mod call_state;
pub mod environment;
pub mod etcd;
pub(crate) mod grants;
pub(crate) mod http;
pub mod jobs;
pub mod pipes;
pub(crate) mod registry;
pub(crate) mod requests;
pub(crate) mod types;

/// One thing that a plugin can ask of its host.
pub(crate) trait Capability: Sync {
    /// Its interface in the contract's package, as in `blobs`.
    fn interface(&self) -> &'static str;

    /// What a plugin does with it, in one or two words, for `plugin inspect`.
    fn purpose(&self) -> &'static str;

    /// The text of its interface, to explain how a component differs from it.
    fn wit(&self) -> &'static str;

    /// Links the host's side of its interface.
    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()>;

    /// The names that a plugin's description lists for it.
    fn request(&self) -> Option<Request> {
        None
    }

    /// The names that a mount grants of it.
    fn granted(&self, _grants: &Grants) -> Option<Granted> {
        None
    }

    /// Checks whether a mount grants what the plugin's description requests. The error says what to
    /// add to the mount.
    fn check(&self, _plugin: &str, _requests: &Requests, _grants: &Grants) -> Result<(), String> {
        Ok(())
    }

    /// Checks whether a mount grants what the component imports, given the functions of this interface
    /// that it imports. Less precise than [`check`](Self::check): a plugin may import more than it
    /// uses, so this is for `plugin check` only.
    fn check_imports(&self, _functions: &[String], _grants: &Grants) -> Result<(), String> {
        Ok(())
    }

    /// Grants what a description requests and nobody else has granted, by something that exists and
    /// is empty: for tools and tests that call a plugin without a gateway.
    fn stand_in(&self, _requests: &Requests, _grants: &mut Grants) {}
}

/// Which names a plugin's description lists for a capability.
pub(crate) struct Request {
    /// The field of the description, as in `stores`.
    pub(crate) field: &'static str,
    /// What the plugin does with each name, for `plugin check`, as in `opens store`.
    pub(crate) label: &'static str,
    /// Reads them.
    pub(crate) names: fn(&exported::Description) -> &[String],
}

/// The names that a mount grants of a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The key of a mount's table in the configuration, as in `stores`.
    pub key: &'static str,
    /// One of them in words, as in `store`.
    pub label: &'static str,
    /// By which the plugin asks for them.
    pub names: Vec<String>,
}

/// The first requested name that is not granted.
fn missing<'a, G>(
    requested: &'a [String],
    granted: Option<&BTreeMap<String, G>>,
) -> Option<&'a String> {
    requested.iter().find(|name| !granted.is_some_and(|granted| granted.contains_key(*name)))
}

/// `a, b`, or `(none)`, as messages list what there is.
fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names = names.map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.is_empty() { "(none)".to_owned() } else { names }
}
