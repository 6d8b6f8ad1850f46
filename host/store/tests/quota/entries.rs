//! Blobs, folders and markers of blobs that expire are limited in number, too.

use std::time::{Duration, SystemTime};

use keepgate_store::clock::Clock;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::expiry::remove_expired;
use keepgate_store::guard::Subfolder;
use keepgate_store::quota::Scope;
use keepgate_store::{Folder, RenameOptions};

use super::*;

const LIMIT: Amount = Amount { bytes: 1 << 20, entries: 10 };

fn limited() -> Rules {
    Rules { total: Some(LIMIT), ..Rules::default() }
}

/// A disk below a folder.
fn disk(dir: &TempDir, clock: &Clock) -> Store {
    let options = DiskOptions { clock: clock.clone(), ..DiskOptions::default() };
    Arc::new(DiskStore::open(dir.path().join("root"), options).unwrap())
}

async fn open(store: Store, rules: Rules, dir: &TempDir) -> Arc<Quota> {
    Quota::open(store, rules, options(dir)).await.unwrap()
}

fn entries(quota: &Quota) -> u64 {
    quota.usage()[0].entries
}

async fn prepare(store: &Store, names: &[&str]) -> Result<(), String> {
    let folders: Vec<Folder> = names.iter().map(|name| folder(name)).collect();
    match store.prepare(&folders).await {
        Ok(()) => Ok(()),
        Err(StoreError::QuotaExceeded(text)) => Err(text),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn blobs_and_folders_are_limited_in_number() {
    let dir = TempDir::new().unwrap();
    let disk = disk(&dir, &Clock::default());
    // Some were there before.
    put(&disk, "old/one", &bytes(1, 1)).await;
    let quota = open(disk.clone(), limited(), &dir).await;
    let store = quota.store(None);
    assert_eq!(entries(&quota), 2);
    put(&store, "old/new/two", &bytes(1, 1)).await;
    put(&store, "old/new/two", &bytes(2, 1)).await;
    assert_eq!(entries(&quota), 4, "a folder and a blob, which is replaced");
    prepare(&store, &["x/y", "x/z", "old"]).await.unwrap();
    assert_eq!(entries(&quota), 7, "x, x/y and x/z");
    let text = prepare(&store, &["1", "2", "3", "4"]).await.unwrap_err();
    for part in ["the store", "10 blobs and folders", "10 are there", "quota_entries"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(entries(&quota), 7, "nothing stays reserved");
    for (name, length) in [("a", 0), ("x/b", 1), ("x/y/c", 1)] {
        put(&store, name, &bytes(length, 1)).await;
    }
    refused(&store, "d", bytes(0, 1).into_body()).await;
    refused(&store, "d", unknown(&bytes(0, 1), 1)).await;
    let text = refused(&store, "d", bytes(1, 1).into_body()).await;
    assert!(text.contains("10 blobs and folders"), "{text}");
    // A blob that moves needs no other entry.
    store.rename(&key("a"), &key("x/z/a"), RenameOptions::default()).await.unwrap();
    // A folder stays when its last blob goes.
    store.delete(&key("x/y/c")).await.unwrap();
    assert_eq!(entries(&quota), 9);
    quota.recount().await.unwrap();
    assert_eq!(entries(&quota), 9, "a count finds the same");
    put(&store, "d", &bytes(0, 1)).await;
    assert!(quota.close().await.unwrap());
    let again = open(disk, limited(), &dir).await;
    assert_eq!((entries(&again), again.is_exact()), (10, true), "kept over a restart");
}

/// A limit may be lowered below what is there.
#[tokio::test]
async fn a_store_that_is_over_its_limit_takes_no_blob_however_small() {
    let dir = TempDir::new().unwrap();
    let quota = open(disk(&dir, &Clock::default()), total(100), &dir).await;
    let store = quota.store(None);
    put(&store, "a", &bytes(100, 1)).await;
    put(&store, "b", &bytes(0, 1)).await;
    quota.change(total(99)).await.unwrap();
    refused(&store, "c", bytes(0, 1).into_body()).await;
    refused(&store, "c", unknown(&bytes(0, 1), 1)).await;
    // A folder has no bytes.
    prepare(&store, &["d"]).await.unwrap();
    store.delete(&key("a")).await.unwrap();
    put(&store, "c", &bytes(0, 1)).await;
}

#[tokio::test]
async fn each_scope_has_a_number_of_its_own() {
    let (dir, clock) = (TempDir::new().unwrap(), Clock::default());
    let folders = vec![FolderRule { pattern: "*".to_owned(), limit: LIMIT }];
    let rules = Rules { folders, users: users(&[("*", 100)]).users, ..Rules::default() };
    let quota = open(disk(&dir, &clock), rules, &dir).await;
    let store = quota.store(Some("ann"));
    prepare(&store, &["a/1", "a/2", "b/1"]).await.unwrap();
    for index in 0..7 {
        put(&store, &format!("a/3/{index}"), &bytes(1, 1)).await;
    }
    let text = refused(&store, "a/x", bytes(1, 1).into_body()).await;
    assert!(text.contains("folder a is 10 blobs and folders"), "{text}");
    assert!(prepare(&store, &["a/4"]).await.is_err());
    prepare(&store, &["b/2", "c/1/2/3"]).await.unwrap();
    let counted = || {
        let usage = quota.usage().into_iter();
        usage.map(|usage| (usage.scope.to_string(), usage.entries)).collect::<Vec<_>>()
    };
    // The folders a, b and c themselves are not below a folder, so they count for the store only.
    let expected = [
        ("the store", 3 + 10 + 2 + 3),
        ("folder a", 10),
        ("folder b", 2),
        ("folder c", 3),
        ("user ann", 7),
    ];
    assert_eq!(counted(), sums(&expected));
    quota.recount().await.unwrap();
    assert_eq!(counted(), sums(&expected));
    assert!(
        quota
            .usage()
            .iter()
            .all(|usage| usage.scope == Scope::Store || usage.max_entries > Some(9))
    );

    // Around a folder of a store, what is above it counts for nobody but the store.
    let place = TempDir::new().unwrap();
    let below: Store = Arc::new(Subfolder::new(disk(&place, &clock), folder("yet/to/be")));
    let quota = open(below, limited(), &place).await;
    let store = quota.store(None);
    put(&store, "a/b", &bytes(1, 1)).await;
    prepare(&store, &["c/d"]).await.unwrap();
    assert_eq!(entries(&quota), 3 + 2 + 2);
    quota.recount().await.unwrap();
    assert_eq!(entries(&quota), 2 + 2);
}

#[tokio::test]
async fn markers_of_blobs_that_expire_count_until_they_are_removed() {
    let dir = TempDir::new().unwrap();
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let clock = Clock::stopped_at(begin);
    let quota = open(disk(&dir, &clock), limited(), &dir).await;
    let store = quota.store(None);
    let expiring =
        || PutOptions { expires: Some(begin + Duration::from_secs(60)), ..PutOptions::default() };
    // Each of them leaves a marker, though there is one blob.
    for round in 1..=8 {
        store.put(&key("a"), bytes(1, round).into_body(), expiring()).await.unwrap();
        assert_eq!(entries(&quota), 1 + round as u64);
    }
    quota.recount().await.unwrap();
    assert_eq!(entries(&quota), 9);
    store.put(&key("a"), bytes(1, 9).into_body(), expiring()).await.unwrap();
    let again = store.put(&key("a"), bytes(1, 9).into_body(), expiring()).await;
    assert!(matches!(again, Err(StoreError::QuotaExceeded(_))), "{again:?}");
    clock.set(begin + Duration::from_secs(3600));
    remove_expired(&*store).await.unwrap();
    assert_eq!(entries(&quota), 0);
    quota.recount().await.unwrap();
    assert_eq!(entries(&quota), 0);
}

#[tokio::test]
async fn a_state_without_entries_is_completed_by_a_count() {
    let (dir, clock) = (TempDir::new().unwrap(), Clock::default());
    let quota = open(disk(&dir, &clock), limited(), &dir).await;
    put(&quota.store(None), "a/b/c", &bytes(5, 1)).await;
    assert!(quota.close().await.unwrap());
    drop(quota);
    // As a version wrote it that did not count them.
    let file = options(&dir).state_file;
    let mut state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("entries").is_some());
    std::fs::write(&file, state.to_string()).unwrap();
    let quota = open(disk(&dir, &clock), limited(), &dir).await;
    while entries(&quota) != 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(used(&quota), sums(&[("the store", 5)]));
}

#[test]
fn a_limit_of_bytes_allows_an_entry_for_each_block_and_never_few() {
    assert_eq!(Amount::limit(0).entries, 100_000);
    assert_eq!(Amount::limit(1 << 30).entries, 1 << 18);
    assert_eq!(Amount::limit(u64::MAX).entries, u64::MAX / 4096);
}
