//! Components built against released contracts, kept as bytes: each still loads, and does what it did.
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

#[test]
fn each_released_contract_is_kept() {
    let versions = versions();
    assert!(versions.iter().any(|version| version.ends_with("0.1.0")), "{versions:?}");
    for version in versions {
        let plugin = PluginUnderTest::load(&version.join("every.wasm"), None).unwrap();
        let cases =
            case::read(&version.join("cases")).unwrap_or_else(|broken| panic!("{broken:#?}"));
        let report = run(&plugin, &cases, &RunOptions::default());
        assert_eq!((report.wrong(), report.broken().len()), (0, 0), "{}", report::text(&report));
        assert!(report.right() >= 10, "{}", report.right());
    }
}
