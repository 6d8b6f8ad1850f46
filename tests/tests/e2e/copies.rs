//! Copies of stores: what was backed up is restored from the copy after the source is gone, by pointing
//! a mount at it; a wiped source does not wipe the copy; and operators see what runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::restic::Restic;
use keepgate_tests::s3::S3Server;
use keepgate_tests::{tools, tree};
use serde_json::Value;

/// A store `second` in a folder of its own, and a copy of `main` in it.
fn setup(further: &str) -> Setup {
    let setup = with_second(Setup::restic(), "path = \"second\"", further);
    fs::create_dir(setup.path("second")).unwrap();
    setup
}

/// A store `second` at a place, and a copy of `main` in it.
fn with_second(setup: Setup, place: &str, further: &str) -> Setup {
    setup.table(&format!(
        "[store.second]\n{place}\n\n[copy.offsite]\nfrom = \"main\"\nto = \"second/main\"\n\
         cron = \"0 0 1 1 *\"\n{further}\n"
    ))
}

fn command(setup: &Setup, arguments: &[&str]) -> Command {
    let mut command = keepgate(arguments);
    command.arg("--config").arg(setup.config());
    setup.equip(command)
}

fn run_copy(setup: &Setup) -> Command {
    command(setup, &["jobs", "run", "copy offsite", "--wait"])
}

fn last_run(gateway: &Gateway) -> Value {
    gateway.status()["copies"][0]["last_run"].clone()
}

fn metric(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("keepgate_copy_{name}{{copy=\"offsite\"}}"))
}

fn wipe(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.unwrap();
    }
}

#[test]
fn a_backup_is_restored_from_the_copy_after_the_source_is_gone() {
    let setup = setup("");
    let store = setup.store();
    restores_from_the_copy(&setup, &store);
}

#[test]
fn a_backup_on_disk_is_restored_from_its_copy_in_a_bucket() {
    let Some(server) = S3Server::find("a copy in a bucket") else { return };
    server.bucket("offsite");
    let place = format!("s3 = {}", server.toml("offsite/keepgate", ""));
    let setup = with_second(Setup::restic(), &place, "").with_keys_to_buckets();
    let store = setup.store();
    restores_from_the_copy(&setup, &store);
}

#[test]
fn a_backup_in_a_bucket_is_restored_from_its_copy_on_disk() {
    let Some(server) = S3Server::find("a copy of a bucket") else { return };
    let setup = Setup::restic().in_bucket(&server, "backups", "");
    let setup = with_second(setup, "path = \"second\"", "");
    fs::create_dir(setup.path("second")).unwrap();
    restores_from_the_copy(&setup, &server.buckets().join("backups"));
}

/// `store` is the folder with the files of the source.
#[track_caller]
fn restores_from_the_copy(setup: &Setup, store: &Path) {
    let gateway = setup.start();
    let here = gateway.repository("", "/laptop/");
    let Some(restic) = Restic::find("a restore from a copy", here) else { return };
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    tree::make(&source);
    restic.run(&["init"]);
    restic.run_in(work.path(), &["backup", "source"]);
    assert_eq!(metric(&gateway, "last_success_timestamp_seconds"), 0.0);
    tools::run(run_copy(setup)).success();
    tree::change(&source);
    restic.run_in(work.path(), &["backup", "source"]);
    let said = tools::run(run_copy(setup)).success();
    assert!(said.contains("succeeded"), "{said}");
    let last = last_run(&gateway);
    assert_eq!(last["succeeded"], true, "{last}");
    assert!(last["report"]["copied"]["blobs"].as_u64().unwrap() >= 2, "{last}");
    assert!(metric(&gateway, "last_success_timestamp_seconds") > 1.0e9);
    assert_eq!(metric(&gateway, "behind_blobs"), 0.0);
    let verify = ["store", "verify", "second/main", "--copy-of", "main"];
    tools::run(command(setup, &verify)).success();
    let said = tools::run(command(setup, &["check"])).success();
    let line = "copy offsite: main to second/main, the last run succeeded\n";
    assert!(said.contains(line), "{said}");

    wipe(store);
    restic.fails(&["snapshots"]);
    setup.edit(|text| {
        text.replace("stores = { main = \"main\" }", "stores = { main = \"second/main\" }")
    });
    gateway.reload();
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);
    restic.assert_restores(&source);
    gateway.stop();
}

#[test]
fn a_wiped_source_does_not_wipe_the_copy_and_the_operator_is_told() {
    let setup = setup("delete_after = \"1s\"");
    let gateway = setup.start();
    let here = gateway.repository("", "/laptop/");
    let Some(restic) = Restic::find("a copy of a wiped store", here) else { return };
    let work = tempfile::tempdir().unwrap();
    tree::make(&work.path().join("source"));
    restic.run(&["init"]);
    restic.run_in(work.path(), &["backup", "source"]);
    tools::run(run_copy(&setup)).success();
    wipe(&setup.store());
    for failures in [1.0, 2.0] {
        tools::run(run_copy(&setup)).fails_with(1);
        assert_eq!(metric(&gateway, "failures_total"), failures);
        assert_eq!(metric(&gateway, "last_failed"), 1.0);
        let message = last_run(&gateway)["message"].as_str().unwrap().to_owned();
        assert!(message.contains("nothing was removed from laptop"), "{message}");
        std::thread::sleep(std::time::Duration::from_millis(2100));
    }
    assert!(metric(&gateway, "missing_blobs") > 3.0);
    let local = restic.at(text(&setup.path("second/main/laptop")));
    local.run(&["check", "--read-data"]);
    gateway.stop();
}

#[test]
fn stores_are_listed_verified_and_copied_on_the_command_line() {
    let setup = setup("");
    setup.write();
    let pack = b"not what its name says";
    let name = "ab".repeat(32);
    for (folder, file, bytes) in
        [("team", "plain", &b"content"[..]), ("repo/data/ab", &name, &pack[..])]
    {
        fs::create_dir_all(setup.store().join(folder)).unwrap();
        fs::write(setup.store().join(folder).join(file), bytes).unwrap();
    }
    let stores = tools::run(command(&setup, &["store", "list"])).success();
    assert!(stores.contains("main  ") && stores.contains("second  "), "{stores}");
    let listed = tools::run(command(&setup, &["store", "list", "main/team"])).success();
    assert_eq!(listed, "           7  plain\n");
    tools::run(command(&setup, &["store", "verify", "main"])).fails_with(1);
    let copy = ["store", "copy", "main", "second/main"];
    tools::run(command(&setup, &copy)).fails_with(1);
    assert!(setup.path("second/main/team/plain").is_file());
    assert!(!setup.path("second/main/repo").join("data/ab").join(&name).exists());
    let inside = ["store", "copy", "main", "main/team"];
    let said = tools::run(command(&setup, &inside)).fails_with(1);
    assert!(said.contains("one is inside the other"), "{said}");
    let report =
        tools::run(command(&setup, &["store", "verify", "second/main", "--json"])).success();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["readable"]["blobs"], 1, "{report}");
}
