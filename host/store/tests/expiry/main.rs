//! Blobs that expire are removed, in memory and on the disk, and a quota counts them until then. `conformance` has
//! what callers see of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

#[path = "../common/mod.rs"]
mod common;
mod removal;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use keepgate_store::clock::Clock;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::expiry::remove_expired;
use keepgate_store::guard::{Policy, Subfolder};
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{Amount, FolderRule, Quota, QuotaOptions, Rules, UserRule};
use keepgate_store::{BlobStore, Condition, PutOptions, StoreError};
use removal::*;
use tempfile::TempDir;

fn disk(root: &Path, clock: &Clock) -> Store {
    let options = DiskOptions { clock: clock.clone(), ..DiskOptions::default() };
    Arc::new(DiskStore::open(root, options).unwrap())
}

async fn quota(inner: Store, state: &TempDir) -> Arc<Quota> {
    let rules = Rules {
        total: Some(Amount::limit(1000)),
        folders: vec![FolderRule { pattern: "*".to_owned(), limit: Amount::limit(1000) }],
        users: vec![UserRule { user: "*".to_owned(), limit: Amount::limit(1000) }],
    };
    let state_file = state.path().join("quota");
    let options = QuotaOptions { state_file, lock: None, recount_every: None };
    Quota::open(inner, rules, options).await.unwrap()
}

#[tokio::test]
async fn in_memory() {
    let clock = clock();
    let store: Store = Arc::new(MemoryStore::with_clock(clock.clone()));
    what_has_expired_is_removed_and_nothing_else(store, clock).await;
}

#[tokio::test]
async fn on_a_disk() {
    for place in places() {
        let clock = clock();
        let store = disk(place.path(), &clock);
        what_has_expired_is_removed_and_nothing_else(store.clone(), clock.clone()).await;
        // Slots that were emptied go with the next round.
        clock.set(clock.now() + Duration::from_secs(3600));
        assert_eq!(removed(&store).await, (0, 0));
        assert_eq!(slots(place.path()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn many_on_a_disk() {
    let (place, clock) = (TempDir::new().unwrap(), clock());
    many_blobs_expire_together(disk(place.path(), &clock), clock).await;
}

#[tokio::test]
async fn in_a_quota() {
    for on_disk in [false, true] {
        let (place, state, clock) = (TempDir::new().unwrap(), TempDir::new().unwrap(), clock());
        let inner: Store = match on_disk {
            true => disk(place.path(), &clock),
            false => Arc::new(MemoryStore::with_clock(clock.clone())),
        };
        let quota = quota(inner, &state).await;
        let used = || {
            let usage = quota.usage().into_iter();
            usage.filter(|usage| usage.used > 0).map(|usage| usage.used).collect::<Vec<_>>()
        };
        let alice = quota.store(Some("alice"));
        let begin = clock.now();
        let expires = begin + Duration::from_secs(60);
        let options = PutOptions { expires: Some(expires), ..PutOptions::default() };
        alice.put(&key("a/b"), bytes(900, 1).into_body(), options.clone()).await.unwrap();
        clock.set(begin + Duration::from_secs(120));
        assert!(matches!(alice.head(&key("a/b")).await, Err(StoreError::NotFound)));
        // It takes up its space until it is removed, whoever counts.
        assert_eq!(used(), [900, 900, 900]);
        assert_eq!(quota.recount().await.unwrap(), []);
        clock.set(begin + Duration::from_secs(3600));
        let housekeeping = quota.store(None);
        assert_eq!(removed(&housekeeping).await, (1, 900));
        assert_eq!(used(), Vec::<u64>::new());
        // So does one that is replaced instead.
        alice.put(&key("a/b"), bytes(300, 1).into_body(), options).await.unwrap();
        quota
            .store(Some("bob"))
            .put(&key("a/b"), bytes(400, 1).into_body(), when(Condition::Absent))
            .await
            .unwrap();
        assert_eq!(used(), [400, 400, 400]);
        assert_eq!(quota.recount().await.unwrap(), []);
        assert!(quota.close().await.unwrap());
    }
}

/// Policies are about what clients do. The housekeeping is given the store without them.
#[tokio::test]
async fn a_policy_that_forbids_removals_forbids_this_one_to_clients() {
    let clock = clock();
    let inner: Store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let append_only = Policy { append_only: true, ..Policy::default() };
    let store = append_only.guard(inner.clone(), &Clock::default()).unwrap();
    let expires = Some(clock.now() + Duration::from_secs(60));
    let options = PutOptions { expires, ..PutOptions::default() };
    store.put(&key("a"), bytes(9, 1).into_body(), options).await.unwrap();
    assert!(matches!(store.delete(&key("a")).await, Err(StoreError::Denied(_))));
    clock.set(clock.now() + Duration::from_secs(3600));
    let refused = remove_expired(&*store).await.unwrap();
    assert_eq!((refused.blobs, refused.failed), (0, 1), "{refused:?}");
    assert!(Subfolder::new(inner.clone(), folder("a")).due(None, 1).await.unwrap().is_empty());
    assert_eq!(removed(&inner).await, (1, 9));
}

/// The slots on a disk.
fn slots(root: &Path) -> Vec<String> {
    let read = std::fs::read_dir(root.join(".keepgate/expiry")).unwrap();
    read.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What processes that were killed leave behind: a marker that was not written to its end, and one whose blob never
/// came.
#[tokio::test]
async fn markers_of_killed_processes_do_no_harm() {
    let (place, clock) = (TempDir::new().unwrap(), clock());
    let store = disk(place.path(), &clock);
    put(&store, "kept", &bytes(9, 1)).await;
    let expires = Some(clock.now() + Duration::from_secs(60));
    let options = PutOptions { expires, ..PutOptions::default() };
    store.put(&key("gone"), bytes(9, 1).into_body(), options).await.unwrap();
    let slot = place.path().join(".keepgate/expiry").join(&slots(place.path())[0]);
    for (name, content) in [("empty", ""), ("bad", "../x"), ("never", "a/never"), ("other", "kept")]
    {
        std::fs::write(slot.join(name), content).unwrap();
    }
    std::fs::write(place.path().join(".keepgate/expiry/theirs"), "x").unwrap();
    clock.set(clock.now() + Duration::from_secs(3600));
    // A gateway that was started again.
    let store = disk(place.path(), &clock);
    assert_eq!(removed(&store).await, (1, 9));
    assert_eq!(removed(&store).await, (0, 0));
    assert_eq!(slots(place.path()), ["theirs"]);
    assert_eq!(names(&store, "", true).await, ["kept"]);
}

/// The marker is there before the blob is, and a blob that breaks off leaves none.
#[tokio::test]
async fn a_blob_that_expires_is_marked_before_it_is_committed() {
    let (place, clock) = (TempDir::new().unwrap(), clock());
    let store = disk(place.path(), &clock);
    let expires = Some(clock.now() + Duration::from_secs(60));
    let options = || PutOptions { expires, ..PutOptions::default() };
    store.put(&key("a"), broken(&bytes(9, 1)), options()).await.unwrap_err();
    assert!(!place.path().join(".keepgate").exists());
    // Where no marker can be written, no blob appears.
    std::fs::write(place.path().join(".keepgate"), "in the way").unwrap();
    store.put(&key("a"), bytes(9, 1).into_body(), options()).await.unwrap_err();
    assert!(names(&store, "", true).await.is_empty());
    put(&store, "a", &bytes(9, 1)).await;
}
