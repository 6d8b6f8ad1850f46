//! Moving blobs to other keys.

use super::*;

fn rename_when(condition: Condition) -> RenameOptions {
    RenameOptions { condition, ..RenameOptions::default() }
}

async fn rename(
    store: &Store,
    from: &str,
    to: &str,
    condition: Condition,
) -> Result<Stored, StoreError> {
    store.rename(&key(from), &key(to), rename_when(condition)).await
}

pub(super) async fn a_renamed_blob_takes_everything_along(store: Store) {
    let options = PutOptions {
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        metadata: vec![("b".to_owned(), "2".to_owned()), ("a".to_owned(), "é \"1\"".to_owned())],
        tags: vec![("kind".to_owned(), "test".to_owned())],
        ..PutOptions::default()
    };
    // The last one is large enough for a bucket to copy it.
    for (round, length) in [0, 5, 300_000, 6_000_000].into_iter().enumerate() {
        let (from, to) = (format!("a/b{round}"), format!("far/away{round}/c"));
        let bytes = bytes(length, round);
        let body = bytes.clone().into_body();
        let before = store.put(&key(&from), body, options.clone()).await.unwrap().info;
        let moved = rename(&store, &from, &to, Condition::Absent).await.unwrap();
        assert_eq!(moved.change, Change::Created);
        let info = moved.info;
        assert_eq!((info.key.as_str(), info.size), (to.as_str(), length as u64));
        assert_eq!((&info.content_type, &info.tags), (&options.content_type, &options.tags));
        assert_eq!(info.metadata, before.metadata, "the gateway's own stays too");
        assert_eq!(store.head(&key(&to)).await.unwrap(), info);
        assert_eq!(read(&store, &to).await, bytes);
        assert!(matches!(store.head(&key(&from)).await, Err(StoreError::NotFound)));
    }
    assert!(names(&store, "a", true).await.is_empty(), "the folder stays");
    // Within a folder, and back.
    put(&store, "f/one", &bytes(9, 1)).await;
    rename(&store, "f/one", "f/two", Condition::Always).await.unwrap();
    assert_eq!(names(&store, "f", true).await, ["f/two"]);
    rename(&store, "f/two", "f/one", Condition::Always).await.unwrap();
    assert_eq!(read(&store, "f/one").await, bytes(9, 1));
}

pub(super) async fn a_rename_checks_the_condition(store: Store) {
    put(&store, "a/one", &bytes(5, 1)).await;
    put(&store, "b/two", &bytes(6, 2)).await;
    let old = store.head(&key("b/two")).await.unwrap().etag;
    put(&store, "b/two", &bytes(7, 3)).await;
    let new = store.head(&key("b/two")).await.unwrap().etag;
    let there = || async {
        assert_eq!(names(&store, "", true).await, ["a/one", "b/two"]);
        assert_eq!(read(&store, "a/one").await, bytes(5, 1));
        assert_eq!(read(&store, "b/two").await, bytes(7, 3));
    };
    let outcome = rename(&store, "a/one", "b/two", Condition::Absent).await;
    assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    for (to, etag) in [("b/two", &old), ("b/none", &new), ("none/none", &new)] {
        let outcome = rename(&store, "a/one", to, Condition::Matches(etag.clone())).await;
        assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{to}: {outcome:?}");
    }
    for (from, to, condition) in [
        ("a/one", "b/two", Condition::AbsentOrIdentical),
        ("a/one", "a/one", Condition::Always),
        ("a/one", "b", Condition::Always),
        ("a/one", "b", Condition::Absent),
        ("a/one", "b/two/three", Condition::Always),
        ("a/one", "a/one/below", Condition::Always),
    ] {
        let outcome = rename(&store, from, to, condition.clone()).await;
        assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{to} {condition:?}: {outcome:?}");
    }
    for from in ["a/none", "none/none", "a", "a/one/below"] {
        for to in ["c/new", "b/two"] {
            let outcome = rename(&store, from, to, Condition::Always).await;
            assert!(matches!(outcome, Err(StoreError::NotFound)), "{from}: {outcome:?}");
        }
    }
    there().await;

    let moved = rename(&store, "a/one", "b/two", Condition::Matches(new)).await.unwrap();
    assert_eq!(moved.change, Change::Replaced { size: 7 });
    assert_eq!(names(&store, "", true).await, ["b/two"]);
    assert_eq!(read(&store, "b/two").await, bytes(5, 1));
    put(&store, "a/one", &bytes(8, 4)).await;
    let moved = rename(&store, "a/one", "b/two", Condition::Always).await.unwrap();
    assert_eq!(moved.change, Change::Replaced { size: 5 });
    assert_eq!(read(&store, "b/two").await, bytes(8, 4));
}

pub(super) async fn one_of_many_renames_wins(store: Store) {
    for round in 0..5 {
        let source = format!("queue/{round}");
        put(&store, &source, &bytes(1000, round)).await;
        let renames = (0..8_usize).map(|index| {
            let (store, source) = (store.clone(), source.clone());
            tokio::spawn(async move {
                rename(&store, &source, &format!("taken{index}/{round}"), Condition::Absent).await
            })
        });
        let outcomes: Vec<_> = join_all(renames).await.into_iter().map(Result::unwrap).collect();
        let won: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        for outcome in &outcomes {
            assert!(matches!(outcome, Ok(_) | Err(StoreError::NotFound)), "{outcome:?}");
        }
        assert_eq!(read(&store, &format!("taken{}/{round}", won[0])).await, bytes(1000, round));

        // Many blobs for one free key: the others stay where they are.
        for index in 0..8 {
            put(&store, &format!("many{round}/{index}"), &bytes(1000, index)).await;
        }
        let renames = (0..8).map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                let from = format!("many{round}/{index}");
                rename(&store, &from, &format!("one/{round}"), Condition::Absent).await
            })
        });
        let outcomes: Vec<_> = join_all(renames).await.into_iter().map(Result::unwrap).collect();
        let won: Vec<_> = (0..8).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        for (index, outcome) in outcomes.iter().enumerate() {
            let there = store.head(&key(&format!("many{round}/{index}"))).await;
            match outcome {
                Ok(_) => assert!(matches!(there, Err(StoreError::NotFound)), "{there:?}"),
                Err(StoreError::AlreadyExists) => assert_eq!(there.unwrap().size, 1000),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(read(&store, &format!("one/{round}")).await, bytes(1000, won[0]));
    }
}

/// Renames in both directions at once: no two calls wait for each other, and no blob is lost.
pub(super) async fn renames_in_a_circle_lose_nothing(store: Store) {
    let places = ["a", "f/b", "g/c", "g/d"];
    put(&store, "a", &bytes(10, 1)).await;
    let renames = (0..4_usize).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for step in 0..10_usize {
                let (from, to) = (places[(task + step) % 4], places[(task * 3 + step + 1) % 4]);
                if from == to {
                    continue;
                }
                match rename(&store, from, to, Condition::Always).await {
                    Ok(_) | Err(StoreError::NotFound) => {}
                    Err(other) => panic!("{from} to {to}: {other:?}"),
                }
            }
        })
    });
    for task in join_all(renames).await {
        task.unwrap();
    }
    let left = names(&store, "", true).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(read(&store, &left[0]).await, bytes(10, 1));
}

pub(super) async fn observers_of_a_rename_are_told_what_changed(store: Store) {
    put(&store, "a/one", &bytes(5, 1)).await;
    put(&store, "b/two", &bytes(6, 2)).await;
    let observed = |condition| {
        let (comes, goes) = (Arc::new(Notes::default()), Arc::new(Notes::default()));
        let handle = |notes: &Arc<Notes>| {
            let observer: Arc<dyn CommitObserver> = notes.clone();
            Some(ObserverHandle::new(observer))
        };
        let options = RenameOptions { condition, comes: handle(&comes), goes: handle(&goes) };
        (comes, goes, options)
    };
    let sizes = |notes: Arc<Notes>| {
        let told = notes.told().into_iter();
        told.map(|told| (told.removed.map(|gone| gone.size), told.size)).collect::<Vec<_>>()
    };
    for condition in [Condition::Absent, Condition::Matches("another".to_owned())] {
        let (comes, goes, options) = observed(condition);
        store.rename(&key("a/one"), &key("b/two"), options).await.unwrap_err();
        assert_eq!((comes.told(), goes.told()), (vec![], vec![]));
    }
    let (comes, goes, options) = observed(Condition::Always);
    store.rename(&key("a/one"), &key("b/two"), options).await.unwrap();
    assert_eq!(sizes(comes), [(Some(6), Some(5))]);
    assert_eq!(sizes(goes), [(Some(5), None)]);
    let (comes, goes, options) = observed(Condition::Absent);
    store.rename(&key("b/two"), &key("c/three"), options).await.unwrap();
    assert_eq!(sizes(comes), [(None, Some(5))]);
    assert_eq!(sizes(goes), [(Some(5), None)]);

    // One that refuses is heard before anything changes.
    let refusing: Arc<dyn CommitObserver> = Arc::new(Notes::refusing());
    let options =
        RenameOptions { comes: Some(ObserverHandle::new(refusing)), ..RenameOptions::default() };
    let outcome = store.rename(&key("c/three"), &key("d"), options).await;
    assert!(matches!(outcome, Err(StoreError::QuotaExceeded(_))), "{outcome:?}");
    assert_eq!(names(&store, "", true).await, ["c/three"]);
}
