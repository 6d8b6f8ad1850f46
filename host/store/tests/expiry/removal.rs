//! What every store does with blobs that have expired, by a clock that the case sets.

#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]

use keepgate_store::clock::Clock;
use keepgate_store::expiry::{remove_expired, time};
use keepgate_store::{Condition, PutOptions, RenameOptions, StoreError};

use super::common::*;

/// When each case begins, in hours since 1970.
const BEGIN: u64 = 480_000;

fn at(hours: u64, minutes: u64) -> std::time::SystemTime {
    time(((BEGIN + hours) * 60 + minutes) * 60_000_000_000)
}

pub fn clock() -> Clock {
    Clock::stopped_at(at(0, 0))
}

async fn put_until(store: &Store, name: &str, hours: u64, condition: Condition) -> bool {
    let options = PutOptions { expires: Some(at(hours, 0)), ..when(condition) };
    let stored = store.put(&key(name), bytes(10, 1).into_body(), options).await;
    assert!(matches!(stored, Ok(_) | Err(StoreError::AlreadyExists)), "{stored:?}");
    stored.is_ok()
}

/// Removes what has expired. Returns how many blobs and bytes.
pub async fn removed(store: &Store) -> (u64, u64) {
    let removed = remove_expired(&**store).await.unwrap();
    assert_eq!(removed.failed, 0, "{removed:?}");
    (removed.blobs, removed.bytes)
}

pub async fn what_has_expired_is_removed_and_nothing_else(store: Store, clock: Clock) {
    for name in ["a/one", "a/two", "b/revoked", "b/moved"] {
        assert!(put_until(&store, name, 1, Condition::Always).await);
    }
    put_until(&store, "b/later", 10, Condition::Always).await;
    put(&store, "b/kept", &bytes(20, 1)).await;
    put(&store, "b/revoked", &bytes(20, 1)).await;
    store.rename(&key("b/moved"), &key("c/moved"), RenameOptions::default()).await.unwrap();
    // Never stored, but marked.
    assert!(!put_until(&store, "b/kept", 1, Condition::Absent).await);
    assert_eq!(removed(&store).await, (0, 0));
    clock.set(at(0, 59));
    assert_eq!(removed(&store).await, (0, 0));
    assert_eq!(read(&store, "a/one").await, bytes(10, 1));

    clock.set(at(1, 0));
    assert!(matches!(store.head(&key("a/one")).await, Err(StoreError::NotFound)));
    // Stored again in time.
    put_until(&store, "a/two", 5, Condition::Absent).await;
    clock.set(at(1, 40));
    assert_eq!(removed(&store).await, (2, 20));
    assert_eq!(names(&store, "", true).await, ["a/two", "b/kept", "b/later", "b/revoked"]);
    assert_eq!(removed(&store).await, (0, 0));
    assert!(store.due(None, 10).await.unwrap().is_empty());

    // One that expires later than it was to, and one that has when it is stored.
    put_until(&store, "b/later", 20, Condition::Always).await;
    put_until(&store, "b/past", 0, Condition::Always).await;
    clock.set(at(11, 0));
    assert_eq!(removed(&store).await, (2, 20));
    assert_eq!(names(&store, "", true).await, ["b/kept", "b/later", "b/revoked"]);
    clock.set(at(20, 40));
    assert_eq!(removed(&store).await, (1, 10));
    assert_eq!(names(&store, "", true).await, ["b/kept", "b/revoked"]);
    assert_eq!(read(&store, "b/kept").await, bytes(20, 1));
}

/// More than are read at once.
pub async fn many_blobs_expire_together(store: Store, clock: Clock) {
    for number in 0..600 {
        put_until(&store, &format!("many/{number}"), 1 + number % 3, Condition::Absent).await;
    }
    clock.set(at(2, 40));
    assert_eq!(removed(&store).await, (400, 4000));
    clock.set(at(3, 40));
    assert_eq!(removed(&store).await, (200, 2000));
    assert!(names(&store, "", true).await.is_empty());
}
