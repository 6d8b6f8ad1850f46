//! Names and files: links, special files, hidden folders, modes, and the root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::{Condition, Part, PutOptions, StoreError};
use rustix::fs::{CWD, Mode};
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn a_blob_is_the_file_with_its_name() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    put(&store, "data/ab/blob", &bytes(1000, 1)).await;
    assert_eq!(fs::read(dir.path().join("data/ab/blob")).unwrap(), bytes(1000, 1));
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/one"), b"theirs").unwrap();
    assert_eq!(read(&store, "keys/one").await, "theirs");
    assert_eq!(names(&store, "", true).await, ["data/ab/blob", "keys/one"]);
}

#[tokio::test]
async fn files_and_folders_have_the_requested_modes() {
    let modes = |options: DiskOptions| async {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("made/root");
        let store: Store = Arc::new(DiskStore::open(&root, options).unwrap());
        put(&store, "a/blob", &bytes(1, 1)).await;
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
        [mode("."), mode("a"), mode("a/blob")]
    };
    // The test cannot set the umask, so it is taken into account.
    let probe = TempDir::new().unwrap();
    let probe = probe.path().join("probe");
    fs::create_dir(&probe).unwrap();
    let umask = 0o777 & !fs::metadata(&probe).unwrap().mode();
    assert_eq!(
        modes(DiskOptions::default()).await,
        [0o700, 0o700, 0o600].map(|mode| mode & !umask)
    );
    let group = modes(DiskOptions::default().group_accessible()).await;
    assert_eq!(group, [0o770, 0o770, 0o660].map(|mode| mode & !umask));
    for unnamed_files in [true, false] {
        let features = Features { unnamed_files, ..Features::default() };
        let options = DiskOptions { features, file_mode: 0o644, ..DiskOptions::default() };
        assert_eq!(modes(options).await[2], 0o644 & !umask);
    }
}

#[tokio::test]
async fn the_root_is_only_made_if_requested() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("a/b");
    let options = DiskOptions { create: false, ..DiskOptions::default() };
    let Err(StoreError::Io { path, .. }) = DiskStore::open(&root, options.clone()) else {
        panic!()
    };
    assert_eq!(path, root);
    assert!(!root.exists());
    open(&root);
    assert!(DiskStore::open(&root, options).is_ok());
    fs::write(dir.path().join("file"), b"").unwrap();
    assert!(DiskStore::open(dir.path().join("file"), DiskOptions::default()).is_err());
    // The root itself may be reached through a link.
    symlink(&root, dir.path().join("link")).unwrap();
    put(&open(&dir.path().join("link")), "blob", &bytes(1, 1)).await;
    assert!(root.join("blob").exists());
}

#[tokio::test]
async fn symbolic_links_are_never_followed() {
    for features in resolvers() {
        let outside = TempDir::new().unwrap();
        fs::write(outside.path().join("secret"), b"secret").unwrap();
        let dir = TempDir::new().unwrap();
        let store = open_with(dir.path(), features);
        put(&store, "folder/blob", &bytes(5, 1)).await;
        let link = |to: &Path, name: &str| symlink(to, dir.path().join(name)).unwrap();
        link(outside.path(), "out");
        link(&outside.path().join("secret"), "file");
        link(Path::new("folder"), "inside");
        link(Path::new("folder/blob"), "inner");
        link(Path::new("nowhere"), "dangling");
        link(Path::new(".."), "folder/up");
        let all = [
            "out/secret",
            "out/new",
            "file",
            "inside/blob",
            "inside/new",
            "inner",
            "dangling",
            "folder/up/folder/blob",
            "dangling/x",
            "out/deep/er",
        ];
        for name in all {
            let denied = |outcome: Result<(), StoreError>| {
                assert!(matches!(outcome, Err(StoreError::Denied(_))), "{name}: {outcome:?}");
            };
            denied(store.head(&key(name)).await.map(drop));
            denied(store.get(&key(name), Part::Whole).await.map(drop));
            denied(store.delete(&key(name)).await.map(drop));
            for condition in [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical] {
                denied(store.put(&key(name), "x".into_body(), when(condition)).await.map(drop));
            }
            let parts = [key(name)];
            denied(
                store
                    .concat(&key("joined"), &pieces(&parts), PutOptions::default())
                    .await
                    .map(drop),
            );
        }
        for name in ["out", "inside", "dangling", "folder/up", "out/x"] {
            let outcome = entries(&store, name, true, 10).await;
            assert!(matches!(outcome, Err(StoreError::Denied(_))), "{name}: {outcome:?}");
            let outcome = store.prepare(&[folder(name)]).await;
            assert!(matches!(outcome, Err(StoreError::Denied(_))), "{name}: {outcome:?}");
        }
        // A listing leaves them out.
        assert_eq!(names(&store, "", true).await, ["folder/blob"]);
        assert_eq!(names(&store, "", false).await, ["folder/"]);
        assert_eq!(files(outside.path()), [outside.path().join("secret")]);
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
        assert!(fs::symlink_metadata(dir.path().join("dangling")).unwrap().is_symlink());
    }
}

#[tokio::test]
async fn special_files_are_not_blobs_and_do_not_block() {
    for features in resolvers() {
        let dir = TempDir::new().unwrap();
        let store = open_with(dir.path(), features);
        rustix::fs::mknodat(
            CWD,
            dir.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        for name in ["fifo", "socket"] {
            let patience = Duration::from_secs(20);
            let waiting = tokio::time::timeout(patience, async {
                assert!(matches!(store.head(&key(name)).await, Err(StoreError::NotFound)));
                let outcome = store.get(&key(name), Part::Whole).await;
                assert!(matches!(outcome, Err(StoreError::NotFound)));
                assert!(store.delete(&key(name)).await.unwrap().is_none());
                for condition in
                    [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical]
                {
                    let outcome = store.put(&key(name), "x".into_body(), when(condition)).await;
                    assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{outcome:?}");
                }
            });
            waiting.await.unwrap();
            assert!(dir.path().join(name).exists());
        }
        assert!(names(&store, "", true).await.is_empty());
    }
}

#[tokio::test]
async fn hidden_folders_and_odd_names_are_not_listed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    put(&store, "a/b/blob", &bytes(1, 1)).await;
    fs::create_dir_all(dir.path().join("a/.keepgate/tmp")).unwrap();
    fs::write(dir.path().join("a/.keepgate/x"), b"").unwrap();
    fs::write(dir.path().join("a/b/.keepgate"), b"").unwrap();
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"a\xff");
    fs::create_dir(dir.path().join(odd)).unwrap();
    fs::write(dir.path().join(odd).join("x"), b"").unwrap();
    fs::write(dir.path().join("a").join(odd), b"").unwrap();
    // Longer than a key may be.
    let mut deep = dir.path().join("a");
    for _ in 0..6 {
        deep = deep.join("d".repeat(200));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("x"), b"").unwrap();
    assert_eq!(names(&store, "", true).await, ["a/b/blob"]);
    assert_eq!(names(&store, "", false).await, ["a/"]);
    let below = format!("a/{}/", "d".repeat(200));
    assert_eq!(names(&store, "a", false).await, ["a/b/".to_owned(), below]);
}

#[tokio::test]
async fn a_removed_root_is_not_an_empty_store() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    let store = open(&root);
    fs::remove_dir_all(&root).unwrap();
    let outcome = entries(&store, "", true, 1).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let outcome = store.put(&key("a"), "x".into_body(), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}
