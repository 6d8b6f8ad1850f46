//! Symbolic links below a root whose operator wants them followed.

use std::fs;
use std::os::unix::fs::symlink;

use keepgate_store::{Condition, Part, PutOptions, StoreError};
use tempfile::TempDir;

use super::*;

fn following(root: &Path, openat2: bool) -> Store {
    let features = Features { openat2, ..Features::default() };
    let options = DiskOptions { follow_symlinks: true, features, ..DiskOptions::default() };
    Arc::new(DiskStore::open(root, options).unwrap())
}

#[tokio::test]
async fn linked_folders_are_part_of_the_store_if_requested() {
    for openat2 in [true, false] {
        let (dir, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let store = following(dir.path(), openat2);
        symlink(disk.path(), dir.path().join("user")).unwrap();
        store.prepare(&[folder("user/data/ab")]).await.unwrap();
        for name in ["user/data/ab/blob", "user/new/blob", "user/blob"] {
            let absent = when(Condition::AbsentOrIdentical);
            let body = chunked(&bytes(300_000, 1), 50_000);
            store.put(&key(name), body, absent.clone()).await.unwrap();
            store.put(&key(name), bytes(300_000, 1).into_body(), absent).await.unwrap();
            put(&store, name, &bytes(100, 2)).await;
            assert_eq!(read(&store, name).await, bytes(100, 2));
            let path = disk.path().join(name.strip_prefix("user/").unwrap());
            assert_eq!(fs::read(path).unwrap(), bytes(100, 2));
        }
        // A blob may be a link too.
        symlink(disk.path().join("blob"), dir.path().join("linked")).unwrap();
        assert_eq!(read(&store, "linked").await, bytes(100, 2));
        let all = ["linked", "user/blob", "user/data/ab/blob", "user/new/blob"];
        assert_eq!(names(&store, "", true).await, all);
        assert_eq!(names(&store, "", false).await, ["linked", "user/"]);
        // Only the link is deleted.
        assert!(store.delete(&key("linked")).await.unwrap().is_some());
        assert!(disk.path().join("blob").exists());
        assert!(store.delete(&key("user/blob")).await.unwrap().is_some());
        assert!(!disk.path().join("blob").exists());
    }
}

#[tokio::test]
async fn links_that_lead_nowhere_or_in_a_circle_are_no_way_out() {
    for openat2 in [true, false] {
        let dir = TempDir::new().unwrap();
        let store = following(dir.path(), openat2);
        put(&store, "a/blob", &bytes(1, 1)).await;
        symlink("..", dir.path().join("a/up")).unwrap();
        symlink("itself", dir.path().join("itself")).unwrap();
        symlink("/nowhere/at/all", dir.path().join("gone")).unwrap();
        assert_eq!(names(&store, "", true).await, ["a/blob"]);
        // A disk that is not mounted: nothing is known about what is there.
        for name in ["gone/blob", "gone/b/blob"] {
            let outcome = store.get(&key(name), Part::Whole).await.map(drop);
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{name}: {outcome:?}");
            let outcome = store.put(&key(name), "x".into_body(), PutOptions::default()).await;
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{name}: {outcome:?}");
        }
        for condition in [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical] {
            for name in ["gone", "itself", "itself/blob"] {
                let outcome = store.put(&key(name), "x".into_body(), when(condition.clone())).await;
                assert!(matches!(outcome, Err(StoreError::Denied(_))), "{name}: {outcome:?}");
            }
        }
        let outcome = store.get(&key("missing"), Part::Whole).await.map(drop);
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
    }
}
