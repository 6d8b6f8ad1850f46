//! `keepgate plugin test`: what it finds and prints, and its exit codes. The cases themselves are tested
//! in host/harness.

use std::fs;
use std::path::Path;

use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools::{self, Finished};

fn test(folder: &Path, more: &[&str]) -> Finished {
    let mut command = keepgate(&["plugin", "test", text(folder)]);
    command.args(more).env("XDG_CACHE_HOME", folder.join("cache"));
    tools::run(command)
}

/// A plugin's folder as its author has it, with one case.
fn plugin(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("restic.wasm"), tools::plugin("restic")).unwrap();
    fs::create_dir(folder.path().join("cases")).unwrap();
    fs::write(folder.path().join("cases/first.toml"), case).unwrap();
    folder
}

const GOOD: &str = "[[case]]\nname = \"missing\"\n[[case.step]]\nsend = \"GET /config\"\n\
                    expect.status = 404\n";

#[test]
fn a_plugin_and_its_cases_are_found_in_its_folder() {
    let folder = plugin(GOOD);
    let said = test(folder.path(), &[]).success();
    assert!(said.starts_with("1 passed, 0 failed in "), "{said}");
    let said = test(&folder.path().join("restic.wasm"), &["--list"]).success();
    assert_eq!(said, "first/missing\n");
    let said = test(folder.path(), &["--json", "--filter", "first/"]).success();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["passed"], &said["cases"][0]["name"]), (&1.into(), &"first/missing".into()));
    let none = test(folder.path(), &["--filter", "second"]).fails_with(2);
    assert!(none.contains("no case has \"second\" in its name"), "{none}");
}

#[test]
fn a_failing_case_is_reported_and_fixed_by_an_update() {
    let folder = plugin(&GOOD.replace("404", "200 # wrong"));
    let (cases, junit) = (folder.path().join("cases/first.toml"), folder.path().join("j.xml"));
    let finished = test(folder.path(), &["--junit", text(&junit)]);
    assert_eq!(finished.status.code(), Some(1));
    let said = finished.stdout;
    for words in ["FAILED first/missing", "first.toml:2", "expected 200, got 404", "blobs.get main"]
    {
        assert!(said.contains(words), "{said}");
    }
    assert!(fs::read_to_string(&junit).unwrap().contains("<failure"));
    let finished = test(folder.path(), &["--update"]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stdout);
    assert!(finished.stderr.contains("first/missing was rewritten"), "{}", finished.stderr);
    assert!(fs::read_to_string(cases).unwrap().ends_with("expect.status = 404 # wrong\n"));
    test(folder.path(), &[]).success();
}

#[test]
fn what_cannot_be_used_is_exit_code_2() {
    let folder = plugin(&GOOD.replace("status", "stats"));
    let error = test(folder.path(), &[]).fails_with(2);
    assert!(error.contains("first.toml:5:8: unknown field `stats`"), "{error}");
    let folder = plugin(GOOD);
    fs::write(folder.path().join("restic.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let error = test(folder.path(), &[]).fails_with(2);
    assert!(error.contains("core module"), "{error}");
    fs::remove_file(folder.path().join("restic.wasm")).unwrap();
    let error = test(folder.path(), &[]).fails_with(2);
    assert!(error.contains("run `keepgate plugin build"), "{error}");
    fs::remove_dir_all(folder.path().join("cases")).unwrap();
    let error = test(folder.path(), &[]).fails_with(2);
    assert!(error.contains("no cases: ") && error.contains("--cases"), "{error}");
    let none = folder.path().join("none");
    let error = test(&none, &[]).fails_with(2);
    assert!(error.contains(&format!("{} does not exist", none.display())), "{error}");
}

/// Cases that need no inside view run against a server; the others are skipped, each with its reason.
#[test]
fn a_running_server_is_asked_what_can_be_asked_from_outside() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/restic/cases");
    let setup = Setup::new().mount("/deep/down", "restic", "");
    let gateway = setup.start();
    let url = format!("http://127.0.0.1:{}/deep/down", gateway.port());
    let arguments = ["--cases", text(&cases), "--url", &url];
    let said = test(&cases, &[&arguments[..], &["--json"]].concat()).success();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let skipped = said["skipped"].as_array().unwrap();
    assert!(said["passed"].as_u64().unwrap() >= 5, "{said:#}");
    assert!(skipped.iter().any(|skipped| skipped["why"] == "needs faults"), "{said:#}");
    let said = test(&cases, &arguments).success();
    assert!(said.contains("skipped") && said.contains("needs faults\n"), "{said}");
    gateway.stop();
    let wrong = test(&cases, &["--cases", text(&cases), "--url", "ftp://x/"]).fails_with(2);
    assert!(wrong.contains("is not http[s]://"), "{wrong}");
}
