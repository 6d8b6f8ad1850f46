//! A folder of a store may be another file system, a bind mount, a subvolume or another project, between
//! which nothing can be renamed or linked. `works` is what has to hold in each.

use super::*;

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
