//! What can go wrong only on a disk: links, special files, leftovers, modes, other programs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::{BodyError, Condition, Part, PutOptions, StoreError};
use rustix::fs::{CWD, FlockOperation, Mode};
use tempfile::TempDir;

fn open(root: &Path) -> Store {
    Arc::new(DiskStore::open(root, DiskOptions::default()).unwrap())
}

fn open_with(root: &Path, features: Features) -> Store {
    Arc::new(DiskStore::open(root, DiskOptions { features, ..DiskOptions::default() }).unwrap())
}

fn named() -> Features {
    Features { unnamed_files: false, ..Features::default() }
}

/// Both ways of resolving names.
fn resolvers() -> [Features; 2] {
    [Features::default(), Features { openat2: false, ..Features::default() }]
}

/// All files below a folder including hidden ones, except locks.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name() != Some("lock".as_ref()) {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

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
        [mode("."), mode(".keepgate"), mode("a"), mode("a/blob")]
    };
    // The test cannot set the umask, so it is taken into account.
    let probe = TempDir::new().unwrap();
    let probe = probe.path().join("probe");
    fs::create_dir(&probe).unwrap();
    let umask = 0o777 & !fs::metadata(&probe).unwrap().mode();
    assert_eq!(
        modes(DiskOptions::default()).await,
        [0o700, 0o700, 0o700, 0o600].map(|mode| mode & !umask)
    );
    let group = modes(DiskOptions::default().group_accessible()).await;
    assert_eq!(group, [0o770, 0o770, 0o770, 0o660].map(|mode| mode & !umask));
    for unnamed_files in [true, false] {
        let features = Features { unnamed_files, ..Features::default() };
        let options = DiskOptions { features, file_mode: 0o644, ..DiskOptions::default() };
        assert_eq!(modes(options).await[3], 0o644 & !umask);
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
    assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
    let outcome = store.put(&key("a"), "x".into_body(), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_folder_removed_during_an_upload_is_an_error_and_the_next_upload_works() {
    for dir in places() {
        let store = open(dir.path());
        store.prepare(&[folder("a")]).await.unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let (begun, waiting) = tokio::sync::oneshot::channel::<()>();
        let late = async move {
            begun.send(()).unwrap();
            receiver.await.unwrap();
            Ok(Bytes::from("late"))
        };
        let body = keepgate_store::Body::from_stream(None, futures_util::stream::once(late));
        let upload = tokio::spawn({
            let store = store.clone();
            async move { store.put(&key("a/b"), body, PutOptions::default()).await }
        });
        waiting.await.unwrap();
        fs::remove_dir(dir.path().join("a")).unwrap();
        sender.send(()).unwrap();
        let outcome = upload.await.unwrap();
        assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
        put(&store, "a/b", &bytes(1, 1)).await;
        assert_eq!(files(dir.path()), [dir.path().join("a/b")]);
    }
}

/// Waits until only these files are there, because the thread that held a dropped upload releases it
/// a moment later.
async fn only(root: &Path, expected: &[PathBuf]) {
    let settled = async {
        while files(root) != expected {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), settled).await;
    assert!(outcome.is_ok(), "left: {:?}", files(root));
}

#[tokio::test]
async fn failed_and_dropped_uploads_leave_no_file() {
    let mut all_seen = Vec::new();
    let ways = places().into_iter().map(|dir| (dir, Features::default()));
    for (dir, features) in ways.chain([(TempDir::new().unwrap(), named())]) {
        let store = open_with(dir.path(), features);
        put(&store, "a/old", &bytes(10, 1)).await;
        let old = [dir.path().join("a/old")];
        let mut seen = BTreeSet::new();
        for name in ["a/new", "a/old", "b/c/new"] {
            for count in [0, 1, 5, 9] {
                let (body, taken) = stalling((0..count).map(|seed| bytes(50_000, seed)).collect());
                let blob = key(name);
                let mut upload = store.put(&blob, body, PutOptions::default());
                while taken.load(Ordering::Relaxed) < count {
                    let turn = tokio::time::timeout(Duration::from_millis(1), &mut upload).await;
                    assert!(turn.is_err());
                }
                seen.insert(files(dir.path()).len());
                drop(upload);
                only(dir.path(), &old).await;
            }
            // A failure leaves nothing, at once.
            let outcome =
                store.put(&key(name), broken(&bytes(400_000, 1)), PutOptions::default()).await;
            assert!(matches!(outcome, Err(StoreError::Body(BodyError::TimedOut))));
            assert_eq!(files(dir.path()), old);
            let outcome =
                store.put(&key(name), chunked(&bytes(400_000, 1), 9999), verified(b"")).await;
            assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })));
            assert_eq!(files(dir.path()), old);
        }
        let outcome = store.put(&key("a/old"), "x".into_body(), when(Condition::Absent)).await;
        assert!(outcome.is_err());
        assert_eq!(files(dir.path()), old);
        all_seen.push(seen);
    }
    // At least one of them had unfinished files to leave behind.
    assert!(all_seen.iter().any(|seen| seen.contains(&2)), "{all_seen:?}");
}

#[tokio::test]
async fn opening_sweeps_what_dead_processes_left_and_spares_live_ones() {
    let dir = TempDir::new().unwrap();
    let living = open_with(dir.path(), named());
    let (body, taken) = stalling((0..9).map(|seed| bytes(50_000, seed)).collect());
    let blob = key("a");
    let mut upload = living.put(&blob, body, PutOptions::default());
    while taken.load(Ordering::Relaxed) < 9 {
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut upload).await.is_err());
    }
    let unfinished = files(dir.path());
    assert_eq!(unfinished.len(), 1);

    // One process was killed; another one, simulated by our lock, is alive.
    let tmp = dir.path().join(".keepgate/tmp");
    for name in ["dead", "foreign"] {
        fs::create_dir(tmp.join(name)).unwrap();
        fs::write(tmp.join(name).join("upload"), b"half").unwrap();
        fs::write(tmp.join(name).join("lock"), b"").unwrap();
    }
    let lock = fs::File::open(tmp.join("foreign/lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    // A sweep touches neither blobs nor other folders of the same names.
    fs::create_dir_all(dir.path().join("tmp/x")).unwrap();
    fs::write(dir.path().join("tmp/x/upload"), b"blob").unwrap();
    fs::write(dir.path().join("tmp/x/lock"), b"blob").unwrap();
    fs::write(dir.path().join(".keepgate/state"), b"").unwrap();

    let other = open(dir.path());
    assert!(!tmp.join("dead").exists());
    assert!(tmp.join("foreign/upload").exists());
    assert!(unfinished[0].exists());
    assert!(dir.path().join(".keepgate/state").exists());
    assert_eq!(names(&other, "tmp", true).await, ["tmp/x/lock", "tmp/x/upload"]);

    drop(lock);
    drop(other);
    let again = open(dir.path());
    assert!(!tmp.join("foreign").exists());
    drop(upload);
    drop((living, again));
    only(&tmp, &[]).await;
}

#[tokio::test]
async fn a_commit_in_progress_finishes_without_its_caller() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut unfinished = 0;
    for round in 0..200 {
        let key = key(&format!("blob{round}"));
        let blob = bytes(1000, round);
        // In memory, so that the first poll starts the commit, and nobody waits for the result.
        let mut upload = Box::pin(store.put(&key, blob.clone().into_body(), verified(&blob)));
        let turn = futures_util::future::poll_immediate(&mut upload).await;
        unfinished += usize::from(turn.is_none());
        drop(upload);
    }
    assert!(unfinished > 0, "every upload finished at once, so nothing was tested");
    let expected: Vec<_> = (0..200).map(|round| dir.path().join(format!("blob{round}"))).collect();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    only(dir.path(), &sorted).await;
    for (round, path) in expected.iter().enumerate() {
        assert_eq!(fs::read(path).unwrap(), bytes(1000, round));
    }
}

#[tokio::test]
async fn a_file_that_shrinks_is_an_error_and_a_replaced_one_is_read_to_its_end() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let blob = bytes(1_000_000, 1);
    put(&store, "blob", &blob).await;

    let mut body = store.get(&key("blob"), Part::Whole).await.unwrap().body;
    let first = body.chunk().await.unwrap().unwrap();
    put(&store, "blob", &bytes(10, 2)).await;
    let rest = body.collect(u64::MAX).await.unwrap();
    assert_eq!([first, rest].concat(), blob);

    put(&store, "blob", &blob).await;
    for length in [0, 1, 500_000, 999_999] {
        fs::write(dir.path().join("blob"), &blob).unwrap();
        let mut body = store.get(&key("blob"), Part::Whole).await.unwrap().body;
        body.chunk().await.unwrap().unwrap();
        fs::File::options()
            .write(true)
            .open(dir.path().join("blob"))
            .unwrap()
            .set_len(length)
            .unwrap();
        match body.collect(u64::MAX).await {
            Err(BodyError::Io(error)) => assert!(error.to_string().contains("shorter"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn uncached_blobs_are_read_too() {
    let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let store = open(dir.path());
    let blob = bytes(3_000_001, 1);
    put(&store, "blob", &blob).await;
    let file = fs::File::open(dir.path().join("blob")).unwrap();
    for offset in [0, 1_000_000] {
        // Evicts clean pages: all of them, or those after an offset.
        rustix::fs::fadvise(&file, offset, None, rustix::fs::Advice::DontNeed).unwrap();
        assert_eq!(read(&store, "blob").await, blob);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_survives_changes_by_other_programs() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for folder in 0..20 {
        for blob in 0..20 {
            let path = dir.path().join(format!("data/{folder:02}/{blob:02}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let churn = std::thread::spawn({
        let (stop, root) = (Arc::clone(&stop), dir.path().join("data"));
        move || {
            while !stop.load(Ordering::Relaxed) {
                for index in 0..20 {
                    let folder = root.join(format!("{index:02}-passing"));
                    fs::create_dir(&folder).unwrap();
                    fs::write(folder.join("passing"), b"").unwrap();
                    fs::write(root.join(format!("{index:02}/passing")), b"").unwrap();
                    symlink("/", root.join(format!("{index:02}/link"))).unwrap();
                    // What was a folder becomes a link, then disappears.
                    fs::remove_dir_all(&folder).unwrap();
                    symlink("/", &folder).unwrap();
                    fs::remove_file(&folder).unwrap();
                    fs::remove_file(root.join(format!("{index:02}/passing"))).unwrap();
                    fs::remove_file(root.join(format!("{index:02}/link"))).unwrap();
                }
            }
        }
    });
    for round in 0..200 {
        let entries = entries(&store, "data", true, 1 + round % 50).await.unwrap();
        assert!(entries.is_sorted_by(|one, other| one.key < other.key));
        let lasting = entries.iter().filter(|entry| !entry.key.contains("passing"));
        assert_eq!(lasting.count(), 400);
    }
    stop.store(true, Ordering::Relaxed);
    churn.join().unwrap();
}

#[tokio::test]
async fn metadata_may_be_large_up_to_a_limit() {
    let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let store = open(dir.path());
    let with = |length| PutOptions {
        metadata: vec![("key".to_owned(), "v".repeat(length))],
        ..PutOptions::default()
    };
    let info = store.put(&key("blob"), "x".into_body(), with(3000)).await.unwrap().info;
    assert_eq!(info.metadata[0].1.len(), 3000);
    assert_eq!(store.head(&key("blob")).await.unwrap(), info);
    let (body, read_of) = watched(&bytes(10, 1));
    let outcome = store.put(&key("large"), body, with(70_000)).await;
    assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{outcome:?}");
    assert!(!read_of.load(Ordering::Relaxed), "the body was read");
    assert_eq!(names(&store, "", true).await, ["blob"]);
    // Another program's attribute is no reason to withhold the bytes.
    let file = fs::File::open(dir.path().join("blob")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, "user.keepgate", b"{", flags).unwrap();
    assert_eq!(read(&store, "blob").await, "x");
    assert!(store.head(&key("blob")).await.unwrap().metadata.is_empty());
}

#[tokio::test]
async fn a_blob_changed_in_place_has_another_etag() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    put(&store, "blob", &bytes(10, 1)).await;
    let before = store.head(&key("blob")).await.unwrap();
    let path = dir.path().join("blob");
    let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    file.write_all(b"!").unwrap();
    let mut all = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut all).unwrap();
    let after = store.head(&key("blob")).await.unwrap();
    assert_ne!(before.etag, after.etag);
    assert_eq!(read(&store, "blob").await, all);
    // Changing the mode does not change the blob.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(store.head(&key("blob")).await.unwrap().etag, after.etag);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_root_keep_each_others_promises() {
    for dir in places() {
        let stores = [open(dir.path()), open(dir.path())];
        for round in 0..50 {
            let blob = key(&format!("f{round}/blob"));
            let uploads = (0..6).map(|index| {
                let (store, key) = (stores[index % 2].clone(), blob.clone());
                let body = chunked(&bytes(10_000, index), 1000);
                tokio::spawn(async move { store.put(&key, body, when(Condition::Absent)).await })
            });
            let outcomes = futures_util::future::join_all(uploads).await;
            let won: Vec<_> =
                (0..6).filter(|index| matches!(outcomes[*index], Ok(Ok(_)))).collect();
            assert_eq!(won.len(), 1, "{outcomes:?}");
            assert_eq!(read(&stores[0], blob.as_str()).await, bytes(10_000, won[0]));
        }
        assert_eq!(files(dir.path()).len(), 50);
    }
}

/// Root may read everything, so the test runs itself again without that capability.
#[tokio::test]
async fn unreadable_files_are_errors_and_never_missing() {
    let dir = TempDir::new().unwrap();
    let locked = dir.path().join("b/locked");
    fs::create_dir_all(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&locked).is_ok() {
        let name = "unreadable_files_are_errors_and_never_missing";
        assert!(std::env::var_os("KEEPGATE_TEST_AGAIN").is_none(), "setpriv did not help");
        let mut again = Command::new("setpriv");
        again.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]);
        again.arg(std::env::current_exe().unwrap()).args(["--exact", name]);
        match again.env("KEEPGATE_TEST_AGAIN", "1").output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => eprintln!("SKIPPED {name}: setpriv: {error}"),
        }
        return;
    }
    for features in resolvers() {
        let store = open_with(dir.path(), features);
        for index in 0..600 {
            fs::write(dir.path().join(format!("a{index:03}")), b"").unwrap();
        }
        let refused = |outcome: Result<(), StoreError>| {
            let Err(StoreError::Io { source, path, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(path.starts_with(&locked), "{}", path.display());
        };
        let blob = key("b/locked/blob");
        refused(store.head(&blob).await.map(drop));
        refused(store.get(&blob, Part::Whole).await.map(drop));
        refused(store.delete(&blob).await.map(drop));
        refused(store.put(&blob, "x".into_body(), PutOptions::default()).await.map(drop));
        refused(store.prepare(&[folder("b/locked/c")]).await);
        refused(entries(&store, "b/locked", true, 1).await.map(drop));
        // A listing that reaches it fails there, and stays failed.
        let mut listing = store.list(&folder(""), true).await.unwrap();
        let mut found = 0;
        let failure = loop {
            match listing.next(100).await {
                Ok(some) => found += some.len(),
                Err(failure) => break failure,
            }
            assert!(found <= 600);
        };
        refused(Err(failure));
        assert!(listing.next(100).await.is_err(), "the listing ends as if it were whole");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
}
