//! Retention: what is young stays, whoever asks for its removal, and whatever the machine's clock says.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::Program;
use keepgate_tests::restic::{NEWEST, Restic};
use keepgate_tests::tools;
use keepgate_tests::tree;

use crate::{path, store};

const POLICY: &str = "policy = { retain = \"30d\", except = [\"**/locks/*\"] }";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes everything in a folder look as if it had been stored so many days ago.
fn age(folder: &Path, days: u32) {
    for file in tree::files(folder) {
        let file = File::options().write(true).open(folder.join(file)).unwrap();
        file.set_modified(SystemTime::now() - DAY * days).unwrap();
    }
}

#[test]
fn restic_forgets_what_is_old_enough_and_is_told_what_is_not() {
    let setup = Setup::new().mount("/", "restic", POLICY);
    let gateway = setup.start();
    let url = gateway.repository("", "/safe/");
    let Some(restic) = Restic::find("restic with a repository that is retained", url) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source);
    restic.run(&["init"]);
    restic.run_in(folder.path(), &["backup", "source"]);
    age(&setup.store(), 40);
    tree::change(&source);
    for _ in 0..2 {
        restic.run_in(folder.path(), &["backup", "source"]);
    }

    // Of three snapshots, the oldest may go. restic retries many times; the first response is what matters.
    let arguments = ["forget", "--keep-last", "1", "--prune"];
    let mut forget = Program::start(restic.command(folder.path(), &arguments));
    let (_, refusal) = forget.stderr.wait_for(0, &["403"]);
    assert!(refusal.contains("Forbidden: retained: safe/snapshots/"), "{refusal}");
    assert!(refusal.contains("may not be deleted or replaced before 20"), "{refusal}");
    let snapshots = setup.store().join("safe/snapshots");
    gateway.eventually("the oldest is forgotten", |_| tree::files(&snapshots).len() == 2);
    forget.kill();
    restic.run(&["unlock", "--remove-all"]);
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);

    age(&setup.store(), 31);
    restic.run(&["forget", "--keep-last", "1", "--prune"]);
    assert_eq!(restic.snapshots(), 1);
    restic.run(&["check", "--read-data"]);
    restic.assert_restores(&source);
    gateway.stop();
}

#[test]
fn the_newest_restic_ends_with_the_reason() {
    let gateway = Setup::new().mount("/", "restic", POLICY).start();
    let url = gateway.repository("", "/safe/");
    let check = "the newest restic with a repository that is retained";
    let Some(restic) = Restic::find_as(NEWEST, check, url) else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "text").unwrap();
    restic.run(&["init"]);
    for _ in 0..2 {
        restic.run_in(folder.path(), &["backup", "file"]);
    }
    let (_, said) = restic.fails(&["forget", "--keep-last", "1"]);
    assert!(said.contains("403 Forbidden: retained: safe/snapshots/"), "{said}");
    assert_eq!(restic.snapshots(), 2);
    gateway.stop();
}

/// Tries everything that would remove or change a young blob.
fn nothing_removes(
    gateway: &Gateway,
    endpoint: &keepgate_tests::client::Endpoint,
    blob: Blob,
    path: &str,
) {
    let refused = endpoint.send("DELETE", path, &[], b"");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().starts_with("Forbidden: retained: "), "{}", refused.text());
    assert_eq!(endpoint.post(path, b"other bytes").status, 403);
    assert_eq!(endpoint.post(path, &blob.bytes()).status, 200, "the same bytes once more");
    assert_eq!(endpoint.get(path).body, blob.bytes());
    gateway.assert_alive();
}

#[test]
fn what_a_store_retains_no_mount_and_no_user_can_remove() {
    let rules = "policy = { quota = 1_000_000 }\n\
        [[mount.rule]]\nuser = \"admin\"\npolicy = {}\n";
    let setup = Setup::new().user("admin", "a").user("x", "x");
    let folder = setup.path("store");
    let lines = "path = \"store\"\nretain = \"1d\"\nretain_except = [\"**/locks/*\"]";
    let setup = setup.store_at(lines, &folder);
    let setup = setup.mount("/one", "restic", rules).mount("/two", "restic", "");
    let gateway = setup.start();
    let (admin, other) = (gateway.as_user("admin", "a"), gateway.as_user("x", "x"));
    let blob = Blob::new(1, 5000);
    let stored = store(&other, "/one/r/", blob);
    let seen_twice = stored.replace("/one/", "/two/");
    for endpoint in [&admin, &other] {
        nothing_removes(&gateway, endpoint, blob, &stored);
        nothing_removes(&gateway, endpoint, blob, &seen_twice);
    }
    let lock = stored.replace("/data/", "/locks/");
    let lock = lock.replace(&format!("/{}/", &blob.id()[..2]), "/");
    assert_eq!(other.post(&lock, &blob.bytes()).status, 200);
    assert_eq!(other.status("DELETE", &lock), 200);
    // A missing blob may be deleted, as ever.
    assert_eq!(admin.status("DELETE", &path("/one/r/", &Blob::new(2, 1).id())), 200);

    age(&folder, 2);
    assert_eq!(admin.status("DELETE", &stored), 200);
    assert_eq!(other.status("HEAD", &seen_twice), 404);
    gateway.stop();
}

#[test]
fn folders_and_users_have_times_of_their_own() {
    let rules = "\
        [[mount.rule]]\nfolder = \"kept\"\npolicy = { retain = \"10d\" }\n\
        [[mount.rule]]\nuser = \"x\"\npolicy = { retain = \"1d\" }\n";
    let setup = Setup::new().user("admin", "a").user("x", "x").mount("/", "restic", rules);
    let gateway = setup.start();
    let (admin, other) = (gateway.as_user("admin", "a"), gateway.as_user("x", "x"));
    let blob = Blob::new(1, 5000);
    for repository in ["/kept/", "/free/"] {
        store(&admin, repository, blob);
    }
    let (kept, free) = (path("/kept/", &blob.id()), path("/free/", &blob.id()));
    nothing_removes(&gateway, &admin, blob, &kept);
    nothing_removes(&gateway, &other, blob, &kept);
    nothing_removes(&gateway, &other, blob, &free);
    age(&setup.store(), 2);
    nothing_removes(&gateway, &other, blob, &kept);
    assert_eq!(other.status("DELETE", &free), 200);
    age(&setup.store(), 11);
    assert_eq!(other.status("DELETE", &kept), 200);
    store(&admin, "/free/", blob);
    assert_eq!(admin.status("DELETE", &free), 200);
    gateway.stop();
}

/// The gateway keeps what its clock showed, and goes on from there if the machine's clock is far from it.
#[test]
fn a_clock_that_jumped_while_the_gateway_was_down_frees_nothing() {
    let setup = Setup::new().mount("/", "restic", POLICY);
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 5000);
    let stored = store(&client, "/r/", blob);
    let kept = setup.path("state/clock");
    gateway.eventually("the clock is kept", |_| kept.exists());
    assert_eq!(gateway.status()["clock"]["behind_seconds"], 0);
    assert!(gateway.metric("keepgate_clock_behind_seconds") < 60.0);
    gateway.stop();

    // As if the machine came back with its clock years ahead, 40 days after the upload.
    age(&setup.store(), 40);
    fs::write(&kept, "2020-02-03T04:05:06Z\n").unwrap();
    let gateway = setup.start();
    let warning = "this machine's clock is";
    assert!(gateway.program.stderr.text().contains(warning), "{}", gateway.program.stderr.text());
    nothing_removes(&gateway, &gateway.endpoint(), blob, &stored);
    let behind = gateway.status()["clock"]["behind_seconds"].as_u64().unwrap();
    assert!(behind > 6 * 365 * 86_400, "{behind}");
    assert!(gateway.metric("keepgate_clock_behind_seconds") > 6.0 * 365.0 * 86_400.0);
    gateway.stop();

    fs::write(&kept, "noon").unwrap();
    let said = tools::run(setup.command()).fails_with(1);
    assert!(said.contains("clock should be a time such as"), "{said}");
    // The operator knows that the machine's clock is right.
    fs::remove_file(&kept).unwrap();
    let gateway = setup.start();
    assert_eq!(gateway.endpoint().status("DELETE", &stored), 200);
    gateway.stop();
}

#[test]
fn what_makes_no_sense_is_refused_by_its_place() {
    for (place, mount, message) in [
        ("", "policy = { retain = \"30d\", append_only = true }", "has both `append_only`"),
        ("", "policy = { retain = \"0s\" }", "must be longer than zero"),
        ("", "policy = { retain = 30 }", "policy.retain"),
        ("", "policy = { retain = \"30d\", except = [\"[\"] }", "pattern \"[\""),
        ("retain_except = [\"a\"]", "", "`retain_except` needs `retain`"),
        ("retain = \"1d\"\nretain_except = [\"[\"]", "", "retain_except: pattern \"[\""),
        (
            "",
            "[[mount.rule]]\nfolder = \"a\"\npolicy = { retain = \"1d\", read_only = true }",
            "is a `quota`, or `retain`",
        ),
    ] {
        let setup = Setup::new();
        let folder = setup.path("store");
        let setup = setup.store_at(&format!("path = \"store\"\n{place}"), &folder);
        let setup = setup.mount("/", "restic", mount);
        setup.write();
        let said = tools::run(setup.check_command()).fails_with(1);
        assert!(
            said.contains(message) && said.contains("keepgate.toml:"),
            "{place} {mount}: {said}"
        );
    }
}
