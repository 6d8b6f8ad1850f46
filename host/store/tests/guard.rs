//! What guards forbid and what they allow, including under concurrent uploads.

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
use std::sync::atomic::Ordering;

use common::*;
use futures_util::future::join_all;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::guard::{AppendOnly, Policy, ReadOnly, Subfolder};
use keepgate_store::memory::MemoryStore;
use keepgate_store::{
    Clock, Condition, DeleteOptions, Part, PutOptions, RenameOptions, StoreError,
};

fn memory() -> Store {
    Arc::new(MemoryStore::new())
}

fn append_only(except: &[&str]) -> (Store, Store) {
    let inner = memory();
    let except: Vec<_> = except.iter().map(|pattern| (*pattern).to_owned()).collect();
    let guarded = Policy { append_only: true, except, ..Policy::default() };
    (guarded.guard(Arc::clone(&inner), &Clock::default()).unwrap(), inner)
}

#[tokio::test]
async fn append_only_adds_and_never_replaces_or_deletes() {
    let (store, inner) = append_only(&[]);
    let blob = key("data/a");
    // A blob may be added under any condition that replaces nothing.
    put(&store, "data/a", &bytes(10, 1)).await;
    let first = store.head(&blob).await.unwrap();
    let conditions = [Condition::Always, Condition::Matches(first.etag.clone())];
    for condition in conditions {
        let outcome = store.put(&blob, "x".into_body(), when(condition.clone())).await;
        assert!(matches!(outcome, Err(StoreError::Denied(_))), "{outcome:?}");
        let outcome =
            store.concat(&blob, &pieces(std::slice::from_ref(&blob)), when(condition)).await;
        assert!(matches!(outcome, Err(StoreError::Denied(_))), "{outcome:?}");
    }
    // Ordinary errors stay the same.
    for condition in [Condition::Absent, Condition::AbsentOrIdentical] {
        let outcome = store.put(&blob, "x".into_body(), when(condition)).await;
        assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    }
    let same = store.put(&blob, bytes(10, 1).into_body(), when(Condition::AbsentOrIdentical));
    assert_eq!(same.await.unwrap().info, first);
    let (body, read_of) = watched(&bytes(10, 2));
    assert!(store.put(&blob, body, PutOptions::default()).await.is_err());
    assert!(!read_of.load(Ordering::Relaxed), "the body was read");

    for name in ["data/a", "data/missing"] {
        let Err(StoreError::Denied(text)) = store.delete(&key(name)).await else { panic!() };
        assert!(text.contains("append-only") && text.contains(name), "{text}");
        assert!(text.contains("adding blobs is allowed"), "{text}");
    }
    let options = DeleteOptions { matches: Some(first.etag.clone()), observer: None };
    let outcome = store.delete_with(&blob, options).await;
    assert!(matches!(outcome, Err(StoreError::Denied(_))), "{outcome:?}");
    assert_eq!(inner.head(&blob).await.unwrap(), first);
    store.concat(&key("data/b"), &pieces(&[blob]), PutOptions::default()).await.unwrap();
    store.prepare(&[folder("keys")]).await.unwrap();
    assert_eq!(names(&store, "", true).await, ["data/a", "data/b"]);
    assert_eq!(read(&store, "data/b").await, bytes(10, 1));
}

#[tokio::test]
async fn a_rename_is_a_store_and_a_delete_to_every_policy() {
    let rename = async |store: &Store, from: &str, to: &str| {
        store.rename(&key(from), &key(to), RenameOptions::default()).await
    };
    let (store, inner) = append_only(&["incoming/*"]);
    for name in ["data/a", "incoming/a", "incoming/b", "incoming/c"] {
        put(&inner, name, &bytes(10, 1)).await;
    }
    // Neither away from a protected key nor over a blob there.
    for (from, to, what) in
        [("data/a", "incoming/z", "deleted"), ("incoming/a", "data/a", "replaced")]
    {
        let Err(StoreError::Denied(text)) = rename(&store, from, to).await else { panic!("{to}") };
        assert!(text.contains("data/a") && text.contains(what), "{text}");
    }
    rename(&store, "incoming/a", "data/b").await.unwrap();
    rename(&store, "incoming/b", "incoming/c").await.unwrap();
    assert_eq!(names(&store, "", true).await, ["data/a", "data/b", "incoming/c"]);

    let store: Store = Arc::new(ReadOnly::new(Arc::clone(&inner)));
    let outcome = rename(&store, "incoming/c", "incoming/d").await;
    assert!(matches!(outcome, Err(StoreError::Denied(_))), "{outcome:?}");
    // Both keys are the folder's.
    let store: Store = Arc::new(Subfolder::new(inner, folder("incoming")));
    let moved = rename(&store, "c", "data/d").await.unwrap();
    assert_eq!(moved.info.key, key("data/d"));
    assert_eq!(names(&store, "", true).await, ["data/d"]);
}

#[tokio::test]
async fn exceptions_are_matched_by_pattern() {
    let (store, _) = append_only(&["**/locks/*", "config?"]);
    for name in ["locks/x", "a/locks/x", "a/b/locks/x", "config1"] {
        put(&store, name, &bytes(1, 1)).await;
        put(&store, name, &bytes(1, 2)).await;
        assert!(store.delete(&key(name)).await.unwrap().is_some(), "{name}");
    }
    for name in [
        "locks/a/b",
        "a/locks/b/c",
        "xlocks/a",
        "locks",
        "a/config1",
        "config",
        "locksx/a",
        "config12",
    ] {
        let Err(StoreError::Denied(text)) = store.delete(&key(name)).await else {
            panic!("{name} is not protected")
        };
        assert!(text.contains("**/locks/* or config?"), "{text}");
    }
    put(&store, "locks/new/b", &bytes(1, 1)).await;
    let outcome = store.put(&key("locks/new/b"), "x".into_body(), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Denied(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_unconditional_uploads_succeeds() {
    let (store, _) = append_only(&[]);
    for round in 0..50 {
        let name = format!("blob{round}");
        let uploads = (0..8).map(|seed| {
            let (store, key) = (store.clone(), key(&name));
            let body = chunked(&bytes(10_000, seed), 1000);
            tokio::spawn(async move { store.put(&key, body, PutOptions::default()).await })
        });
        let outcomes: Vec<_> = join_all(uploads).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let denied = |outcome: &Result<_, _>| matches!(outcome, Err(StoreError::Denied(_)));
        assert_eq!(outcomes.iter().filter(|outcome| denied(outcome)).count(), 7);
    }
}

#[tokio::test]
async fn read_only_changes_nothing_even_under_excepted_keys() {
    let inner = memory();
    put(&inner, "locks/a", &bytes(10, 1)).await;
    let except = vec!["**".to_owned()];
    let policy = Policy {
        read_only: true,
        append_only: true,
        unverified: true,
        except,
        ..Policy::default()
    };
    let direct: Store = Arc::new(ReadOnly::new(Arc::clone(&inner)));
    for store in [policy.guard(Arc::clone(&inner), &Clock::default()).unwrap(), direct] {
        let lock = key("locks/a");
        let outcomes = [
            store.put(&lock, "x".into_body(), PutOptions::default()).await.map(drop),
            store.put(&key("new"), "x".into_body(), when(Condition::Absent)).await.map(drop),
            store
                .concat(&key("new"), &pieces(std::slice::from_ref(&lock)), PutOptions::default())
                .await
                .map(drop),
            store.delete(&lock).await.map(drop),
            store.delete(&key("missing")).await.map(drop),
            store.prepare(&[folder("new")]).await,
        ];
        for outcome in outcomes {
            let Err(StoreError::Denied(text)) = outcome else { panic!("{outcome:?}") };
            assert!(text.contains("read-only"), "{text}");
        }
        assert_eq!(read(&store, "locks/a").await, bytes(10, 1));
        assert_eq!(store.head(&lock).await.unwrap().size, 10);
        assert_eq!(names(&store, "", true).await, ["locks/a"]);
    }
    assert_eq!(names(&inner, "", false).await, ["locks/"]);
}

#[tokio::test]
async fn invalid_patterns_are_refused_even_if_they_are_not_used() {
    let except = vec!["a/{b".to_owned()];
    for append_only in [true, false] {
        let policy = Policy { append_only, except: except.clone(), ..Policy::default() };
        let Err(StoreError::Invalid(text)) = policy.guard(memory(), &Clock::default()) else {
            panic!()
        };
        assert!(text.contains("a/{b"), "{text}");
    }
    assert!(AppendOnly::new(memory(), &except).is_err());
}

#[tokio::test]
async fn the_top_of_a_subfolder_exists_before_anything_is_stored() {
    let place = tempfile::TempDir::new().unwrap();
    let disk = DiskStore::open(place.path(), DiskOptions::default()).unwrap();
    for inner in [memory(), Arc::new(disk)] {
        let store: Store = Arc::new(Subfolder::new(inner, folder("not/yet")));
        for (recursive, after) in [(true, None), (false, Some("a"))] {
            assert!(entries_after(&store, "", recursive, 9, after).await.unwrap().is_empty());
        }
        let outcome = entries(&store, "a", true, 9).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
        put(&store, "a/b", &bytes(1, 1)).await;
        assert_eq!(names(&store, "", true).await, ["a/b"]);
    }
}

#[tokio::test]
async fn a_subfolder_is_isolated_from_its_store() {
    let inner = memory();
    put(&inner, "users/alice2/secret", &bytes(10, 1)).await;
    let store: Store = Arc::new(Subfolder::new(Arc::clone(&inner), folder("users/alice")));
    assert!(names(&store, "", true).await.is_empty());
    put(&store, "a/b", &bytes(10, 2)).await;
    assert_eq!(names(&inner, "users/alice", true).await, ["users/alice/a/b"]);
    assert_eq!(names(&store, "", true).await, ["a/b"]);
    assert_eq!(names(&store, "", false).await, ["a/"]);
    assert_eq!(names(&store, "a", true).await, ["a/b"]);
    assert_eq!(store.head(&key("a/b")).await.unwrap().key, key("a/b"));
    let download = store.get(&key("a/b"), Part::Whole).await.unwrap();
    assert_eq!(download.info.key, key("a/b"));
    let outcome = store.head(&key("secret")).await;
    assert!(matches!(outcome, Err(StoreError::NotFound)));
    store.prepare(&[folder(""), folder("c/d")]).await.unwrap();
    store.concat(&key("c/d/e"), &pieces(&[key("a/b")]), PutOptions::default()).await.unwrap();
    assert!(store.delete(&key("a/b")).await.unwrap().is_some());
    let all = ["users/alice/c/d/e", "users/alice2/secret"];
    assert_eq!(names(&inner, "", true).await, all);
    // Names that are short enough here but not below the folder.
    let long = ["x".repeat(250).as_str(); 4].join("/") + "/" + &"y".repeat(20);
    let outcome = store.put(&key(&long), "x".into_body(), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{outcome:?}");
}

#[tokio::test]
async fn unverified_ignores_checksums_and_keeps_all_other_checks() {
    for append_only in [false, true] {
        let policy = Policy { append_only, unverified: true, ..Policy::default() };
        let store = policy.guard(memory(), &Clock::default()).unwrap();
        put(&store, "part", &bytes(10, 1)).await;
        let wrong = || PutOptions { sha256: Some([0; 32]), ..when(Condition::Absent) };
        store.put(&key("a"), chunked(&bytes(10, 1), 3), wrong()).await.unwrap();
        assert_eq!(read(&store, "a").await, bytes(10, 1));
        store.concat(&key("b"), &pieces(&[key("part")]), wrong()).await.unwrap();
        let outcome = store.put(&key("a"), "x".into_body(), wrong()).await;
        assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
        let outcome = store.put(&key("c"), short(&bytes(5, 1), 6), wrong()).await;
        assert!(matches!(outcome, Err(StoreError::Body(_))), "{outcome:?}");
        assert_eq!(store.delete(&key("a")).await.is_err(), append_only);
    }
    let verified = Policy::default().guard(memory(), &Clock::default()).unwrap();
    let wrong = PutOptions { sha256: Some([0; 32]), ..PutOptions::default() };
    let outcome = verified.put(&key("a"), "x".into_body(), wrong).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })), "{outcome:?}");
}
