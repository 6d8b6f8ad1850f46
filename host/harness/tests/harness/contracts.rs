//! Components built against released contracts, kept as bytes: each still loads, and does what it did. The component of
//! this repository's own contract, which may be in preparation, does the same.
//! `tests/contracts/README.md` says what they are and why they are never built again.

use std::fs;
use std::path::{Path, PathBuf};

use keepgate_harness::{PluginUnderTest, RunOptions, case, report, run};

/// The folders of `tests/contracts`, by their versions.
fn versions() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contracts");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// Runs the cases of a version with a component. Returns how many there are.
fn hold(component: &Path, version: &Path) -> usize {
    let plugin = PluginUnderTest::load(component, None).unwrap();
    let cases = case::read(&version.join("cases")).unwrap_or_else(|broken| panic!("{broken:#?}"));
    let report = run(&plugin, &cases, &RunOptions::default());
    assert_eq!((report.wrong(), report.broken().len()), (0, 0), "{}", report::text(&report));
    report.right()
}

#[test]
fn each_released_contract_is_kept() {
    let kept = versions().into_iter().filter(|version| version.join("every.wasm").exists());
    let kept: Vec<_> = kept.collect();
    assert!(kept.iter().any(|version| version.ends_with("0.1.0")), "{kept:?}");
    for version in kept {
        let cases = hold(&version.join("every.wasm"), &version);
        assert!(cases >= if version.ends_with("0.1.0") { 10 } else { 1 }, "{version:?}");
    }
}

#[test]
fn the_contract_in_preparation_keeps_what_was_released() {
    let guests = std::env::var("KEEPGATE_GUEST_DIR").expect("run `cargo xtask test`");
    let built = Path::new(&guests).join("every.wasm");
    for version in versions() {
        assert!(hold(&built, &version) > 0, "{version:?}");
    }
}
