//! Disks that come and go below a running gateway, and file systems that lack what local disks have.

use std::fs;

use keepgate_tests::data::Blob;
use keepgate_tests::fault::{Strace, Tmpfs};
use keepgate_tests::gateway::{Gateway, Setup};
use rustix::mount::{UnmountFlags, unmount};

use super::{assert_holds, assert_no_leftovers};
use crate::{path, store};

const AVAILABLE: &str = "keepgate_store_available{store=\"main\"}";

/// Unmounts what nobody uses; fails if the gateway holds anything open there.
fn unmount_idle(gateway: &Gateway, setup: &Setup) {
    gateway.eventually("the disk is idle", |_| {
        unmount(setup.store().as_path(), UnmountFlags::empty()).is_ok()
    });
}

#[test]
fn a_disk_may_be_mounted_later_unmounted_when_idle_and_put_back() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 300_000);
    let mount = || Tmpfs::mount("a disk that comes and goes", &setup.store(), "size=16m");
    let Some(disk) = mount() else { return };
    store(&client, "/r/", blob);
    assert!(setup.store().join("r/data").exists());
    assert_eq!(gateway.metric(AVAILABLE), 1.0);
    let status = gateway.status();
    let shown = &status["stores"]["main"];
    assert_eq!(shown["file_system"], "tmpfs");
    assert_eq!(shown["mount_point"], true);
    assert!(shown["free_bytes"].as_u64().is_some_and(|free| free <= 16 << 20), "{shown}");

    unmount_idle(&gateway, &setup);
    std::mem::forget(disk);
    assert!(!setup.store().join("r").exists(), "what was acknowledged is below the mount point");
    let refused = |what: &str| {
        for method in ["GET", "HEAD", "DELETE"] {
            assert_eq!(client.status(method, &path("/r/", &blob.id())), 503, "{method} {what}");
        }
        let reply = client.post(&path("/r/", &blob.id()), &blob.bytes());
        assert_eq!(reply.status, 503, "{what}: {}", reply.text());
        assert_eq!(client.status("POST", "/new/?create=true"), 503, "{what}");
        assert_eq!(gateway.metric(AVAILABLE), 0.0, "{what}");
        assert_eq!(fs::read_dir(setup.store()).unwrap().count(), 0, "{what}");
    };
    refused("unmounted");
    gateway.reload();
    refused("after SIGHUP");
    let log = gateway.program.stderr.text();
    assert_eq!(log.matches("store unavailable").count(), 1, "{log}");

    let Some(_again) = mount() else { panic!("mounting worked before") };
    store(&client, "/r/", blob);
    assert_holds(&setup, &client, "/r/", &[blob]);
    assert_eq!(gateway.metric(AVAILABLE), 1.0);
    let log = gateway.program.stderr.text();
    assert_eq!(log.matches("store available again").count(), 1, "{log}");
    gateway.stop();
}

#[test]
fn a_folder_that_vanished_is_not_made_again_and_one_put_in_its_place_is_the_store() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 5000);
    let blob_path = store(&client, "/r/", blob);
    let aside = setup.path("aside");
    fs::rename(setup.store(), &aside).unwrap();
    for method in ["GET", "DELETE"] {
        assert_eq!(client.status(method, &blob_path), 503, "{method}");
    }
    assert_eq!(client.post(&blob_path, &blob.bytes()).status, 503);
    assert_eq!(client.status("POST", "/r/?create=true"), 503);
    assert_eq!(gateway.metric(AVAILABLE), 0.0);
    assert!(!setup.store().exists());
    fs::create_dir(setup.store()).unwrap();
    let new = Blob::new(2, 5000);
    store(&client, "/r/", new);
    assert_holds(&setup, &client, "/r/", &[new]);
    // And back.
    fs::rename(setup.store(), setup.path("other")).unwrap();
    fs::rename(&aside, setup.store()).unwrap();
    assert_holds(&setup, &client, "/r/", &[blob]);
    assert_no_leftovers(&setup);
    gateway.stop();
}

/// Where a file system cannot sync folders, it says so in many ways; a disk says `EIO`.
#[test]
fn a_folder_that_cannot_be_synced_is_reported_once_and_a_broken_disk_is_not_taken_for_one() {
    let errors = [
        ("EINVAL", 200),
        ("EOPNOTSUPP", 200),
        ("ENOSYS", 200),
        ("ENOTTY", 200),
        ("ENOENT", 200),
        ("EACCES", 200),
        ("EPERM", 200),
        ("EREMOTEIO", 200),
        ("EIO", 500),
    ];
    for (error, expected) in errors {
        let setup = Setup::restic();
        let gateway = setup.start();
        let client = gateway.endpoint();
        assert_eq!(client.post("/r/?create=true", b"").status, 200);
        let (first, second) = (Blob::new(1, 10), Blob::new(2, 300_000));
        for blob in [first, second] {
            let inject = format!("fsync:error={error}:when=2");
            let check = "folders that cannot be synced";
            let Some(strace) = Strace::attach(check, &gateway.program, &inject) else { return };
            let reply = client.post(&path("/r/", &blob.id()), &blob.bytes());
            strace.detach_after_failures();
            assert_eq!(reply.status, expected, "{error}");
        }
        let log = gateway.program.stderr.text();
        let reported = usize::from(expected == 200);
        assert_eq!(log.matches("cannot sync folders").count(), reported, "{error}: {log}");
        assert_holds(&setup, &client, "/r/", &[first, second]);
        gateway.stop();
    }
}

/// Each optional step of an upload fails with each error, and the upload takes the long way.
#[test]
fn optional_steps_may_fail_with_any_error() {
    let steps = ["linkat", "renameat2", "flock", "utimensat", "fadvise64"];
    for error in ["EIO", "ENOENT", "EINVAL", "EACCES", "EPERM", "ENOSYS", "EREMOTEIO", "ENOTTY"] {
        let setup = Setup::restic();
        let gateway = setup.start();
        let client = gateway.endpoint();
        assert_eq!(client.post("/r/?create=true", b"").status, 200);
        let mut all = Vec::new();
        for (seed, step) in (1..).zip(steps) {
            let blob = Blob::new(seed, 3 << 20);
            let inject = format!("{step}:error={error}");
            let check = "optional steps that fail";
            let Some(strace) = Strace::attach(check, &gateway.program, &inject) else { return };
            let reply = client.post(&path("/r/", &blob.id()), &blob.bytes());
            strace.detach();
            assert_eq!(reply.status, 200, "{inject}: {}", reply.text());
            all.push(blob);
        }
        assert_holds(&setup, &client, "/r/", &all);
        assert_no_leftovers(&setup);
        gateway.stop();
    }
}
