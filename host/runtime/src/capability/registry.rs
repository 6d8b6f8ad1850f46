//! The list of capabilities, and what is asked of all of them.

use wasmtime::component::Linker;

use super::grants::Grants;
use super::requests::Requests;
use super::{Capability, Granted, blobs, environment, etcd, http, jobs, pipes, types};
use crate::contract::PACKAGE;
use crate::guest::exported;
use crate::guest_state::GuestState;
use crate::inspect::interface::Interface;

/// Every capability, in the order in which messages and tools list them.
pub(crate) static REGISTRY: [&dyn Capability; 7] = [
    &types::Types,
    &blobs::Blobs,
    &environment::Environment,
    &http::Http,
    &pipes::Pipes,
    &etcd::Etcd,
    &jobs::JobsCapability,
];

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

/// Checks whether a mount grants what a plugin requests.
pub(crate) fn check(plugin: &str, requests: &Requests, grants: &Grants) -> Result<(), String> {
    REGISTRY.iter().try_for_each(|capability| capability.check(plugin, requests, grants))
}

/// What a mount grants, by its keys in the configuration.
pub fn granted(grants: &Grants) -> Vec<Granted> {
    REGISTRY.iter().filter_map(|capability| capability.granted(grants)).collect()
}

/// What a component imports and a mount does not grant, in words.
pub fn unmet_imports(imports: &[Interface], grants: &Grants) -> Vec<String> {
    let ours = imports.iter().filter(|import| import.package == PACKAGE);
    let check = |import: &Interface| {
        let capability = REGISTRY.iter().find(|known| known.interface() == import.name)?;
        capability.check_imports(&import.functions, grants).err()
    };
    ours.filter_map(check).collect()
}

/// Adds something empty for each name that a plugin requests and that is not granted: a store without
/// blobs, a cluster without members. For calling a plugin without a gateway.
pub fn stand_in(requests: &Requests, grants: &mut Grants) {
    for capability in &REGISTRY {
        capability.stand_in(requests, grants);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_one_interface_of_the_contract() {
        for capability in &REGISTRY {
            let interface = capability.interface();
            let same = REGISTRY.iter().filter(|other| other.interface() == interface);
            assert_eq!(same.count(), 1, "{interface}");
            assert!(capability.wit().contains(&format!("interface {interface} {{")), "{interface}");
            assert!(!capability.purpose().is_empty(), "{interface}");
        }
    }

    #[test]
    fn what_a_tool_grants_in_its_place_is_all_that_a_plugin_requests() {
        let mut requests = Requests::default();
        for request in REGISTRY.iter().filter_map(|capability| capability.request()) {
            requests.push(request.field, request.label, vec!["main".to_owned()]);
        }
        let mut grants = Grants::default();
        let why = check("p", &requests, &grants).unwrap_err();
        assert!(why.contains("stores = { main = \"…\" }"), "{why}");
        stand_in(&requests, &mut grants);
        check("p", &requests, &grants).unwrap();
        let names: Vec<_> = granted(&grants).into_iter().map(|granted| granted.names).collect();
        assert!(names.iter().all(|names| names == &["main".to_owned()]), "{names:?}");
    }
}
