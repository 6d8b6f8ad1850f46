//! Versions of the contract: the guest `every` calls all of this one's functions, and components of other patch
//! versions load.

use std::collections::BTreeSet;

use keepgate_runtime::Inspection;
use wit_parser::{Resolve, SourceMap};

use super::*;

/// The functions that the world `plugin` of this host's contract imports, as in `blobs [method]store.get`.
fn functions(version: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit").join(version);
    let mut map = SourceMap::default();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        map.push_str(path.to_str().unwrap(), fs::read_to_string(&path).unwrap());
    }
    let mut resolve = Resolve::default();
    resolve.push_group(map.parse().unwrap()).unwrap();
    let (_, world) = resolve.worlds.iter().find(|(_, world)| world.name == "plugin").unwrap();
    let mut functions = BTreeSet::new();
    for key in world.imports.keys() {
        let wit_parser::WorldKey::Interface(id) = key else { continue };
        let interface = &resolve.interfaces[*id];
        let name = interface.name.as_deref().unwrap();
        // The inspection writes functions without their brackets.
        let plain = interface.functions.keys().map(|name| name.rsplit(']').next().unwrap());
        functions.extend(plain.map(|function| format!("{name} {function}")));
    }
    functions
}

#[test]
fn the_component_that_will_be_kept_calls_every_function_of_the_contract() {
    let seen = Inspection::of(&guest("every"));
    assert_eq!(seen.differences, []);
    let version = seen.contract.clone().unwrap();
    let imported = seen.imports.iter().flat_map(|interface| {
        interface.functions.iter().map(|function| format!("{} {function}", interface.name))
    });
    let imported: BTreeSet<String> = imported.collect();
    let missing: Vec<_> = functions(&version).difference(&imported).cloned().collect();
    assert!(missing.is_empty(), "tests/guests/examples/every.rs does not call {missing:?}");
}

/// As a host of 0.1.0 loads a plugin that was built for 0.1.1 and calls nothing new, this one loads a plugin of a later
/// patch version.
#[tokio::test]
async fn components_of_other_patch_versions_load() {
    for version in [b"@0.1.0", b"@0.1.9"] {
        let mut bench = Bench::new();
        bench.put("hostile.wasm", &replace(&guest("hostile"), b"@0.1.1", version));
        let generation = bench.generation(&[spec("/", "hostile", |_| {})]).await;
        assert_eq!(generation.refused, []);
        assert_eq!(text(get(&generation.mounts[0], "/hello").await.unwrap()).await, "hello ann");
    }
}

/// But not one that calls what this host does not have, and the message says whose turn it is.
#[tokio::test]
async fn a_component_that_calls_what_a_later_version_adds_is_refused() {
    let mut bench = Bench::new();
    let later = replace(
        &guest("secrets"),
        b"keepgate:plugin/secrets@0.1.1",
        b"keepgate:plugin/secretz@0.1.2",
    );
    bench.put("secrets.wasm", &later);
    let generation = bench.generation(&[]).await;
    let why = &generation.refused[0].why;
    assert!(why.contains("keepgate:plugin/secretz@0.1.2"), "{why}");
    assert!(why.contains("gateway"), "{why}");
}
