//! Disks that are full, read-only or without extended attributes: what they refuse, and what still works.

use super::*;

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
