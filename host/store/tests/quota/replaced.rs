//! A store whose folder is replaced: its blobs are counted before anything is stored there.

use keepgate_store::disk::{DiskOptions, DiskStore};

use super::*;

#[tokio::test]
async fn nothing_is_stored_in_a_folder_that_was_not_counted() {
    let dir = TempDir::new().unwrap();
    let (root, other) = (dir.path().join("root"), dir.path().join("other"));
    let store: Store = Arc::new(DiskStore::open(&root, DiskOptions::default()).unwrap());
    let limit = Rules { total: Some(Amount::limit(1000)), ..Rules::default() };
    let quota = Quota::open(store, limit, options(&dir)).await.unwrap();
    let view = quota.store(None);
    put(&view, "blob", &bytes(900, 1)).await;
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("theirs"), bytes(500, 2)).unwrap();
    std::fs::rename(&root, dir.path().join("old")).unwrap();
    std::fs::rename(&other, &root).unwrap();

    // 400 bytes fit only into the new folder, and 600 into neither. The first call waits for the count.
    put(&view, "new", &bytes(400, 1)).await;
    assert_eq!(used(&quota), sums(&[("the store", 900)]));
    refused(&view, "more", bytes(600, 1).into_body()).await;
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 2);
}
