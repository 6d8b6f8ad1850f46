//! Changes by other programs, attributes, and files that may not be read.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keepgate_store::{BodyError, Condition, Part, PutOptions, StoreError};
use tempfile::TempDir;

use super::*;

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
        let name = "changes::unreadable_files_are_errors_and_never_missing";
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
