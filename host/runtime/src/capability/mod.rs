//! Capabilities: what a plugin can ask of its host, one folder or file each.
//!
//! `REGISTRY` is the only list of them. Everything that has to know which capabilities exist reads it:
//! the linker, the check of a component's imports, the check of a mount, `/status`, `plugin check`,
//! `inspect`, and the tools that call a plugin without a gateway. To add a capability, write its module,
//! declare it here and add one line to the registry.
//!
//! A capability has up to four parts:
//!
//! - its *interface*: the host's side of one interface of the contract, implemented for `GuestState`;
//! - its *requests*: names in a plugin's description that a mount has to grant;
//! - its *grant*: a type of its own in a mount's [`Grants`], put there by whoever configures the mount;
//! - its *state*: what it keeps for one call, in the call's `CallState`.
//!
//! An import that waits is an ordinary async function: the guest is suspended meanwhile, holds no
//! thread, and its CPU clock stands still (see `cpu`).

use wasmtime::component::Linker;

use crate::guest::exported;
use crate::guest_state::GuestState;
use crate::load::Plugin;

pub(crate) use definition::Capability;
pub use definition::Granted;
pub use grants::{Grant, Grants};
pub use requests::Requests;

pub mod blobs;
pub(crate) mod call_state;
mod definition;
pub(crate) mod environment;
pub mod etcd;
pub(crate) mod grants;
pub(crate) mod http;
pub mod jobs;
pub mod pipes;
pub mod records;
pub(crate) mod requests;
pub mod secrets;
pub mod topics;
pub mod turns;
pub(crate) mod types;
pub mod upstreams;

/// Every capability, in the order in which messages and tools list them.
pub(crate) static REGISTRY: &[&dyn Capability] = &[
    &types::Types,
    &blobs::Blobs,
    &environment::Environment,
    &http::Http,
    &pipes::Pipes,
    &etcd::Etcd,
    &jobs::JobsCapability,
    &records::RecordsCapability,
    &secrets::SecretsCapability,
    &topics::TopicsCapability,
    &turns::TurnsCapability,
    &upstreams::UpstreamsCapability,
];

/// Whether a call that failed this way lacks a grant of its mount: the import as `interface.function`, the
/// failure by its case in the contract.
#[must_use]
pub fn lacks_grant(import: &str, failure: &str) -> bool {
    let Some((interface, function)) = import.split_once('.') else { return false };
    let capability = REGISTRY.iter().find(|capability| capability.interface() == interface);
    capability.is_some_and(|capability| capability.lacks_grant(function, failure))
}

/// What a description requests.
pub(crate) fn requests(description: &exported::Description) -> Requests {
    let mut requests = Requests::default();
    for request in REGISTRY.iter().filter_map(|capability| capability.request()) {
        requests.push(request.field, request.label, (request.names)(description).to_vec());
    }
    requests
}

/// What a component requests that has no description.
pub(crate) fn no_requests() -> Requests {
    let mut requests = Requests::default();
    for request in REGISTRY.iter().filter_map(|capability| capability.request()) {
        requests.push(request.field, request.label, Vec::new());
    }
    requests
}

/// Whether a component may import this interface of the contract's package.
pub(crate) fn is_offered(interface: &str) -> bool {
    REGISTRY.iter().any(|capability| capability.interface() == interface)
}

/// What a plugin does with an interface of the contract's package that it imports.
pub(crate) fn purpose(interface: &str) -> Option<&'static str> {
    let known = REGISTRY.iter().find(|capability| capability.interface() == interface)?;
    Some(known.purpose())
}

/// The contract's interfaces with their texts.
pub(crate) fn wit() -> impl Iterator<Item = (&'static str, &'static str)> {
    REGISTRY.iter().map(|capability| (capability.interface(), capability.wit()))
}

/// Links all of them.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    REGISTRY.iter().try_for_each(|capability| capability.add_to_linker(linker))
}

/// Checks whether these grants have what a plugin's description requests. The error says what to add to the mount.
pub fn check(plugin: &Plugin, grants: &Grants) -> Result<(), String> {
    check_requests(&plugin.name, &plugin.description.requests, grants)
}

fn check_requests(plugin: &str, requests: &Requests, grants: &Grants) -> Result<(), String> {
    REGISTRY.iter().try_for_each(|capability| capability.check(plugin, requests, grants))
}

/// What a mount grants, by its keys in the configuration.
pub fn granted(grants: &Grants) -> Vec<Granted> {
    REGISTRY.iter().filter_map(|capability| capability.granted(grants)).collect()
}

/// What a component imports and a mount does not grant, in words, given its interfaces with their functions, and the
/// patch version of the contract that it was built for. Nothing if it imports all that this version has: then its
/// language's tools import the contract as a whole, whatever the plugin uses.
pub(crate) fn unmet_imports(
    imports: &[(String, Vec<String>)],
    patch: u32,
    grants: &Grants,
) -> Vec<String> {
    let functions = |capability: &&dyn Capability| {
        let import = imports.iter().find(|(name, _)| name == capability.interface());
        import.map(|(_, functions)| functions)
    };
    let mut offered = REGISTRY.iter().filter(|capability| capability.since() <= patch);
    if offered.all(|capability| functions(capability).is_some()) {
        return Vec::new();
    }
    let check = |capability: &&dyn Capability| {
        capability.check_imports(functions(capability)?, grants).err()
    };
    REGISTRY.iter().filter_map(check).collect()
}

/// Adds something empty for each name that a plugin requests and that is not granted, as a store without
/// blobs. For calling a plugin without a gateway.
pub fn stand_in(requests: &Requests, grants: &mut Grants) {
    for capability in REGISTRY {
        capability.stand_in(requests, grants);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_one_interface_of_the_contract() {
        for capability in REGISTRY {
            let interface = capability.interface();
            let same = REGISTRY.iter().filter(|other| other.interface() == interface);
            assert_eq!(same.count(), 1, "{interface}");
            assert!(capability.wit().contains(&format!("interface {interface} {{")), "{interface}");
            assert!(!capability.purpose().is_empty(), "{interface}");
        }
    }

    /// A component that imports all of its contract is given no hints, although a later contract has more.
    #[test]
    fn a_component_that_imports_all_of_its_contract_says_nothing_by_it() {
        let imported = |patch| -> Vec<(String, Vec<String>)> {
            let known = REGISTRY.iter().filter(|capability| capability.since() <= patch);
            known.map(|known| (known.interface().to_owned(), vec!["take".to_owned()])).collect()
        };
        for patch in REGISTRY.iter().map(|capability| capability.since()) {
            assert!(unmet_imports(&imported(patch), patch, &Grants::default()).is_empty());
            let fewer =
                imported(patch).into_iter().filter(|(name, _)| name != "types").collect::<Vec<_>>();
            let hints = unmet_imports(&fewer, patch, &Grants::default());
            assert!(hints.iter().any(|hint| hint.contains("etcd = {")), "{hints:?}");
        }
    }

    #[test]
    fn what_a_tool_grants_in_its_place_is_all_that_a_plugin_requests() {
        let mut requests = Requests::default();
        for request in REGISTRY.iter().filter_map(|capability| capability.request()) {
            requests.push(request.field, request.label, vec!["main".to_owned()]);
        }
        let mut grants = Grants::default();
        let why = check_requests("p", &requests, &grants).unwrap_err();
        assert!(why.contains("stores = { main = \"…\" }"), "{why}");
        stand_in(&requests, &mut grants);
        check_requests("p", &requests, &grants).unwrap();
        let names: Vec<_> = granted(&grants).into_iter().map(|granted| granted.names).collect();
        assert!(names.iter().all(|names| names == &["main".to_owned()]), "{names:?}");
    }
}
