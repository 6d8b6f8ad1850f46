//! Properties of names. CONTRIBUTING.md says how to run more cases.

use std::path::{Component, Path};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/key/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// Names close to what the rules forbid.
fn name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => Just("/".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just("..".to_owned()),
        1 => Just(RESERVED.to_owned()),
        1 => Just("\0".to_owned()),
        1 => (250..260_usize).prop_map(|length| "x".repeat(length)),
        1 => Just("é".repeat(128)),
        4 => "[a-z.]{1,3}",
        2 => "(?s).{1,3}",
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Valid names.
fn good() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-z][^/\0]{0,9}", 1..8).prop_map(|segments| segments.join("/"))
}

/// The rules stated in another way: the file system's reading of the name is the name itself.
fn is_fine(name: &str) -> bool {
    let path = Path::new(name);
    let normal = path.components().all(|component| matches!(component, Component::Normal(_)));
    let segments: Vec<&str> = name.split('/').collect();
    let same = path.components().map(|one| one.as_os_str().to_str().unwrap()).eq(segments.clone());
    normal
        && same
        && !name.contains('\0')
        && name.len() <= 1024
        && segments.iter().all(|segment| segment.len() <= 255 && *segment != ".keepgate")
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn keys_follow_the_rules_and_stay_below_the_root(name in name()) {
        let key = Key::new(name.as_str());
        prop_assert_eq!(key.is_ok(), !name.is_empty() && is_fine(&name), "{:?}", name);
        if let Ok(key) = key {
            prop_assert_eq!(key.as_str(), &name);
            let path = Path::new("/root").join(key.as_str());
            prop_assert!(path.starts_with("/root") && path != Path::new("/root"));
            prop_assert!(path.components().all(|one| one != Component::ParentDir));
        }
    }

    #[test]
    fn folders_follow_the_rules_and_the_top_has_no_name(name in name()) {
        let folder = Folder::new(name.as_str());
        prop_assert_eq!(folder.is_ok(), name.is_empty() || is_fine(&name), "{:?}", name);
    }

    #[test]
    fn a_key_is_its_folder_and_its_last_segment(name in good()) {
        let key = Key::new(name.as_str()).unwrap();
        let folder = key.folder();
        prop_assert!(Folder::new(folder.as_str()).is_ok());
        let last = name.rsplit('/').next().unwrap();
        prop_assert_eq!(folder.key(last).unwrap(), key);
    }

    #[test]
    fn a_name_below_a_folder_never_leaves_it(folder in good(), name in name()) {
        let folder = Folder::new(folder).unwrap();
        if let Ok(key) = folder.key(&name) {
            prop_assert!(Path::new(key.as_str()).starts_with(folder.as_str()));
            prop_assert!(key.as_str().len() > folder.as_str().len());
        }
    }
}
