//! What a capability is, to the rest of the runtime. [`Capability`] is implemented once by each of them.

use std::collections::BTreeMap;

use wasmtime::component::Linker;

use super::grants::Grants;
use super::requests::Requests;
use crate::guest::exported;
use crate::guest_state::GuestState;

/// One thing that a plugin can ask of its host.
pub(crate) trait Capability: Sync {
    /// Its interface in the contract's package, as in `blobs`.
    fn interface(&self) -> &'static str;

    /// What a plugin does with it, in one or two words, for `plugin inspect`.
    fn purpose(&self) -> &'static str;

    /// The patch version of the contract that has it first.
    fn since(&self) -> u32 {
        0
    }

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
    /// uses, so this is a hint to the operator and refuses nothing.
    fn check_imports(&self, _functions: &[String], _grants: &Grants) -> Result<(), String> {
        Ok(())
    }

    /// Whether a call of one of its functions that fails this way, by the failure's case in the contract,
    /// lacks a grant. For tests of plugins, which should say what they rely on.
    fn lacks_grant(&self, _function: &str, _failure: &str) -> bool {
        false
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
pub(super) fn missing<'a, G>(
    requested: &'a [String],
    granted: Option<&BTreeMap<String, G>>,
) -> Option<&'a String> {
    requested.iter().find(|name| !granted.is_some_and(|granted| granted.contains_key(*name)))
}

/// `a, b`, or `(none)`, as messages list what there is.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names = names.map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.is_empty() { "(none)".to_owned() } else { names }
}
