//! Full, read-only and other file systems below a store. The tests mount them, which requires root;
//! otherwise each test reports that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::{Condition, PutOptions, StoreError};
use tempfile::TempDir;

/// A mount that is removed at the end of the test.
struct Mount(PathBuf);

impl Mount {
    /// None, and a message, if mounting is not permitted.
    fn new(test: &str, arguments: &[&str], at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let output = Command::new("mount").args(arguments).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                eprintln!("SKIPPED {test}: mount {arguments:?}: {}", text.trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED {test}: mount: {error}");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.unwrap().success() || std::thread::panicking());
    }
}

fn open(root: &Path, unnamed_files: bool) -> Store {
    let features = Features { unnamed_files, ..Features::default() };
    Arc::new(DiskStore::open(root, DiskOptions { features, ..DiskOptions::default() }).unwrap())
}

async fn comes_true(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

fn unfinished(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root.join(".keepgate/tmp")) else { return 0 };
    let mut count = 0;
    for entry in entries {
        let inside = fs::read_dir(entry.unwrap().path()).unwrap();
        count += inside.filter(|file| file.as_ref().unwrap().file_name() != "lock").count();
    }
    count
}

#[tokio::test]
async fn a_full_disk_stores_nothing_and_reports_no_space() {
    for unnamed in [true, false] {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("small");
        let arguments = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "none"];
        let Some(mount) = Mount::new("a_full_disk", &arguments, &root) else { return };
        let store = open(&root, unnamed);
        put(&store, "a/blob", &bytes(300_000, 1)).await;
        let large = bytes(2_000_000, 2);
        for name in ["a/blob", "a/new", "b/c/new"] {
            for body in [chunked(&large, 65_536), large.clone().into_body()] {
                let outcome = store.put(&key(name), body, PutOptions::default()).await;
                assert!(matches!(outcome, Err(StoreError::NoSpace)), "{outcome:?}");
                assert_eq!(unfinished(&root), 0);
            }
        }
        let parts = vec![key("a/blob"); 4];
        let outcome = store.concat(&key("a/new"), &pieces(&parts), PutOptions::default()).await;
        assert!(matches!(outcome, Err(StoreError::NoSpace)), "{outcome:?}");
        assert_eq!(names(&store, "", true).await, ["a/blob"]);
        assert_eq!(read(&store, "a/blob").await, bytes(300_000, 1));
        // The space was released.
        put(&store, "a/more", &bytes(500_000, 3)).await;

        // First no inodes are left for files, then none for folders.
        let mut index = 0;
        let outcome = loop {
            let name = format!("a/tiny{index}");
            let outcome = store.put(&key(&name), "x".into_body(), PutOptions::default()).await;
            if outcome.is_err() {
                break outcome;
            }
            index += 1;
        };
        assert!(matches!(outcome, Err(StoreError::NoSpace)), "{outcome:?}");
        let outcome = store.prepare(&[folder("x/y/z"), folder("v/w")]).await;
        assert!(matches!(outcome, Err(StoreError::NoSpace)), "{outcome:?}");
        assert_eq!(unfinished(&root), 0);

        // A full store can be opened, read and deleted from.
        drop(store);
        let store = open(&root, unnamed);
        assert_eq!(read(&store, "a/blob").await, bytes(300_000, 1));
        for index in 0..3 {
            assert!(store.delete(&key(&format!("a/tiny{index}"))).await.unwrap().is_some());
        }
        put(&store, "a/again", &bytes(1, 1)).await;
        drop(store);
        drop(mount);
    }
}

#[tokio::test]
async fn a_read_only_disk_can_be_read_and_refuses_writes() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    let Some(mount) = Mount::new("a_read_only_disk", &["-t", "tmpfs", "none"], &root) else {
        return;
    };
    put(&open(&root, true), "a/blob", &bytes(10, 1)).await;
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&root).status();
    assert!(status.unwrap().success());
    for unnamed in [true, false] {
        let store = open(&root, unnamed);
        assert_eq!(read(&store, "a/blob").await, bytes(10, 1));
        assert_eq!(names(&store, "", true).await, ["a/blob"]);
        let outcomes = [
            store.put(&key("a/blob"), "x".into_body(), PutOptions::default()).await.map(drop),
            store.put(&key("new/x"), "x".into_body(), PutOptions::default()).await.map(drop),
            store.delete(&key("a/blob")).await.map(drop),
            store.prepare(&[folder("new")]).await,
        ];
        for outcome in outcomes {
            let Err(StoreError::Io { action, path, source }) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            assert!(path.starts_with(&root) && !action.is_empty(), "{action} {}", path.display());
        }
    }
    drop(mount);
}

/// Operations that must work in a folder on another mount and leave nothing behind there.
async fn works(store: &Store, root: &Path, mounted: &str) {
    let at = |name: &str| format!("{mounted}/{name}");
    let first = bytes(300_000, 1);
    let options =
        PutOptions { metadata: vec![("a".to_owned(), "b".to_owned())], ..verified(&first) };
    for name in ["blob", "deep/er/blob"] {
        let blob = key(&at(name));
        let absent = PutOptions { condition: Condition::Absent, ..options.clone() };
        let info = store.put(&blob, chunked(&first, 65_536), absent.clone()).await.unwrap().info;
        assert_eq!(info.metadata, options.metadata);
        let outcome = store.put(&blob, chunked(&first, 65_536), absent).await;
        assert!(matches!(outcome, Err(StoreError::AlreadyExists)));
        for seed in 2..4 {
            let next = bytes(200_000, seed);
            let options = PutOptions { sha256: None, ..options.clone() };
            let info = store.put(&blob, chunked(&next, 65_536), options).await.unwrap().info;
            assert_eq!(info, store.head(&blob).await.unwrap());
            assert_eq!(info.metadata.len(), 1);
            assert_eq!(read(store, blob.as_str()).await, next);
        }
        put(store, "outside", &first).await;
        let parts = [key("outside"), blob.clone()];
        store.concat(&blob, &pieces(&parts), PutOptions::default()).await.unwrap();
        assert_eq!(store.head(&blob).await.unwrap().size, 500_000);
    }
    let (body, taken) = stalling((0..9).map(|seed| bytes(50_000, seed)).collect());
    let name = at("dropped");
    let upload = tokio::spawn({
        let store = store.clone();
        async move { store.put(&key(&name), body, PutOptions::default()).await }
    });
    while taken.load(Ordering::Relaxed) < 9 {
        tokio::task::yield_now().await;
    }
    upload.abort();
    assert!(upload.await.is_err());
    let outcome = store.put(&key(&at("x")), broken(&first), PutOptions::default()).await;
    assert!(outcome.is_err());
    // The thread that held the dropped upload releases it a moment later.
    comes_true(|| unfinished(root) + unfinished(&root.join(mounted)) == 0).await;
    assert_eq!(names(store, mounted, true).await, [at("blob"), at("deep/er/blob")]);
}

#[tokio::test]
async fn a_folder_may_be_another_file_system_or_a_bind_mount() {
    for unnamed in [true, false] {
        let dir = TempDir::new().unwrap();
        let (root, elsewhere) = (dir.path().join("root"), dir.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        let test = "a_folder_may_be_another_file_system";
        let other = root.join("users/other");
        let Some(_other) = Mount::new(test, &["-t", "tmpfs", "none"], &other) else { return };
        let arguments = ["--bind", elsewhere.to_str().unwrap()];
        let Some(bound) = Mount::new(test, &arguments, &root.join("bound")) else { return };
        let store = open(&root, unnamed);
        works(&store, &root, "users/other").await;
        works(&store, &root, "bound").await;
        // Nothing is left that would have to be swept, or that would keep the mount busy.
        for mounted in [&other, &root.join("bound")] {
            comes_true(|| !mounted.join(".keepgate").exists()).await;
        }
        // Otherwise the store holds something open on an idle mount. (Commands started by other
        // tests inherit open files for a moment.)
        let umount = || Command::new("umount").arg(root.join("bound")).output().unwrap();
        comes_true(|| umount().status.success()).await;
        std::mem::forget(bound);
    }
}

/// A new file system in an image file, mounted at `root`.
fn made_with(test: &str, mkfs: &[&str], dir: &Path, root: &Path) -> Option<Mount> {
    let image = dir.join("image");
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    match Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image).output() {
        Ok(output) if output.status.success() => {
            Mount::new(test, &["-o", "loop", image.to_str().unwrap()], root)
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED {test}: {mkfs:?}: {}", text.trim());
            None
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: {}: {error}", mkfs[0]);
            None
        }
    }
}

/// Folders of different projects (as for quotas) are on one file system and one mount, yet nothing can
/// be renamed or linked between them.
#[tokio::test]
async fn a_folder_may_belong_to_another_project() {
    let test = "a_folder_may_be_another_project";
    let kinds = [["mkfs.xfs", "-q", "-s", "size=512"], ["mkfs.ext4", "-q", "-O", "project"]];
    for (unnamed, mkfs) in [true, false].into_iter().flat_map(|way| kinds.map(|kind| (way, kind))) {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        let Some(_mount) = made_with(test, &mkfs, dir.path(), &root) else { continue };
        let store = open(&root, unnamed);
        put(&store, "users/alice/first", &bytes(1, 1)).await;
        store.delete(&key("users/alice/first")).await.unwrap();
        let folder = root.join("users/alice");
        let changed = Command::new("chattr").args(["-p", "7", "+P"]).arg(&folder).output();
        if !changed.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED {test}: chattr cannot set a project on {mkfs:?}");
            continue;
        }
        // Make sure that the file system behaves as described.
        fs::write(root.join("probe"), b"").unwrap();
        let refused = rustix::fs::rename(root.join("probe"), folder.join("probe"));
        assert_eq!(refused, Err(rustix::io::Errno::XDEV));
        fs::remove_file(root.join("probe")).unwrap();
        works(&store, &root, "users/alice").await;
        comes_true(|| !folder.join(".keepgate").exists()).await;
        put(&store, "elsewhere", &bytes(300_000, 2)).await;
        put(&store, "elsewhere", &bytes(300_000, 3)).await;
        assert_eq!(read(&store, "elsewhere").await, bytes(300_000, 3));
    }
}

#[tokio::test]
async fn every_file_system_works() {
    let test = "every_file_system_will_do";
    for mkfs in [["mkfs.xfs", "-q"], ["mkfs.btrfs", "-q"], ["mkfs.ext4", "-q"]] {
        for unnamed in [true, false] {
            let dir = TempDir::new().unwrap();
            let root = dir.path().join("root");
            let Some(_mount) = made_with(test, &mkfs, dir.path(), &root) else { continue };
            if mkfs[0] == "mkfs.btrfs" {
                // Files cannot be renamed from one subvolume to another.
                let mut making = Command::new("btrfs");
                making.args(["-q", "subvolume", "create"]).arg(root.join("users"));
                assert!(making.status().unwrap().success());
            }
            let store = open(&root, unnamed);
            works(&store, &root, "users").await;
        }
    }
}

/// A copy of the disk made right after a call has returned is what a power cut would leave: it lacks
/// what the file system has not written yet.
#[tokio::test]
async fn acknowledged_blobs_survive_a_power_cut() {
    let test = "what_was_promised_survives_a_power_cut";
    let kinds: [&[&str]; 4] = [
        &["mkfs.xfs", "-q"],
        &["mkfs.btrfs", "-q"],
        &["mkfs.ext4", "-q"],
        &["mkfs.ext4", "-q", "-O", "^has_journal"],
    ];
    for mkfs in kinds {
        for unnamed in [true, false] {
            let dir = TempDir::new().unwrap();
            let root = dir.path().join("root");
            let Some(mount) = made_with(test, mkfs, dir.path(), &root) else { break };
            let store = open(&root, unnamed);
            let snapshot = |name: &str| {
                let mut copying = Command::new("cp");
                copying.arg("--sparse=always").arg(dir.path().join("image"));
                assert!(copying.arg(dir.path().join(name)).status().unwrap().success());
            };
            let content = bytes(100_000, 1);
            put(&store, "new/folder/blob", &content).await;
            snapshot("put");
            put(&store, "new/folder/blob", &bytes(50_000, 2)).await;
            snapshot("replaced");
            assert!(store.delete(&key("new/folder/blob")).await.unwrap().is_some());
            snapshot("deleted");
            let folders: Vec<_> = (0..20).map(|at| folder(&format!("ready/data/{at}"))).collect();
            store.prepare(&folders).await.unwrap();
            snapshot("prepared");
            // Another program's blob, not on the disk yet; then a client is told that it is stored.
            fs::create_dir(root.join("theirs")).unwrap();
            fs::write(root.join("theirs/blob"), &content).unwrap();
            let body = chunked(&content, 9999);
            let same = when(Condition::AbsentOrIdentical);
            store.put(&key("theirs/blob"), body, same).await.unwrap();
            snapshot("identical");
            let parts = [key("theirs/blob"), key("theirs/blob")];
            store
                .concat(&key("joined/blob"), &pieces(&parts), PutOptions::default())
                .await
                .unwrap();
            snapshot("joined");
            let (body, taken) = stalling((0..20).map(|seed| bytes(50_000, seed)).collect());
            let blob = key("unfinished");
            let mut upload = store.put(&blob, body, PutOptions::default());
            while taken.load(Ordering::Relaxed) < 20 {
                let turn = tokio::time::timeout(Duration::from_millis(1), &mut upload).await;
                assert!(turn.is_err());
            }
            put(&store, "last", &bytes(1, 1)).await;
            snapshot("unfinished");
            drop(upload);
            drop(store);
            drop(mount);

            let joined = [&content[..], &content[..]].concat();
            for (name, blob, expected) in [
                ("put", "new/folder/blob", Some(&content[..])),
                ("replaced", "new/folder/blob", Some(&bytes(50_000, 2)[..])),
                ("deleted", "new/folder/blob", None),
                ("prepared", "ready/data/19", None),
                ("identical", "theirs/blob", Some(&content[..])),
                ("joined", "joined/blob", Some(&joined[..])),
                ("unfinished", "last", Some(&bytes(1, 1)[..])),
            ] {
                let image = dir.path().join(name);
                if mkfs.contains(&"^has_journal") {
                    // What such a file system needs after a power cut. It exits with 1 if it
                    // repaired something.
                    let check = Command::new("e2fsck").arg("-fy").arg(&image).output().unwrap();
                    assert!(check.status.code().is_some_and(|code| code <= 1), "{check:?}");
                }
                let arguments = ["-o", "loop", image.to_str().unwrap()];
                let Some(mount) = Mount::new(test, &arguments, &root) else { panic!() };
                let found = fs::read(root.join(blob)).ok();
                assert!(found.as_deref() == expected, "{mkfs:?}, unnamed {unnamed}: {name}");
                if name == "prepared" {
                    assert_eq!(fs::read_dir(root.join("ready/data")).unwrap().count(), 20);
                }
                let store = open(&root, unnamed);
                assert_eq!(unfinished(&root), 0, "{mkfs:?}, unnamed {unnamed}: {name}");
                assert!(store.head(&key("unfinished")).await.is_err());
                // The sweep removed nothing that belongs to a blob.
                let found = fs::read(root.join(blob)).ok();
                assert!(found.as_deref() == expected, "{mkfs:?}, unnamed {unnamed}: {name}");
                put(&store, "after", &content).await;
                drop(store);
                drop(mount);
            }
        }
    }
}

#[tokio::test]
async fn a_file_system_without_attributes_stores_blobs_but_no_metadata() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    let Some(_mount) = Mount::new("without_attributes", &["-t", "ramfs", "none"], &root) else {
        return;
    };
    let probe = fs::File::create(root.join("probe")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::fsetxattr(&probe, "user.probe", b"", flags).is_ok() {
        eprintln!("SKIPPED without_attributes: this kernel's ramfs supports them");
        return;
    }
    let store = open(&root, true);
    put(&store, "a/blob", &bytes(100_000, 1)).await;
    assert_eq!(read(&store, "a/blob").await, bytes(100_000, 1));
    let options = PutOptions { content_type: Some("a/b".to_owned()), ..PutOptions::default() };
    let (body, read_of) = watched(&bytes(10, 1));
    let outcome = store.put(&key("a/other"), body, options).await;
    let Err(StoreError::Unsupported(text)) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("extended attributes"), "{text}");
    assert!(!read_of.load(Ordering::Relaxed), "the body was read");
    let outcome = store.check_metadata().await;
    assert!(matches!(outcome, Err(StoreError::Unsupported(_))), "{outcome:?}");
    open(&dir.path().join("with"), true).check_metadata().await.unwrap();
    assert_eq!(names(&store, "a", true).await, ["a/blob"]);
}
