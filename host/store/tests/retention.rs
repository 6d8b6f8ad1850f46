//! Retention: what can be removed when, whoever asks, and that time itself removes what has expired.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::*;
use futures_util::future::join_all;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::expiry::remove_expired;
use keepgate_store::guard::{Periods, Policy, Subfolder};
use keepgate_store::memory::MemoryStore;
use keepgate_store::{
    Clock, Condition, DeleteOptions, Folder, PutOptions, RenameOptions, StoreError,
};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn days(days: u32) -> Periods {
    Periods { all: Some(DAY * days), folders: Vec::new() }
}

/// Each kind of store, retaining blobs by a clock that stands still.
fn retaining(retain: &Periods, except: &[&str]) -> Vec<(Option<TempDir>, Clock, Store, Store)> {
    let except: Vec<_> = except.iter().map(|pattern| (*pattern).to_owned()).collect();
    let policy = Policy { retain: retain.clone(), except, ..Policy::default() };
    let around = |dir: Option<TempDir>, clock: Clock, inner: Store| {
        let store = policy.guard(inner.clone(), &clock).unwrap();
        (dir, clock, store, inner)
    };
    let now = || Clock::stopped_at(SystemTime::now());
    let (clock, dir) = (now(), TempDir::new().unwrap());
    let options = DiskOptions { clock: clock.clone(), ..DiskOptions::default() };
    let disk = Arc::new(DiskStore::open(dir.path(), options).unwrap());
    let disk = around(Some(dir), clock, disk);
    let clock = now();
    let memory = Arc::new(MemoryStore::with_clock(clock.clone()));
    vec![disk, around(None, clock, memory)]
}

/// So long after the blob of this name was stored.
async fn pass(clock: &Clock, store: &Store, name: &str, time: Duration) {
    clock.set(store.head(&key(name)).await.unwrap().modified + time);
}

#[track_caller]
fn denied<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Denied(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_blob_stays_for_its_time_and_can_go_afterwards() {
    for (_dir, clock, store, _) in retaining(&days(30), &[]) {
        put(&store, "data/a", &bytes(10, 1)).await;
        let (blob, other) = (key("data/a"), key("data/b"));
        let there = store.head(&blob).await.unwrap();
        for after in [Duration::ZERO, DAY, DAY * 30 - Duration::from_nanos(1)] {
            pass(&clock, &store, "data/a", after).await;
            let why = denied(store.delete(&blob).await);
            assert!(
                why.starts_with("retained: data/a may not be deleted or replaced before 20"),
                "{why}"
            );
            assert!(why.ends_with(" UTC"), "{why}");
            denied(store.put(&blob, "x".into_body(), PutOptions::default()).await);
            denied(
                store
                    .put(&blob, "x".into_body(), when(Condition::Matches(there.etag.clone())))
                    .await,
            );
            denied(
                store
                    .concat(&blob, &pieces(std::slice::from_ref(&blob)), PutOptions::default())
                    .await,
            );
            denied(store.rename(&blob, &other, RenameOptions::default()).await);
            assert_eq!(store.head(&blob).await.unwrap(), there);
        }
        // What removes nothing goes on as it was.
        let same =
            store.put(&blob, bytes(10, 1).into_body(), when(Condition::AbsentOrIdentical)).await;
        assert_eq!(same.unwrap().info, there);
        let absent = store.put(&blob, "x".into_body(), when(Condition::Absent)).await;
        assert!(matches!(absent, Err(StoreError::AlreadyExists)), "{absent:?}");
        let wrong = DeleteOptions { matches: Some("another".to_owned()), observer: None };
        let wrong = store.delete_with(&blob, wrong).await;
        assert!(matches!(wrong, Err(StoreError::PreconditionFailed)), "{wrong:?}");

        pass(&clock, &store, "data/a", DAY * 30).await;
        store.put(&blob, "x".into_body(), PutOptions::default()).await.unwrap();
        // It is another blob, and its time begins anew.
        clock.set(SystemTime::now());
        denied(store.delete(&blob).await);
        pass(&clock, &store, "data/a", DAY * 30).await;
        store.rename(&blob, &other, RenameOptions::default()).await.unwrap();
        pass(&clock, &store, "data/b", DAY * 31).await;
        assert_eq!(store.delete(&other).await.unwrap(), Some(1));
        assert_eq!(store.delete(&other).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_frees_nothing_and_neither_does_a_blob_of_the_future() {
    for (_dir, clock, store, _) in retaining(&days(1), &[]) {
        put(&store, "a", &bytes(10, 1)).await;
        clock.set(SystemTime::UNIX_EPOCH);
        denied(store.delete(&key("a")).await);
    }
}

#[tokio::test]
async fn exceptions_and_folders_have_times_of_their_own() {
    let folders = vec![("team".to_owned(), DAY * 90), ("*/old".to_owned(), DAY * 7)];
    let periods = Periods { all: Some(DAY * 30), folders };
    for (_dir, clock, store, _) in retaining(&periods, &["**/locks/*"]) {
        let names = ["team/data/a", "other/a", "other/old/a", "team/locks/a", "locks/a"];
        for name in names {
            put(&store, name, &bytes(10, 1)).await;
        }
        let mut gone = Vec::new();
        for after in [0, 8, 31, 91] {
            clock.set(SystemTime::now() + DAY * after);
            for name in names {
                if matches!(store.delete(&key(name)).await, Ok(Some(_))) {
                    gone.push((name, after));
                }
            }
        }
        // The longest time applies.
        let expected = [
            ("team/locks/a", 0),
            ("locks/a", 0),
            ("other/a", 31),
            ("other/old/a", 31),
            ("team/data/a", 91),
        ];
        assert_eq!(gone, expected);
    }
    let folders = vec![("team".to_owned(), DAY)];
    for (_dir, _, store, _) in retaining(&Periods { all: None, folders }, &[]) {
        put(&store, "free/a", &bytes(10, 1)).await;
        put(&store, "team/a", &bytes(10, 1)).await;
        store.delete(&key("free/a")).await.unwrap();
        denied(store.delete(&key("team/a")).await);
    }
}

#[tokio::test]
async fn what_expires_goes_when_it_expires() {
    for (_dir, clock, store, inner) in retaining(&days(30), &[]) {
        let expires = Some(SystemTime::now() + DAY);
        let options = PutOptions { expires, ..PutOptions::default() };
        store.put(&key("a"), bytes(10, 1).into_body(), options).await.unwrap();
        denied(store.delete(&key("a")).await);
        clock.set(SystemTime::now() + DAY * 2);
        assert_eq!(store.delete(&key("a")).await.unwrap(), None, "it is not there");
        assert!(remove_expired(&*inner).await.unwrap().error.is_none());
        assert!(matches!(inner.head_any(&key("a")).await, Err(StoreError::NotFound)));
    }
}

/// Whoever deletes all the time must not catch a blob at the moment when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn no_blob_goes_between_a_look_and_a_removal() {
    for (_dir, _, store, _) in retaining(&days(1), &[]) {
        let deleting = (0..4).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    for number in 0..50 {
                        match store.delete(&key(&format!("a/{number}"))).await {
                            Ok(None) | Err(StoreError::Denied(_)) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
            })
        });
        let deleting: Vec<_> = deleting.collect();
        for number in 0..50 {
            put(&store, &format!("a/{number}"), &bytes(10, number)).await;
        }
        join_all(deleting).await.into_iter().for_each(Result::unwrap);
        for number in 0..50 {
            assert_eq!(read(&store, &format!("a/{number}")).await, bytes(10, number));
        }
    }
}

#[tokio::test]
async fn it_holds_through_a_folder_and_names_the_key_as_it_was_asked_for() {
    for (_dir, _, store, inner) in retaining(&days(1), &[]) {
        put(&inner, "team/a", &bytes(10, 1)).await;
        let below: Store = Arc::new(Subfolder::new(store, Folder::new("team").unwrap()));
        denied(below.delete(&key("a")).await);
        denied(below.put(&key("a"), "x".into_body(), PutOptions::default()).await);
    }
}

#[tokio::test]
async fn a_policy_that_cannot_work_is_refused() {
    let memory = || Arc::new(MemoryStore::new());
    for retain in [
        Periods { all: Some(Duration::MAX), folders: Vec::new() },
        Periods { all: None, folders: vec![("a/[".to_owned(), DAY)] },
    ] {
        let policy = Policy { retain, ..Policy::default() };
        let refused = policy.guard(memory(), &Clock::default());
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
}
