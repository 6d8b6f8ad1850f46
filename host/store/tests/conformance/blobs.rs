//! What was stored can be read, with everything known about it; names and folders.

use super::*;

pub(super) async fn stored_blobs_can_be_read(store: Store) {
    for (index, length) in [0, 1, 1000, 65_536, 131_072, 131_073, 1_000_000].into_iter().enumerate()
    {
        let bytes = bytes(length, index);
        let name = format!("a/b{index}");
        let info =
            store.put(&key(&name), bytes.clone().into_body(), verified(&bytes)).await.unwrap().info;
        assert_eq!(info.size, length as u64);
        assert_eq!(read(&store, &name).await, bytes);
    }
}

pub(super) async fn parts_are_clamped_to_the_blob(store: Store) {
    let bytes = bytes(300_000, 1);
    put(&store, "blob", &bytes).await;
    put(&store, "empty", &Bytes::new()).await;
    let slice = |offset, length| Part::Slice { offset, length };
    for (part, range) in [
        (Part::Whole, 0..300_000),
        (slice(0, None), 0..300_000),
        (slice(0, Some(1)), 0..1),
        (slice(7, Some(200_000)), 7..200_007),
        (slice(299_999, None), 299_999..300_000),
        (slice(299_990, Some(u64::MAX)), 299_990..300_000),
        (Part::Suffix(5), 299_995..300_000),
        (Part::Suffix(u64::MAX), 0..300_000),
    ] {
        let download = store.get(&key("blob"), part).await.unwrap();
        assert_eq!(download.offset, range.start as u64, "{part:?}");
        assert_eq!(download.info.size, 300_000);
        assert_eq!(read_part(&store, "blob", part).await.unwrap(), bytes.slice(range), "{part:?}");
    }
    for part in [slice(300_000, None), slice(u64::MAX, Some(1)), slice(0, Some(0)), Part::Suffix(0)]
    {
        let outcome = store.get(&key("blob"), part).await;
        assert!(matches!(outcome, Err(StoreError::OutOfRange { size: 300_000 })), "{part:?}");
    }
    assert!(read(&store, "empty").await.is_empty());
    let outcome = store.get(&key("empty"), slice(0, None)).await;
    assert!(matches!(outcome, Err(StoreError::OutOfRange { size: 0 })));
}

pub(super) async fn the_chunks_of_a_body_make_no_difference(store: Store) {
    let bytes = bytes(700_001, 3);
    for size in [100, 4096, 65_536, 131_072, 200_000, 700_001] {
        store.put(&key("blob"), chunked(&bytes, size), verified(&bytes)).await.unwrap();
        assert_eq!(read(&store, "blob").await, bytes, "chunks of {size}");
    }
    // Without an announced length, and with empty chunks among them.
    let chunks: Vec<_> = bytes
        .chunks(50_000)
        .flat_map(|chunk| [Bytes::copy_from_slice(chunk), Bytes::new()])
        .collect();
    let body = Body::from_stream(None, stream::iter(chunks.into_iter().map(Ok)));
    store.put(&key("blob"), body, verified(&bytes)).await.unwrap();
    assert_eq!(read(&store, "blob").await, bytes);
}

pub(super) async fn info_is_the_same_from_everywhere(store: Store) {
    let options = PutOptions {
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        metadata: vec![("b".to_owned(), "2".to_owned()), ("a".to_owned(), "é \"1\"".to_owned())],
        tags: vec![("kind".to_owned(), "".to_owned())],
        ..PutOptions::default()
    };
    let before = SystemTime::now();
    let stored = store.put(&key("a/b"), "hello".into_body(), options.clone()).await.unwrap();
    let info = stored.info;
    assert_eq!(info.key, key("a/b"));
    assert_eq!(info.size, 5);
    assert_eq!(info.content_type, options.content_type);
    let theirs = |(name, _): &&(String, String)| !keepgate_store::is_reserved_metadata(name);
    assert!(info.metadata.iter().filter(theirs).eq(&options.metadata), "{info:?}");
    assert_eq!(info.tags, options.tags);
    assert!(
        info.modified >= as_precise(before, info.modified) && info.modified <= SystemTime::now()
    );
    assert!(!info.etag.is_empty() && !info.etag.contains(['"', ' ']));
    assert_eq!(store.head(&key("a/b")).await.unwrap(), info);
    assert_eq!(store.get(&key("a/b"), Part::Suffix(1)).await.unwrap().info, info);
    let entry = entries(&store, "a", true, 10).await.unwrap().remove(0);
    assert_eq!((entry.key.as_str(), entry.size, entry.modified), ("a/b", 5, info.modified));

    // After a replacement without them, it has none.
    let stored = store.put(&key("a/b"), "hello".into_body(), PutOptions::default()).await.unwrap();
    let info = stored.info;
    assert_eq!(info.metadata.iter().filter(theirs).count(), 0, "{info:?}");
    assert_eq!((info.content_type, info.tags), (None, vec![]));
}

/// A time, in whole seconds if the other one is: some stores count no fractions.
fn as_precise(time: SystemTime, other: SystemTime) -> SystemTime {
    let fraction =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    if fraction(other) > 0 {
        return time;
    }
    time - Duration::from_nanos(fraction(time).into())
}

pub(super) async fn an_etag_never_comes_back(store: Store) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let stored =
            store.put(&key("blob"), "same".into_body(), PutOptions::default()).await.unwrap();
        assert!(seen.insert(stored.info.etag), "an etag was given twice");
        store.delete(&key("blob")).await.unwrap();
    }
}

pub(super) async fn a_missing_blob_is_not_found(store: Store) {
    put(&store, "a/there", &bytes(1, 1)).await;
    for name in ["b", "a/b", "a/b/c", "a/there/b", "x/y/z"] {
        assert!(matches!(store.head(&key(name)).await, Err(StoreError::NotFound)), "{name}");
        let outcome = store.get(&key(name), Part::Whole).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{name}");
        assert_eq!(store.delete(&key(name)).await.unwrap(), None, "{name}");
    }
}

pub(super) async fn a_folder_is_not_a_blob_and_a_blob_not_a_folder(store: Store) {
    put(&store, "folder/blob", &bytes(10, 1)).await;
    assert!(matches!(store.head(&key("folder")).await, Err(StoreError::NotFound)));
    let outcome = store.get(&key("folder"), Part::Whole).await;
    assert!(matches!(outcome, Err(StoreError::NotFound)));
    assert_eq!(store.delete(&key("folder")).await.unwrap(), None);
    for name in ["folder", "folder/blob/below", "folder/blob/far/below"] {
        for condition in [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical] {
            let outcome = store.put(&key(name), "x".into_body(), when(condition)).await;
            assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{name}: {outcome:?}");
            let outcome = store.concat(&key(name), &pieces(&[]), PutOptions::default()).await;
            assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{name}: {outcome:?}");
        }
    }
    for name in ["folder/blob", "folder/blob/below"] {
        let outcome = entries(&store, name, true, 1).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
        let outcome = store.prepare(&[folder(name)]).await;
        assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{outcome:?}");
    }
    assert_eq!(names(&store, "", true).await, ["folder/blob"]);
}

pub(super) async fn deleting_is_idempotent_and_keeps_folders(store: Store) {
    put(&store, "a/b/c", &bytes(10, 1)).await;
    assert_eq!(store.delete(&key("a/b/c")).await.unwrap(), Some(10));
    assert_eq!(store.delete(&key("a/b/c")).await.unwrap(), None);
    assert!(names(&store, "a/b", true).await.is_empty());
    assert_eq!(names(&store, "a", false).await, ["a/b/"]);
    // Of many concurrent calls, one has deleted it.
    put(&store, "a/b/c", &bytes(10, 1)).await;
    let blob = key("a/b/c");
    let deleted = join_all((0..8).map(|_| store.delete(&blob))).await;
    let sizes: Vec<_> = deleted.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(sizes, [10]);
}

pub(super) async fn deleting_can_be_conditional(store: Store) {
    let matching = |etag: &str| DeleteOptions { matches: Some(etag.to_owned()), observer: None };
    put(&store, "a/b", &bytes(10, 1)).await;
    let old = store.head(&key("a/b")).await.unwrap().etag;
    put(&store, "a/b", &bytes(10, 1)).await;
    let new = store.head(&key("a/b")).await.unwrap().etag;
    // A changed blob, a missing one, a folder, a missing folder: none of them matches.
    for (name, etag) in [("a/b", &old), ("a/c", &new), ("a", &new), ("x/y", &new), ("a/b/c", &new)]
    {
        let outcome = store.delete_with(&key(name), matching(etag)).await;
        assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{name}: {outcome:?}");
    }
    assert_eq!(read(&store, "a/b").await, bytes(10, 1));
    assert_eq!(store.delete_with(&key("a/b"), matching(&new)).await.unwrap(), Some(10));
    let outcome = store.delete_with(&key("a/b"), matching(&new)).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{outcome:?}");
}

/// Of two callers that know the same state of a blob, one changes it: a conditional delete never
/// removes a newer blob, and a blob that was replaced conditionally is not deleted.
pub(super) async fn one_of_a_put_and_a_delete_wins_a_match(store: Store) {
    for round in 0..60 {
        put(&store, "blob", &bytes(1000, round)).await;
        let etag = store.head(&key("blob")).await.unwrap().etag;
        let replacing = tokio::spawn({
            let (store, options) = (store.clone(), when(Condition::Matches(etag.clone())));
            async move { store.put(&key("blob"), bytes(7, round).into_body(), options).await }
        });
        let options = DeleteOptions { matches: Some(etag), observer: None };
        let deleted = store.delete_with(&key("blob"), options).await;
        let replaced = replacing.await.unwrap();
        match (deleted, replaced) {
            (Ok(Some(1000)), Err(StoreError::PreconditionFailed)) => {
                assert!(names(&store, "", true).await.is_empty());
            }
            (Err(StoreError::PreconditionFailed), Ok(stored)) => {
                assert_eq!(stored.change, Change::Replaced { size: 1000 });
                assert_eq!(read(&store, "blob").await, bytes(7, round));
            }
            both => panic!("round {round}: {both:?}"),
        }
    }
}

pub(super) async fn folders_are_prepared(store: Store) {
    let mut folders: Vec<_> =
        (0..=255).map(|index| folder(&format!("repo/data/{index:02x}"))).collect();
    folders.push(folder("repo/keys"));
    folders.push(folder(""));
    for _ in 0..2 {
        store.prepare(&folders).await.unwrap();
        assert_eq!(names(&store, "repo", false).await, ["repo/data/", "repo/keys/"]);
        assert_eq!(names(&store, "repo/data", false).await.len(), 256);
        assert!(names(&store, "repo", true).await.is_empty());
        put(&store, "repo/data/00/blob", &bytes(1, 1)).await;
        store.delete(&key("repo/data/00/blob")).await.unwrap();
    }
    store.prepare(&[]).await.unwrap();
}

pub(super) async fn the_longest_names_work(store: Store) {
    // Leaves room for the name of a subfolder.
    let name = [["x".repeat(255).as_str(); 3].join("/"), "y".repeat(200)].join("/");
    let bytes = bytes(100, 1);
    put(&store, &name, &bytes).await;
    assert_eq!(read(&store, &name).await, bytes);
    assert_eq!(names(&store, "", true).await, std::slice::from_ref(&name));
    assert_eq!(store.delete(&Key::new(name).unwrap()).await.unwrap(), Some(100));
    for odd in ["a\nb", " ", "~", "*", "-rf", "ключ", "a:b", "\\", "..."] {
        put(&store, &format!("odd/{odd}"), &bytes).await;
        assert_eq!(read(&store, &format!("odd/{odd}")).await, bytes);
    }
    assert_eq!(names(&store, "odd", true).await.len(), 9);
    let soon = SystemTime::now() + Duration::from_secs(1);
    assert!(
        entries(&store, "odd", true, 100).await.unwrap().iter().all(|entry| entry.modified < soon)
    );
}
