//! Blobs that are removed while somebody reads them: their files take up space until nobody does.

use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::{Condition, Download, Part, RenameOptions};

use super::*;

async fn disk(limit: u64) -> (TempDir, Store, Arc<Quota>) {
    let dir = TempDir::new().unwrap();
    let disk = DiskStore::open(dir.path().join("root"), DiskOptions::default()).unwrap();
    let quota = Quota::open(Arc::new(disk), total(limit), options(&dir)).await.unwrap();
    (dir, quota.store(None), quota)
}

/// Used and reserved bytes of the whole store.
fn sums_of(quota: &Quota) -> (u64, u64) {
    let store = &quota.usage()[0];
    (store.used, store.reserved)
}

async fn get(store: &Store, name: &str) -> Download {
    store.get(&key(name), Part::Whole).await.unwrap()
}

#[tokio::test]
async fn a_removed_blob_counts_until_nobody_reads_it() {
    let (_dir, store, quota) = disk(1000).await;
    for way in ["delete", "replace", "rename over"] {
        put(&store, "a", &bytes(600, 1)).await;
        // Who asks about a blob, or has read it to its end, keeps nothing.
        store.head(&key("a")).await.unwrap();
        assert_eq!(read(&store, "a").await, bytes(600, 1));
        let (one, other) = (get(&store, "a").await, get(&store, "a").await);
        let left = match way {
            "delete" => {
                store.delete(&key("a")).await.unwrap();
                0
            }
            "replace" => {
                put(&store, "a", &bytes(100, 2)).await;
                100
            }
            _ => {
                put(&store, "b", &bytes(50, 2)).await;
                store.rename(&key("b"), &key("a"), RenameOptions::default()).await.unwrap();
                50
            }
        };
        assert_eq!(sums_of(&quota), (left, 600), "{way}");
        refused(&store, "c", bytes(401, 3).into_body()).await;
        drop(one);
        refused(&store, "c", bytes(401, 3).into_body()).await;
        assert_eq!(other.body.collect(u64::MAX).await.unwrap(), bytes(600, 1), "{way}");
        assert_eq!(sums_of(&quota), (left, 0), "{way}");
        put(&store, "c", &bytes(401, 3)).await;
        for name in ["a", "c"] {
            store.delete(&key(name)).await.unwrap();
        }
    }
    assert_eq!(sums_of(&quota), (0, 0));
}

/// An upload that may only repeat what is there compares with it while it is received.
#[tokio::test]
async fn an_upload_that_compares_reads_too() {
    let (_dir, store, quota) = disk(1000).await;
    put(&store, "a", &bytes(600, 1)).await;
    let (body, taken) = stalling(vec![bytes(1, 1)]);
    let uploading = tokio::spawn({
        let store = store.clone();
        async move { store.put(&key("a"), body, when(Condition::AbsentOrIdentical)).await }
    });
    while taken.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    store.delete(&key("a")).await.unwrap();
    // Its own byte is reserved beside the removed blob.
    assert_eq!(sums_of(&quota), (0, 601));
    uploading.abort();
    while sums_of(&quota) != (0, 0) {
        tokio::task::yield_now().await;
    }
}

/// Whatever comes first, a reader that has the blob keeps it counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_while_the_blob_goes_is_not_missed() {
    let (_dir, store, quota) = disk(10_000).await;
    let mut readers = 0;
    for round in 0..600 {
        // Something else goes at the same time.
        put(&store, "other", &bytes(10, round)).await;
        put(&store, "a", &bytes(1000, round)).await;
        let spawn_get = || {
            let store = store.clone();
            tokio::spawn(async move { store.get(&key("a"), Part::Whole).await })
        };
        let going = ["a", "other"].map(|name| {
            let store = store.clone();
            tokio::spawn(async move { store.delete(&key(name)).await })
        });
        let coming = [spawn_get(), spawn_get()];
        for task in going {
            task.await.unwrap().unwrap();
        }
        let mut downloads = Vec::new();
        for task in coming {
            downloads.extend(task.await.unwrap());
        }
        let expected = if downloads.is_empty() { 0 } else { 1000 };
        assert_eq!(sums_of(&quota), (0, expected), "round {round}");
        readers += downloads.len();
        drop(downloads);
        assert_eq!(sums_of(&quota), (0, 0), "round {round}");
    }
    eprintln!("{readers} of 1200 readers were in time");
}
