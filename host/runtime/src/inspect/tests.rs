//! Files that are not plugins, and components that differ from the contract.

use wit_parser::{Resolve, SourceMap};

use super::compare::{self, Side};
use super::world::World;
use super::*;

/// A component with nothing in it.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn files_that_are_not_components_are_named() {
    let half = [EMPTY_COMPONENT, b"\x01\x20"].concat();
    let nonsense = [EMPTY_COMPONENT, b"\x01\x02\xff\xff"].concat();
    let cases: [(&[u8], Kind, &str); 8] = [
        (b"fn main() {}\n", Kind::Text, "a text file"),
        (b"(component)", Kind::Text, "wasm-tools parse"),
        (b"\x7fELF\x02\x01\x01", Kind::CompiledCode, "machine code"),
        (b"\x1f\x8b\x08\0", Kind::Unknown, "gzip"),
        (EMPTY_MODULE, Kind::CoreModule, "keepgate plugin build"),
        (b"\0asm", Kind::Truncated, "copy it again"),
        (&half, Kind::Truncated, "copy it again"),
        (&nonsense, Kind::Damaged, "damaged"),
    ];
    for (bytes, kind, said) in cases {
        let seen = Inspection::of(bytes);
        let why = seen.refusal.clone().unwrap_or_default();
        assert_eq!(seen.kind, kind, "{bytes:?}: {why}");
        assert!(why.contains(said), "{bytes:?}: {why}");
        assert!(seen.is_refused());
        assert_eq!(seen.size, bytes.len() as u64);
    }
}

#[test]
fn an_empty_component_is_named() {
    let seen = Inspection::of(EMPTY_COMPONENT);
    assert_eq!(seen.kind, Kind::OtherComponent);
    let why = seen.refusal.unwrap();
    assert!(why.contains("does not export keepgate:plugin/guest@0.1.1"), "{why}");
    assert!(why.contains("it exports nothing"), "{why}");
}

/// The world `plugin` of this host's contract, whose texts were changed.
fn world(change: impl Fn(&str, &str) -> String) -> World {
    world_of(VERSION, change)
}

/// The same of any version.
fn world_of(version: &str, change: impl Fn(&str, &str) -> String) -> World {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../../wit").join(version);
    let mut map = SourceMap::default();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        map.push_str(name, change(name, &std::fs::read_to_string(&path).unwrap()));
    }
    let mut resolve = Resolve::default();
    resolve.push_group(map.parse().unwrap()).unwrap();
    let (_, world) = resolve.worlds.iter().find(|(_, world)| world.name == "plugin").unwrap();
    let items = |items: Vec<(&wit_parser::WorldKey, &wit_parser::WorldItem)>| {
        items.into_iter().map(|(key, item)| (resolve.name_world_key(key), item.clone())).collect()
    };
    let imports = items(world.imports.iter().collect());
    let exports = items(world.exports.iter().collect());
    World { imports, exports, resolve }
}

/// The only difference that a change makes.
fn difference(file: &str, from: &str, to: &str) -> Difference {
    let world = world(|name, text| {
        if name != file {
            return text.to_owned();
        }
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let found = compare::differences(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn the_contract_does_not_differ_from_itself() {
    let world = world(|_, text| text.to_owned());
    assert_eq!(compare::differences(&world), []);
    let imports = world.imports();
    let stores = imports.iter().find(|interface| interface.name == "blobs").unwrap();
    assert_eq!(stores.full_name(), "keepgate:plugin/blobs@0.1.1");
    assert!(stores.functions.contains(&"store.get".to_owned()), "{stores:?}");
    assert!(stores.words.starts_with("stores: open, head, heads, get, put"), "{}", stores.words);
}

/// So that what is kept of a contract stands for all of it.
#[test]
fn a_component_that_is_kept_calls_every_function_of_its_contract() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contracts");
    let kept = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.join("every.wasm").exists()).collect();
    assert!(!kept.is_empty());
    for folder in kept {
        let version = folder.file_name().unwrap().to_str().unwrap();
        calls_every_function(&std::fs::read(folder.join("every.wasm")).unwrap(), version);
    }
}

fn calls_every_function(component: &[u8], version: &str) {
    let seen = Inspection::of(component);
    assert_eq!((seen.contract.as_deref(), seen.differences.as_slice()), (Some(version), &[][..]));
    let exports: Vec<_> = seen.exports.iter().map(|interface| interface.name.as_str()).collect();
    assert!(exports.contains(&"guest") && exports.contains(&"job-runner"), "{exports:?}");
    for interface in world_of(version, |_, text| text.to_owned()).imports() {
        let imported = seen.imports.iter().find(|imported| imported.name == interface.name);
        let functions = imported.map(|imported| imported.functions.as_slice()).unwrap_or_default();
        for function in &interface.functions {
            assert!(functions.contains(function), "{version}: {} {function}", interface.name);
        }
    }
}

/// A patch version adds, and changes nothing of the versions before it.
#[test]
fn every_function_and_type_of_a_released_contract_is_in_this_one_as_it_was() {
    let released = world_of("0.1.0", |_, text| text.to_owned());
    assert_eq!(compare::differences(&released), []);
    let here = world(|_, text| text.to_owned());
    assert_eq!(released.exports().len(), here.exports().len());
    for interface in released.imports() {
        let same = here.imports().into_iter().find(|same| same.name == interface.name).unwrap();
        for function in &interface.functions {
            assert!(same.functions.contains(function), "{} {function}", interface.name);
        }
    }
}

#[test]
fn a_function_that_the_gateway_lacks_is_named() {
    let from = "    head: func(key: string) -> result<info, failure>;";
    let to = format!("{from}\n    stat: func(key: string) -> result<info, failure>;");
    let found = difference("blobs.wit", from, &to);
    assert_eq!(found.interface, "keepgate:plugin/blobs@0.1.1");
    assert_eq!((found.item.as_deref(), found.side), (Some("store.stat"), Side::Gateway));
    assert!(found.to_string().contains("this gateway does not have it"), "{found}");
}

#[test]
fn a_function_that_the_plugin_lacks_is_named() {
    let from = "  check-settings: func(settings: string) -> result<_, string>;\n";
    let found = difference("world.wit", from, "");
    assert_eq!((found.item.as_deref(), found.side), (Some("check-settings"), Side::Plugin));
    assert!(found.to_string().contains("the plugin does not export it"), "{found}");
}

#[test]
fn a_function_with_other_arguments_is_shown_from_both_sides() {
    let from = "delete: func(key: string, condition: condition) ->";
    let found = difference("blobs.wit", from, "delete: func(key: string, now: bool) ->");
    assert_eq!((found.item.as_deref(), found.side), (Some("store.delete"), Side::Both));
    assert!(found.what.contains("now: bool") && found.what.contains("this gateway `"), "{found}");
}

#[test]
fn a_record_with_another_field_is_named_once() {
    let found = difference("blobs.wit", "    etag: string,", "    etag: option<string>,");
    assert_eq!((found.item.as_deref(), found.side), (Some("info"), Side::Both));
    assert!(found.what.contains("etag: option<string>"), "{found}");
}

#[test]
fn a_new_case_of_the_failure_is_found_where_it_is_defined() {
    let found = difference("types.wit", "    no-space,", "    no-space,\n    no-time,");
    assert_eq!(found.interface, "keepgate:plugin/types@0.1.1");
    assert_eq!(found.item.as_deref(), Some("failure"));
}
