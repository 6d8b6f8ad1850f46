//! What is admitted, what is refused, and whom a blob counts for.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::quota::{OWNER, Scope};
use keepgate_store::{Change, Condition, Part, Piece, RenameOptions, is_reserved_metadata};

use super::*;

#[tokio::test]
async fn an_upload_that_fits_exactly_is_stored_and_one_byte_more_is_not() {
    for in_pieces in [false, true] {
        let (_dir, inner, quota) = memory(total(1 << 20)).await;
        let store = quota.store(None);
        let body = |bytes: &Bytes| {
            if in_pieces { unknown(bytes, 10_000) } else { bytes.clone().into_body() }
        };
        let most = bytes(1_000_000, 1);
        store.put(&key("a"), body(&most), PutOptions::default()).await.unwrap();
        let text = refused(&store, "new/b", body(&bytes(48_577, 2))).await;
        for part in ["the store", "1.0 MiB (1048576 bytes)", "976.6 KiB (1000000 bytes)"] {
            assert!(text.contains(part), "{text}");
        }
        // Nothing is left behind, not even a folder.
        assert_eq!(names(&inner, "", false).await, ["a"]);
        assert_eq!(used(&quota), sums(&[("the store", 1_000_000)]));
        store.put(&key("b"), body(&bytes(48_576, 2)), PutOptions::default()).await.unwrap();
        refused(&store, "c", body(&bytes(1, 1))).await;
        // A full store can be read and deleted from.
        assert_eq!(read(&store, "a").await, most);
        assert_eq!(store.delete(&key("a")).await.unwrap(), Some(1_000_000));
        assert_eq!(used(&quota), sums(&[("the store", 48_576)]));
        store.put(&key("a"), body(&most), PutOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_of_known_length_is_refused_before_it_is_read() {
    let (_dir, _, quota) = memory(total(10)).await;
    let store = quota.store(None);
    let (body, read_of) = watched(&bytes(11, 1));
    refused(&store, "a", body).await;
    assert!(!read_of.load(Ordering::Relaxed), "the body was read");
    // Of a body of unknown length, no more is read than shows that it does not fit.
    let (body, taken) = stalling((0..20).map(|seed| bytes(1, seed)).collect());
    refused(&store, "a", body).await;
    assert_eq!(taken.load(Ordering::Relaxed), 11);
}

#[tokio::test]
async fn only_the_difference_counts() {
    let (_dir, _, quota) = memory(total(100)).await;
    let store = quota.store(None);
    put(&store, "a", &bytes(40, 1)).await;
    put(&store, "a", &bytes(60, 2)).await;
    assert_eq!(used(&quota), sums(&[("the store", 60)]));
    put(&store, "a", &bytes(10, 3)).await;
    assert_eq!(used(&quota), sums(&[("the store", 10)]));
    let same = when(Condition::AbsentOrIdentical);
    store.put(&key("a"), bytes(10, 3).into_body(), same).await.unwrap();
    store.concat(&key("b"), &pieces(&[key("a"), key("a")]), PutOptions::default()).await.unwrap();
    assert_eq!(used(&quota), sums(&[("the store", 30)]));
    // Failures of every kind release what they reserved.
    for outcome in [
        store.put(&key("a"), bytes(9, 1).into_body(), when(Condition::Absent)).await,
        store.put(&key("a"), bytes(9, 1).into_body(), verified(b"x")).await,
        store.put(&key("a"), broken(&bytes(60, 1)), PutOptions::default()).await,
        store.put(&key("a"), short(&bytes(60, 1), 70), PutOptions::default()).await,
        store.put(&key("a/b"), bytes(9, 1).into_body(), PutOptions::default()).await,
        store.concat(&key("c"), &pieces(&[key("missing")]), PutOptions::default()).await,
    ] {
        assert!(outcome.is_err());
        assert_eq!(used(&quota), sums(&[("the store", 30)]));
    }
    let parts: Vec<_> = (0..8).map(|_| key("a")).collect();
    let outcome = store.concat(&key("c"), &pieces(&parts), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::QuotaExceeded(_))), "{outcome:?}");
    // Only the used part of each blob counts: 70 bytes are free, and 8 times 8 fit.
    let some = |length| {
        let part = Part::Slice { offset: 1, length: Some(length) };
        parts.iter().map(|key| Piece { key: key.clone(), part }).collect::<Vec<_>>()
    };
    let outcome = store.concat(&key("c"), &some(9), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::QuotaExceeded(_))), "{outcome:?}");
    store.concat(&key("c"), &some(8), PutOptions::default()).await.unwrap();
    assert_eq!(used(&quota), sums(&[("the store", 94)]));
    assert_eq!(quota.recount().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_concurrent_uploads_as_many_succeed_as_fit() {
    for place in places() {
        let store = DiskStore::open(place.path().join("root"), DiskOptions::default()).unwrap();
        let dir = TempDir::new().unwrap();
        let quota = Quota::open(Arc::new(store), total(5050), options(&dir)).await.unwrap();
        let uploads = (0..100).map(|index| {
            let store = quota.store(None);
            tokio::spawn(async move {
                let bytes = bytes(100, index);
                let body = if index % 2 == 0 { unknown(&bytes, 30) } else { chunked(&bytes, 30) };
                store.put(&key(&format!("{index}")), body, PutOptions::default()).await
            })
        });
        let mut stored = 0;
        for outcome in join_all(uploads).await {
            match outcome.unwrap() {
                Ok(_) => stored += 1,
                Err(StoreError::QuotaExceeded(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        // Bodies of unknown length may have caused each other's refusal halfway.
        assert!((1..=50).contains(&stored), "{stored}");
        let store = quota.store(None);
        for index in 0.. {
            let body = bytes(100, index).into_body();
            match store.put(&key(&format!("more{index}")), body, PutOptions::default()).await {
                Ok(_) => stored += 1,
                Err(_) => break,
            }
        }
        assert_eq!(stored, 50);
        assert_eq!(used(&quota), sums(&[("the store", 5000)]));
    }
}

#[tokio::test]
async fn each_folder_is_counted_separately() {
    let (_dir, _, quota) = memory(folders(&[("teams/*", 20), ("alice", 50), ("*", 10)])).await;
    let store = quota.store(None);
    put(&store, "alice/a/b", &bytes(50, 1)).await;
    put(&store, "bob/a", &bytes(10, 1)).await;
    put(&store, "teams/red/a", &bytes(20, 1)).await;
    put(&store, "teams/blue/a", &bytes(20, 1)).await;
    put(&store, "teams/a", &bytes(10, 1)).await;
    put(&store, "top", &bytes(1000, 1)).await;
    for (name, scope) in [
        ("alice/c", "folder alice is 50 B (50 bytes)"),
        ("bob/c", "folder bob is 10 B (10 bytes)"),
        ("teams/red/c/d", "folder teams/red is"),
        ("teams/c", "folder teams is"),
    ] {
        let text = refused(&store, name, bytes(1, 1).into_body()).await;
        assert!(text.contains(scope), "{text}");
    }
    put(&store, "carol/a", &bytes(10, 1)).await;
    let expected = [
        ("the store", 1120),
        ("folder alice", 50),
        ("folder bob", 10),
        ("folder carol", 10),
        ("folder teams", 10),
        ("folder teams/blue", 20),
        ("folder teams/red", 20),
    ];
    assert_eq!(used(&quota), sums(&expected));
    let limits: Vec<_> = quota.usage().into_iter().map(|usage| usage.limit).collect();
    assert_eq!(limits, [None, Some(50), Some(10), Some(10), Some(10), Some(20), Some(20)]);
    store.delete(&key("carol/a")).await.unwrap();
    assert_eq!(used(&quota).len(), 6);
    // Unused, but named in a rule.
    store.delete(&key("alice/a/b")).await.unwrap();
    assert!(quota.usage().iter().any(|usage| usage.scope == Scope::Folder("alice".to_owned())));
}

#[tokio::test]
async fn a_blob_counts_for_the_user_who_stored_it() {
    let (_dir, inner, quota) = memory(users(&[("bob", 30), ("*", 20)])).await;
    let [alice, bob, nobody] = [Some("alice"), Some("bob"), None].map(|user| quota.store(user));
    put(&inner, "theirs", &bytes(500, 1)).await;
    put(&nobody, "nobodys", &bytes(500, 1)).await;
    put(&alice, "a", &bytes(20, 1)).await;
    put(&bob, "b", &bytes(30, 1)).await;
    let text = refused(&alice, "c", bytes(1, 1).into_body()).await;
    assert!(text.contains("user alice"), "{text}");
    let text = refused(&bob, "c", bytes(1, 1).into_body()).await;
    assert!(text.contains("user bob") && text.contains("30 bytes"), "{text}");
    // Once deleted or replaced by anybody, it no longer counts.
    bob.delete(&key("a")).await.unwrap();
    put(&alice, "a", &bytes(15, 2)).await;
    put(&nobody, "b", &bytes(7, 1)).await;
    put(&bob, "a", &bytes(9, 1)).await;
    // A blob that was never counted is not subtracted either.
    put(&bob, "theirs", &bytes(5, 1)).await;
    let expected = [("the store", 521), ("user bob", 14)];
    quota.recount().await.unwrap();
    assert_eq!(used(&quota), sums(&expected));
    bob.concat(&key("joined"), &pieces(&[key("a")]), PutOptions::default()).await.unwrap();
    assert_eq!(used(&quota), sums(&[("the store", 530), ("user bob", 23)]));
    assert_eq!(quota.recount().await.unwrap(), []);
}

#[tokio::test]
async fn the_owner_is_stored_with_the_blob() {
    let (_dir, inner, quota) = memory(users(&[("*", 1000)])).await;
    let alice = quota.store(Some("alice"));
    alice.put(&key("a"), "x".into_body(), PutOptions::default()).await.unwrap();
    let owner = (OWNER.to_owned(), "alice".to_owned());
    assert_eq!(inner.head(&key("a")).await.unwrap().metadata, [owner]);
    assert!(is_reserved_metadata(OWNER) && is_reserved_metadata("Keepgate-Owner"));
    assert!(!is_reserved_metadata("keepgat") && !is_reserved_metadata("owner"));
    // Without rules for users nothing is stored.
    quota.change(total(1000)).await.unwrap();
    alice.put(&key("d"), "x".into_body(), PutOptions::default()).await.unwrap();
    assert_eq!(inner.head(&key("d")).await.unwrap().metadata, []);
}

/// A client that lost the first answer repeats its upload.
#[tokio::test]
async fn an_identical_upload_succeeds_even_if_the_quota_is_full() {
    let (_dir, _inner, quota) = memory(total(10)).await;
    let store = quota.store(None);
    let again = || PutOptions { condition: Condition::AbsentOrIdentical, ..PutOptions::default() };
    store.put(&key("a"), "0123456789".into_body(), again()).await.unwrap();
    let stored = store.put(&key("a"), "0123456789".into_body(), again()).await.unwrap();
    assert_eq!(stored.change, Change::Unchanged);
    let other = store.put(&key("a"), "9876543210".into_body(), again()).await;
    assert!(matches!(other, Err(StoreError::AlreadyExists)), "{other:?}");
    let more = store.put(&key("b"), "0123456789".into_body(), again()).await;
    assert!(matches!(more, Err(StoreError::QuotaExceeded(_))), "{more:?}");
    assert_eq!(used(&quota), sums(&[("the store", 10)]));
}

#[tokio::test]
async fn a_renamed_blob_counts_once_and_for_its_owner() {
    let dir = TempDir::new().unwrap();
    let disk = DiskStore::open(dir.path().join("root"), DiskOptions::default()).unwrap();
    for inner in [Arc::new(MemoryStore::new()) as Store, Arc::new(disk)] {
        let state = TempDir::new().unwrap();
        let rules = Rules {
            total: Some(Amount::limit(100)),
            folders: folders(&[("small", 50), ("*", 100)]).folders,
            users: users(&[("*", 90)]).users,
        };
        let quota = Quota::open(inner, rules, options(&state)).await.unwrap();
        let (alice, bob) = (quota.store(Some("alice")), quota.store(Some("bob")));
        let rename = async |store: &Store, from: &str, to: &str| {
            store.rename(&key(from), &key(to), RenameOptions::default()).await
        };
        // It would not fit twice, neither into the store nor into the folder nor into what alice may have.
        put(&alice, "a/one", &bytes(80, 1)).await;
        rename(&bob, "a/one", "a/two").await.unwrap();
        let expected = [("the store", 80), ("folder a", 80), ("user alice", 80)];
        assert_eq!(used(&quota), sums(&expected), "the owner stays");
        rename(&bob, "a/two", "b/two").await.unwrap();
        let expected = [("the store", 80), ("folder b", 80), ("user alice", 80)];
        assert_eq!(used(&quota), sums(&expected));
        // Into another folder it needs to fit.
        match rename(&alice, "b/two", "small/two").await {
            Err(StoreError::QuotaExceeded(text)) => {
                assert!(text.contains("folder small"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(used(&quota), sums(&expected));
        // The blob that it replaces counts no more.
        put(&bob, "small/two", &bytes(20, 1)).await;
        rename(&alice, "small/two", "b/two").await.unwrap();
        let expected = [("the store", 20), ("folder b", 20), ("user bob", 20)];
        assert_eq!(used(&quota), sums(&expected));
        assert_eq!(quota.recount().await.unwrap(), []);
        assert!(rename(&alice, "none", "b/three").await.is_err());
        assert_eq!(used(&quota), sums(&expected));
    }
}
