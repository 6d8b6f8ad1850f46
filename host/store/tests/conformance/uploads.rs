//! Conditions, checksums, bodies that break off, and concurrent uploads of one key.

use super::*;
use keepgate_store::receive::receive;

pub(super) async fn absent_fails_before_the_body_is_read(store: Store) {
    let first = bytes(10, 1);
    let (body, read_of) = watched(&first);
    store.put(&key("a/b"), body, when(Condition::Absent)).await.unwrap();
    assert!(read_of.load(Ordering::Relaxed));
    for bytes in [first.clone(), bytes(500_000, 2)] {
        let (body, read_of) = watched(&bytes);
        let outcome = store.put(&key("a/b"), body, when(Condition::Absent)).await;
        assert!(matches!(outcome, Err(StoreError::AlreadyExists)));
        assert!(!read_of.load(Ordering::Relaxed), "the body was read");
    }
    assert_eq!(read(&store, "a/b").await, first);
}

pub(super) async fn absent_or_identical_compares(store: Store) {
    let first = bytes(300_000, 1);
    let mut changed = first.to_vec();
    changed[299_999] ^= 1;
    let changed = Bytes::from(changed);
    let condition = || when(Condition::AbsentOrIdentical);
    let checked = |bytes: &Bytes| PutOptions { sha256: Some(sha256(bytes)), ..condition() };
    let blob = key("a/b");

    // A free key: the bytes must match the checksum.
    let outcome = store.put(&blob, chunked(&first, 9999), checked(&changed)).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })), "{outcome:?}");
    let stored = store.put(&blob, chunked(&first, 9999), checked(&first)).await.unwrap();
    assert_eq!(stored.change, Change::Created);
    let info = stored.info;

    // A taken key: the same bytes are accepted, and nothing changes.
    for options in [condition(), checked(&first)] {
        let (body, read_of) = watched(&first);
        let same = store.put(&blob, body, options).await.unwrap();
        assert_eq!(same, Stored { info: info.clone(), change: Change::Unchanged });
        assert!(read_of.load(Ordering::Relaxed), "the body was not read");
    }
    let longer = [first.as_ref(), b"x"].concat().into();
    for other in [changed.clone(), first.slice(..299_999), longer, Bytes::new()] {
        for body in [chunked(&other, 7777), other.clone().into_body()] {
            let outcome = store.put(&blob, body, checked(&other)).await;
            assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
        }
    }
    // Bytes that do not match the checksum never succeed, whether they are there or not.
    for bytes in [&first, &changed] {
        let wrong = PutOptions { sha256: Some([0; 32]), ..condition() };
        let outcome = store.put(&blob, chunked(bytes, 9999), wrong).await;
        assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    }
    let outcome = store.put(&blob, broken(&first), condition()).await;
    assert!(matches!(outcome, Err(StoreError::Body(BodyError::TimedOut))), "{outcome:?}");
    assert_eq!(store.head(&blob).await.unwrap(), info);
    assert_eq!(read(&store, "a/b").await, first);

    let empty = key("empty");
    for _ in 0..2 {
        store.put(&empty, Body::empty(), condition()).await.unwrap();
    }
}

pub(super) async fn matches_replaces_only_the_expected_blob(store: Store) {
    let blob = key("a/b");
    let (body, read_of) = watched(&bytes(5, 1));
    let outcome = store.put(&blob, body, when(Condition::Matches("x".to_owned()))).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)));
    assert!(!read_of.load(Ordering::Relaxed), "the body was read");

    let first = store.put(&blob, "first".into_body(), PutOptions::default()).await.unwrap();
    let matching = when(Condition::Matches(first.info.etag));
    let second = store.put(&blob, "second".into_body(), matching.clone()).await.unwrap();
    assert_eq!(second.change, Change::Replaced { size: 5 });
    let second = second.info;
    let outcome = store.put(&blob, "third".into_body(), matching).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)));
    assert_eq!(read(&store, "a/b").await, "second");
    assert_eq!(store.head(&blob).await.unwrap(), second);

    // Replaced while the body is being received.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let (begun, waiting) = tokio::sync::oneshot::channel::<()>();
    let body = Body::from_stream(
        None,
        stream::once(async move {
            begun.send(()).unwrap();
            receiver.await.unwrap();
            Ok(Bytes::from("late"))
        }),
    );
    let late = tokio::spawn({
        let (store, blob) = (store.clone(), blob.clone());
        async move { store.put(&blob, body, when(Condition::Matches(second.etag))).await }
    });
    waiting.await.unwrap();
    put(&store, "a/b", &Bytes::from("early")).await;
    sender.send(()).unwrap();
    assert!(matches!(late.await.unwrap(), Err(StoreError::PreconditionFailed)));
    assert_eq!(read(&store, "a/b").await, "early");
}

pub(super) async fn wrong_bytes_are_not_stored(store: Store) {
    let right = bytes(400_000, 1);
    let wrong = bytes(400_000, 2);
    for condition in [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical] {
        for body in [chunked(&wrong, 9999), wrong.clone().into_body(), right.slice(1..).into_body()]
        {
            let options = PutOptions { sha256: Some(sha256(&right)), ..when(condition.clone()) };
            match store.put(&key("a"), body, options).await {
                Err(StoreError::ChecksumMismatch { expected, actual }) => {
                    assert_eq!(expected, hex::encode(sha256(&right)));
                    assert_ne!(actual, expected);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(names(&store, "", true).await.is_empty());

    put(&store, "a", &right).await;
    let outcome = store.put(&key("a"), wrong.clone().into_body(), verified(&right)).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })));
    assert_eq!(read(&store, "a").await, right);
}

pub(super) async fn what_came_of_a_body_is_kept_if_it_is_received(store: Store) {
    let bytes = bytes(400_000, 1);
    let sha256 = sha256(&bytes);
    let options = || PutOptions { sha256: Some(sha256), ..PutOptions::default() };
    let whole = Body::from_bytes(bytes.clone());
    let received = receive(&*store, &key("a/whole"), whole, options()).await.unwrap();
    assert!(received.complete && received.stored.info.size == 400_000, "{received:?}");
    for (name, body) in [("a/short", short(&bytes, 400_001)), ("a/silent", broken(&bytes))] {
        let received = receive(&*store, &key(name), body, options()).await.unwrap();
        assert!(!received.complete, "{received:?}");
        let kept = read(&store, name).await;
        assert!(!kept.is_empty() && bytes.starts_with(&kept), "{name}");
        assert_eq!(received.stored.info.size, kept.len() as u64);
    }
    // Nothing came, or all of it, and it is wrong.
    let nothing = receive(&*store, &key("a/none"), short(&Bytes::new(), 5), options()).await;
    assert!(matches!(nothing, Err(StoreError::Body(BodyError::Truncated))), "{nothing:?}");
    let long = receive(&*store, &key("a/none"), short(&bytes, 399_999), options()).await;
    assert!(
        matches!(long, Err(StoreError::Body(BodyError::TooLarge { limit: 399_999 }))),
        "{long:?}"
    );
    let wrong = Body::from_bytes(bytes.slice(1..));
    let wrong = receive(&*store, &key("a/none"), wrong, options()).await.unwrap_err();
    assert!(
        matches!(&wrong, StoreError::ChecksumMismatch { expected, .. } if expected.len() == 64),
        "{wrong:?}"
    );
    assert!(matches!(store.head(&key("a/none")).await, Err(StoreError::NotFound)));
    let absent = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    let taken = receive(&*store, &key("a/whole"), Body::from_bytes("x"), absent).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists)), "{taken:?}");
}

pub(super) async fn a_body_that_breaks_off_is_not_stored(store: Store) {
    let bytes = bytes(400_000, 1);
    for taken in [false, true] {
        let outcome = store.put(&key("a/b"), short(&bytes, 400_001), PutOptions::default()).await;
        assert!(matches!(outcome, Err(StoreError::Body(BodyError::Truncated))), "{outcome:?}");
        let outcome =
            store.put(&key("a/b"), short(&bytes.slice(..5), 6), PutOptions::default()).await;
        assert!(matches!(outcome, Err(StoreError::Body(BodyError::Truncated))), "{outcome:?}");
        let outcome = store.put(&key("a/b"), short(&bytes, 399_999), PutOptions::default()).await;
        assert!(
            matches!(outcome, Err(StoreError::Body(BodyError::TooLarge { limit: 399_999 }))),
            "{outcome:?}"
        );
        let outcome = store.put(&key("a/b"), broken(&bytes), PutOptions::default()).await;
        assert!(matches!(outcome, Err(StoreError::Body(BodyError::TimedOut))), "{outcome:?}");
        if taken {
            assert_eq!(read(&store, "a/b").await, "old");
        } else {
            assert!(matches!(store.head(&key("a/b")).await, Err(StoreError::NotFound)));
            assert!(names(&store, "", true).await.is_empty());
            put(&store, "a/b", &Bytes::from("old")).await;
        }
    }
}

/// Concurrent uploads, each with its bytes; their results in order.
async fn race(
    store: &Store,
    name: &str,
    bodies: &[Bytes],
    options: PutOptions,
) -> Vec<Result<Stored, StoreError>> {
    let uploads = bodies.iter().map(|bytes| {
        let (store, key, options) = (store.clone(), key(name), options.clone());
        let body = chunked(bytes, 100_000);
        tokio::spawn(async move { store.put(&key, body, options).await })
    });
    join_all(uploads).await.into_iter().map(Result::unwrap).collect()
}

pub(super) async fn one_of_many_wins_an_absent_key(store: Store) {
    for round in 0..20 {
        let name = format!("folder{round}/blob");
        let bodies: Vec<_> = (0..8).map(|seed| bytes(100_000, seed)).collect();
        let outcomes = race(&store, &name, &bodies, when(Condition::Absent)).await;
        let winners: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        for outcome in &outcomes {
            assert!(matches!(outcome, Ok(_) | Err(StoreError::AlreadyExists)), "{outcome:?}");
        }
        assert_eq!(read(&store, &name).await, bodies[winners[0]]);
    }
}

pub(super) async fn identical_uploads_at_once_all_succeed(store: Store) {
    for round in 0..4 {
        let name = format!("folder{round}/blob");
        let bodies = vec![bytes(200_000, round); 50];
        let outcomes = race(&store, &name, &bodies, when(Condition::AbsentOrIdentical)).await;
        let info = store.head(&key(&name)).await.unwrap();
        let mut changes = Vec::new();
        for outcome in outcomes {
            let stored = outcome.unwrap();
            assert_eq!(stored.info, info);
            changes.push(stored.change);
        }
        changes.retain(|change| *change != Change::Unchanged);
        assert_eq!(changes, [Change::Created], "one has created it");
        assert_eq!(read(&store, &name).await, bodies[0]);
    }
}

pub(super) async fn one_of_many_different_uploads_wins(store: Store) {
    for round in 0..10 {
        let name = format!("folder{round}/blob");
        let bodies: Vec<_> = (0..16).map(|seed| bytes(50_000, seed / 2)).collect();
        let outcomes = race(&store, &name, &bodies, when(Condition::AbsentOrIdentical)).await;
        let stored = read(&store, &name).await;
        for (bytes, outcome) in bodies.iter().zip(outcomes) {
            match outcome {
                Ok(_) => assert_eq!(*bytes, stored),
                Err(StoreError::AlreadyExists) => assert_ne!(*bytes, stored),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

pub(super) async fn one_of_many_wins_a_match(store: Store) {
    put(&store, "blob", &bytes(10, 99)).await;
    for _ in 0..20 {
        let etag = store.head(&key("blob")).await.unwrap().etag;
        let bodies: Vec<_> = (0..8).map(|seed| bytes(1000, seed)).collect();
        let outcomes = race(&store, "blob", &bodies, when(Condition::Matches(etag))).await;
        let winners: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(read(&store, "blob").await, bodies[winners[0]]);
    }
}

pub(super) async fn a_dropped_upload_leaves_nothing(store: Store) {
    put(&store, "a/old", &Bytes::from("old")).await;
    for name in ["a/new", "a/old", "deep/er/new"] {
        // Dropped after a little, after a batch, and halfway through the next one.
        for count in [1, 3, 9] {
            let (body, taken) = stalling((0..count).map(|seed| bytes(50_000, seed)).collect());
            let upload = tokio::spawn({
                let store = store.clone();
                async move { store.put(&key(name), body, PutOptions::default()).await }
            });
            while taken.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
            upload.abort();
            assert!(upload.await.unwrap_err().is_cancelled());
        }
    }
    assert_eq!(names(&store, "", true).await, ["a/old"]);
    assert_eq!(read(&store, "a/old").await, "old");
    put(&store, "deep/er/new", &bytes(10, 1)).await;
}
