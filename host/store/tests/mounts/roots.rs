//! What the store's path names at each moment is the store: disks that are mounted, taken away and swapped
//! while it is open, and folders that are replaced.

use keepgate_store::Part;

use super::*;

const TMPFS: [&str; 3] = ["-t", "tmpfs", "none"];

fn unavailable<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

/// Unmounts what is idle. Commands started by other tests inherit open files for a moment.
async fn unmount(at: &Path) {
    comes_true(|| Command::new("umount").arg(at).output().unwrap().status.success()).await;
}

/// Every kind of call.
async fn all_are_unavailable(store: &Store) {
    unavailable(&store.put(&key("a/new"), "x".into_body(), PutOptions::default()).await.map(drop));
    unavailable(&store.put(&key("a/new"), chunked(&bytes(9, 1), 3), verified(b"")).await.map(drop));
    unavailable(&store.head(&key("a/blob")).await.map(drop));
    unavailable(&store.get(&key("a/blob"), Part::Whole).await.map(drop));
    unavailable(&store.delete(&key("a/blob")).await.map(drop));
    unavailable(&store.list(&folder(""), true).await.map(drop));
    unavailable(&store.prepare(&[folder("a/b")]).await);
    let parts = pieces(&[key("a/blob")]);
    unavailable(&store.concat(&key("c"), &parts, PutOptions::default()).await.map(drop));
}

#[tokio::test]
async fn a_disk_mounted_later_is_the_store_and_can_be_unmounted_when_idle() {
    for unnamed in [true, false] {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        let store = open(&root, unnamed);
        put(&store, "a/blob", &bytes(10, 1)).await;
        let Some(mount) = Mount::new("a_disk_mounted_later", &TMPFS, &root) else { return };
        assert!(matches!(store.head(&key("a/blob")).await, Err(StoreError::NotFound)));
        put(&store, "a/blob", &bytes(20, 2)).await;
        assert_eq!(fs::read(root.join("a/blob")).unwrap(), bytes(20, 2));
        assert_eq!(read(&store, "a/blob").await, bytes(20, 2));
        unmount(&root).await;
        std::mem::forget(mount);
        // The empty folder below the mount point is not the store.
        all_are_unavailable(&store).await;
        assert_eq!(fs::read(root.join("a/blob")).unwrap(), bytes(10, 1));
        let Some(_again) = Mount::new("a_disk_mounted_later", &TMPFS, &root) else { panic!() };
        put(&store, "b/blob", &bytes(30, 3)).await;
        assert_eq!(names(&store, "", true).await, ["b/blob"]);
    }
}

#[tokio::test]
async fn an_upload_that_began_before_the_disk_was_mounted_is_not_acknowledged() {
    for (unnamed, below) in [true, false].into_iter().flat_map(|way| [(way, ""), (way, "a")]) {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        let store = open(&root, unnamed);
        put(&store, "a/blob", &bytes(10, 1)).await;
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let (begun, waiting) = tokio::sync::oneshot::channel::<()>();
        let late = async move {
            begun.send(()).unwrap();
            receiver.await.unwrap();
            Ok(bytes::Bytes::from("late"))
        };
        let body = keepgate_store::Body::from_stream(None, futures_util::stream::once(late));
        let upload = tokio::spawn({
            let store = store.clone();
            async move { store.put(&key("a/new"), body, PutOptions::default()).await }
        });
        waiting.await.unwrap();
        let at = root.join(below);
        let Some(mount) = Mount::new("an_upload_before_the_mount", &TMPFS, &at) else { return };
        sender.send(()).unwrap();
        unavailable(&upload.await.unwrap());
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
        // The client tries again.
        put(&store, "a/new", &bytes(10, 2)).await;
        assert!(root.join("a/new").exists());
        unmount(&at).await;
        std::mem::forget(mount);
        assert!(!root.join("a/new").exists());
        assert_eq!(unfinished(&root), 0);
    }
}

#[tokio::test]
async fn a_folder_replaced_by_another_is_the_store() {
    for unnamed in [true, false] {
        let dir = TempDir::new().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        let store = open(&root, unnamed);
        put(&store, "a/blob", &bytes(10, 1)).await;
        fs::create_dir(&other).unwrap();
        fs::rename(&root, dir.path().join("old")).unwrap();
        // Nothing is made in its place.
        all_are_unavailable(&store).await;
        assert!(!root.exists());
        fs::rename(&other, &root).unwrap();
        put(&store, "a/new", &bytes(20, 2)).await;
        assert_eq!(fs::read(root.join("a/new")).unwrap(), bytes(20, 2));
        assert!(!dir.path().join("old/a/new").exists());
        assert_eq!(store.epoch().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_required_disk_or_marker_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    let required = [
        DiskOptions { require_mount: Some(true), ..DiskOptions::default() },
        DiskOptions { marker: Some(".keepgate/disk".to_owned()), ..DiskOptions::default() },
    ];
    for options in required {
        let _ = fs::remove_dir(&root);
        let store: Store = Arc::new(DiskStore::open(&root, options.clone()).unwrap());
        assert!(!root.exists());
        all_are_unavailable(&store).await;
        fs::create_dir(&root).unwrap();
        all_are_unavailable(&store).await;
        let Some(_mount) = Mount::new("a_required_disk", &TMPFS, &root) else { return };
        if options.marker.is_some() {
            all_are_unavailable(&store).await;
            fs::create_dir(root.join(".keepgate")).unwrap();
            fs::write(root.join(".keepgate/disk"), b"").unwrap();
        }
        put(&store, "a/blob", &bytes(1, 1)).await;
        assert_eq!(names(&store, "", true).await, ["a/blob"]);
        unmount(&root).await;
        all_are_unavailable(&store).await;
        let Some(again) = Mount::new("a_required_disk", &TMPFS, &root) else { panic!() };
        std::mem::forget(again);
    }
}

#[tokio::test]
async fn a_report_says_what_is_there() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    let store = DiskStore::unopened(&root, DiskOptions::default());
    let reason = store.report().unwrap_err();
    assert!(reason.contains("No such file"), "{reason}");
    assert!(!root.exists());
    let arguments = ["-t", "tmpfs", "-o", "size=4m", "a disk"];
    let Some(_mount) = Mount::new("a_report", &arguments, &root) else { return };
    let report = store.report().unwrap();
    assert_eq!((report.file_system.as_str(), report.device.as_str()), ("tmpfs", "a disk"));
    assert!(report.is_mount_point && report.size == 4 << 20, "{report:?}");
    assert!(report.free <= report.size && report.limitations.is_empty(), "{report:?}");
}

/// The root may be read-only, or somebody else's, as long as the folders below it are not.
#[tokio::test]
async fn the_root_need_not_be_writable() {
    for unnamed in [true, false] {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        let Some(_mount) = Mount::new("a_read_only_root", &TMPFS, &root) else { return };
        let Some(_user) = Mount::new("a_read_only_root", &TMPFS, &root.join("user")) else {
            return;
        };
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&root).status();
        assert!(status.unwrap().success());
        let store = open(&root, unnamed);
        store.prepare(&[folder("user/data/ab")]).await.unwrap();
        for name in ["user/blob", "user/data/ab/blob", "user/new/blob"] {
            put(&store, name, &bytes(300_000, 1)).await;
            put(&store, name, &bytes(300_000, 2)).await;
        }
        assert_eq!(read(&store, "user/data/ab/blob").await, bytes(300_000, 2));
        let outcome = store.put(&key("blob"), "x".into_body(), PutOptions::default()).await;
        assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
        assert_eq!(unfinished(&root), 0);
    }
}
