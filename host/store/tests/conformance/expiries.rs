//! Blobs that expire, as callers of a store see them. `tests/expiry` is about their removal.

use super::*;

fn expiring(expires: SystemTime, condition: Condition) -> PutOptions {
    PutOptions { expires: Some(expires), ..when(condition) }
}

fn past() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// Stores keep nanoseconds.
fn future() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(9_000_000_000, 123_456_789)
}

/// Stores a blob that has expired.
async fn put_expired(store: &Store, name: &str, bytes: &Bytes) -> String {
    let body = bytes.clone().into_body();
    let options = expiring(past(), Condition::Always);
    store.put(&key(name), body, options).await.unwrap().info.etag
}

pub(super) async fn a_blob_that_has_expired_is_not_there(store: Store) {
    put(&store, "a/there", &bytes(5, 1)).await;
    let etag = put_expired(&store, "a/gone", &bytes(9, 1)).await;
    let gone = key("a/gone");
    assert!(matches!(store.head(&gone).await, Err(StoreError::NotFound)));
    for part in [Part::Whole, Part::Suffix(1), Part::Slice { offset: 99, length: None }] {
        assert!(matches!(store.get(&gone, part).await, Err(StoreError::NotFound)), "{part:?}");
    }
    let both = pieces(&[key("a/there"), gone.clone()]);
    let joined = store.concat(&key("a/joined"), &both, PutOptions::default()).await;
    assert!(matches!(joined, Err(StoreError::NotFound)), "{joined:?}");
    let moved = store.rename(&gone, &key("a/moved"), RenameOptions::default()).await;
    assert!(matches!(moved, Err(StoreError::NotFound)), "{moved:?}");
    let matches = when(Condition::Matches(etag.clone()));
    let outcome = store.put(&gone, "x".into_body(), matches).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{outcome:?}");
    let matches = DeleteOptions { matches: Some(etag), observer: None };
    let outcome = store.delete_with(&gone, matches).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{outcome:?}");

    // Its key is free to every condition, also for the same bytes.
    for condition in [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical] {
        for body in [bytes(9, 1).into_body(), chunked(&bytes(9, 1), 2)] {
            put_expired(&store, "a/gone", &bytes(9, 1)).await;
            let stored = store.put(&gone, body, when(condition.clone())).await.unwrap();
            assert_eq!(stored.change, Change::Created, "{condition:?}");
            assert_eq!(read(&store, "a/gone").await, bytes(9, 1));
            assert_eq!(stored.info.expires, None);
            store.delete(&gone).await.unwrap();
        }
    }
    for condition in [Condition::Always, Condition::Absent] {
        put_expired(&store, "a/gone", &bytes(9, 1)).await;
        let options = RenameOptions { condition, ..RenameOptions::default() };
        let moved = store.rename(&key("a/there"), &gone, options).await.unwrap();
        assert_eq!(moved.change, Change::Created);
        store.rename(&gone, &key("a/there"), RenameOptions::default()).await.unwrap();
    }
    // Deleting it succeeds, as of every blob that is not there, and takes it off the lists.
    put_expired(&store, "a/gone", &bytes(9, 1)).await;
    assert_eq!(store.delete(&gone).await.unwrap(), None);
    assert_eq!(names(&store, "", true).await, ["a/there"]);
}

pub(super) async fn a_blob_is_there_until_it_expires(store: Store) {
    let blob = key("a/b");
    let options = expiring(future(), Condition::Absent);
    let stored = store.put(&blob, bytes(9, 1).into_body(), options).await.unwrap();
    assert_eq!((stored.change, stored.info.expires), (Change::Created, Some(future())));
    assert_eq!(store.head(&blob).await.unwrap(), stored.info);
    assert_eq!(read(&store, "a/b").await, bytes(9, 1));
    // An identical blob stays as it is.
    let same = expiring(past(), Condition::AbsentOrIdentical);
    let same = store.put(&blob, bytes(9, 1).into_body(), same).await.unwrap();
    assert_eq!(same, Stored { change: Change::Unchanged, ..stored });
    let moved = store.rename(&blob, &key("c/d"), RenameOptions::default()).await.unwrap();
    assert_eq!(moved.info.expires, Some(future()));
    assert_eq!(store.head(&key("c/d")).await.unwrap().expires, Some(future()));
    // What is joined of it does not expire, and another blob in its place does not.
    let joined = store.concat(&blob, &pieces(&[key("c/d")]), PutOptions::default()).await.unwrap();
    assert_eq!(joined.info.expires, None);
    let replaced = store.put(&key("c/d"), "x".into_body(), PutOptions::default()).await.unwrap();
    assert_eq!((replaced.change, replaced.info.expires), (Change::Replaced { size: 9 }, None));
    assert_eq!(store.head(&key("c/d")).await.unwrap().expires, None);
}

pub(super) async fn observers_are_told_of_blobs_that_have_expired(store: Store) {
    let blob = key("a/b");
    put_expired(&store, "a/b", &bytes(9, 1)).await;
    let (notes, options) = noted(when(Condition::Absent));
    store.put(&blob, bytes(7, 2).into_body(), options).await.unwrap();
    let told = notes.told();
    let removed = told[0].removed.as_ref().map(|gone| gone.size);
    assert_eq!((told.len(), removed, told[0].size), (1, Some(9), Some(7)));
    put_expired(&store, "a/b", &bytes(5, 1)).await;
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn CommitObserver> = notes.clone();
    let options = DeleteOptions { matches: None, observer: Some(ObserverHandle::new(observer)) };
    assert_eq!(store.delete_with(&blob, options).await.unwrap(), None);
    let told = notes.told();
    let removed = told[0].removed.as_ref().map(|gone| gone.size);
    assert_eq!((told.len(), removed, told[0].size), (1, Some(5), None));
}
