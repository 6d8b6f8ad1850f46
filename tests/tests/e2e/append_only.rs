//! Blobs stay, whatever a client that has the password tries.

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::program::Program;
use keepgate_tests::restic::Restic;
use keepgate_tests::tree;

use crate::store;

const POLICY: &str = "policy = { append_only = true, except = [\"**/locks/*\"] }";

#[test]
fn restic_can_add_snapshots_but_not_forget_them() {
    let setup = Setup::new().mount("/", "restic", POLICY);
    let gateway = setup.start();
    let url = gateway.repository("", "/safe/");
    let Some(restic) = Restic::find("restic with an append-only repository", url) else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source);
    restic.run(&["init"]);
    for change in [false, true] {
        if change {
            tree::change(&source);
        }
        restic.run_in(folder.path(), &["backup", "source"]);
    }

    // restic retries many times; the first response is what matters.
    let arguments = ["forget", "--keep-last", "1", "--prune"];
    let mut forget = Program::start(restic.command(folder.path(), &arguments));
    let (_, refusal) = forget.stderr.wait_for(0, &["403"]);
    assert!(refusal.contains("snapshot"), "{refusal}");
    forget.kill();

    // It left its lock behind, which may be removed.
    let locks = || tree::files(&setup.store().join("safe/locks")).len();
    assert_eq!(locks(), 1);
    restic.run(&["unlock", "--remove-all"]);
    assert_eq!(locks(), 0);
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);
    gateway.stop();
}

#[test]
fn blobs_cannot_be_deleted_or_replaced() {
    let gateway = Setup::new().mount("/", "restic", POLICY).start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    assert_eq!(client.post("/r/config", b"one").status, 200);
    assert_eq!(client.post("/r/config", b"two").status, 403);
    assert_eq!(client.status("DELETE", "/r/config"), 403);
    assert_eq!(client.get("/r/config").text(), "one");

    let (blob, other) = (Blob::new(1, 5000), Blob::new(2, 5000));
    let path = store(&client, "/r/", blob);
    assert_eq!(client.post(&path, &blob.bytes()).status, 200, "the same bytes once more");
    let refused = client.post(&path, &other.bytes());
    assert_eq!(refused.status, 403, "other bytes under a taken name");
    assert_eq!(client.status("DELETE", &path), 403);
    assert_eq!(client.status("PUT", &path), 405);
    assert_eq!(client.get(&path).body, blob.bytes());

    for kind in ["index", "keys", "snapshots"] {
        let path = path.replace("/data/", &format!("/{kind}/"));
        assert_eq!(client.post(&path, &blob.bytes()).status, 200);
        let refused = client.send("DELETE", &path, &[], b"");
        assert_eq!(refused.status, 403, "{kind}");
        assert!(refused.text().starts_with("Forbidden"), "{}", refused.text());
    }
    // A missing blob is no exception.
    assert_eq!(client.status("DELETE", &format!("/r/data/{}", other.id())), 403);
    let lock = path.replace("/data/", "/locks/");
    assert_eq!(client.post(&lock, &blob.bytes()).status, 200);
    assert_eq!(client.status("DELETE", &lock), 200);
    assert_eq!(client.status("HEAD", &lock), 404);
    gateway.stop();
}

#[test]
fn a_read_only_mount_stores_nothing() {
    let setup = Setup::new().mount("/", "restic", "").mount(
        "/view",
        "restic",
        "policy = { read_only = true }",
    );
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 300);
    let path = store(&client, "/r/", blob);
    let view = format!("/view{path}");
    assert_eq!(client.get(&view).body, blob.bytes());
    assert_eq!(client.status("DELETE", &view), 403);
    let other = Blob::new(2, 300);
    assert_eq!(client.post(&format!("/view/r/data/{}", other.id()), &other.bytes()).status, 403);
    assert_eq!(client.post("/view/new/?create=true", b"").status, 403);
    assert!(!setup.store().join("new").exists());
    assert_eq!(client.status("HEAD", &path), 200);
    gateway.stop();
}
