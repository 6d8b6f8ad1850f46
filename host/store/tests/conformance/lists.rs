//! Listings, and joined blobs.

use super::*;

pub(super) async fn listings_are_sorted_by_bytes(store: Store) {
    let all = ["B", "a-b", "a/-", "a/b/c", "a/b-", "a/é", "a0", "b", "c/d/e", "c/d-"];
    for (index, name) in all.iter().enumerate() {
        put(&store, name, &bytes(index, index)).await;
    }
    let mut sorted = all.map(str::to_owned);
    sorted.sort_unstable();
    assert_eq!(names(&store, "", true).await, sorted);
    assert_eq!(names(&store, "", false).await, ["B", "a-b", "a/", "a0", "b", "c/"]);
    assert_eq!(names(&store, "a", false).await, ["a/-", "a/b-", "a/b/", "a/é"]);
    assert_eq!(names(&store, "a", true).await, ["a/-", "a/b-", "a/b/c", "a/é"]);
    assert_eq!(names(&store, "c/d", true).await, ["c/d/e"]);
    for max in [1, 2, 3, 1000] {
        let entries = entries(&store, "", true, max).await.unwrap();
        for entry in &entries {
            let index = all.iter().position(|name| *name == entry.key).unwrap();
            assert_eq!(entry.size, index as u64);
            assert!(!entry.folder);
        }
        assert_eq!(entries.len(), all.len());
    }
}

/// Everything after a position, for every position there is and for some in between.
pub(super) async fn a_listing_can_begin_after_a_name(store: Store) {
    let all = ["B", "a-b", "a/-", "a/b/c", "a/b-", "a/b0", "a/é", "a0", "b", "c/d/e", "c/d-"];
    for (index, name) in all.iter().enumerate() {
        put(&store, name, &bytes(index, index)).await;
    }
    let between = [
        "",
        "A",
        "C",
        "a",
        "a!",
        "a-",
        "a/",
        "a/a",
        "a/b",
        "a/b/",
        "a/b/b",
        "a/b/d",
        "a/z/y",
        "a1",
        "c/d",
        "c/d/",
        "c/d/e",
        "c/d/e/f",
        "c/d/f",
        "d",
        "zz/",
        "/",
        "a//b",
        "\u{10ffff}",
    ];
    for (folder, recursive) in [
        ("", true),
        ("", false),
        ("a", true),
        ("a", false),
        ("a/b", true),
        ("c", true),
        ("c", false),
    ] {
        let whole = entries(&store, folder, recursive, 100).await.unwrap();
        assert!(whole.is_sorted_by(|one, other| one.sort_key() < other.sort_key()));
        let places = whole.iter().map(|entry| entry.sort_key().into_owned());
        for after in between.map(str::to_owned).into_iter().chain(places) {
            let rest: Vec<_> = whole.iter().filter(|entry| *entry.sort_key() > *after).collect();
            let found = entries_after(&store, folder, recursive, 2, Some(&after)).await.unwrap();
            assert!(found.iter().eq(rest), "{folder:?} {recursive} after {after:?}: {found:?}");
        }
    }
    let outcome = entries_after(&store, "none", true, 1, Some("a")).await;
    assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
}

pub(super) async fn a_listing_contains_etags(store: Store) {
    for name in ["a", "b/c", "b/d/e"] {
        put(&store, name, &bytes(3, 1)).await;
    }
    for entry in entries(&store, "", true, 2).await.unwrap() {
        assert_eq!(entry.etag, store.head(&key(&entry.key)).await.unwrap().etag);
    }
    let flat = entries(&store, "", false, 2).await.unwrap();
    assert_eq!((flat[1].folder, flat[1].etag.as_str(), flat[0].etag.is_empty()), (true, "", false));
    let before = &flat[0].etag;
    put(&store, "a", &bytes(3, 1)).await;
    assert_ne!(entries(&store, "", false, 1).await.unwrap()[0].etag, *before);
}

pub(super) async fn a_missing_folder_is_not_found(store: Store) {
    assert!(names(&store, "", true).await.is_empty());
    assert!(names(&store, "", false).await.is_empty());
    for recursive in [true, false] {
        let outcome = entries(&store, "a", recursive, 1).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
    }
    // A failed upload made no folder.
    let outcome = store.put(&key("a/b"), broken(&bytes(10, 1)), PutOptions::default()).await;
    assert!(outcome.is_err());
    assert!(matches!(entries(&store, "a", true, 1).await, Err(StoreError::NotFound)));
}

pub(super) async fn a_long_listing_is_complete(store: Store) {
    let mut expected: Vec<_> =
        (0..1100).map(|index| format!("data/{:02x}/{index:05}", (index * 7) % 11)).collect();
    let uploads = expected.iter().map(async |name| put(&store, name, &bytes(1, 1)).await);
    join_all(uploads).await;
    expected.sort_unstable();
    for max in [1, 511, 512, 513, usize::MAX] {
        let entries = entries(&store, "data", true, max).await.unwrap();
        assert!(entries.iter().map(|entry| &entry.key).eq(&expected), "max {max}");
    }
}

pub(super) async fn asking_for_zero_entries_does_not_end_a_listing(store: Store) {
    put(&store, "blob", &bytes(1, 1)).await;
    let mut listing = store.list(&folder(""), true).await.unwrap();
    assert_eq!(listing.next(0).await.unwrap().len(), 1);
    assert!(listing.next(0).await.unwrap().is_empty());
}

pub(super) async fn a_listing_survives_concurrent_changes(store: Store) {
    for index in 0..200 {
        put(&store, &format!("stays/{index:04}"), &bytes(1, 1)).await;
        put(&store, &format!("stays/goes{index:04}/blob"), &bytes(1, 1)).await;
    }
    let churn = tokio::spawn({
        let store = store.clone();
        async move {
            for round in 0.. {
                let index = round % 200;
                store.delete(&key(&format!("stays/goes{index:04}/blob"))).await.unwrap();
                let name = format!("stays/new{index:04}");
                store.put(&key(&name), "x".into_body(), PutOptions::default()).await.unwrap();
                store.delete(&key(&name)).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for round in 0..30 {
        let entries = entries(&store, "stays", true, 1 + round * 7).await.unwrap();
        assert!(entries.is_sorted_by(|one, other| one.key < other.key));
        let lasting = entries.iter().filter(|entry| entry.key.len() == "stays/0000".len());
        assert_eq!(lasting.count(), 200);
    }
    churn.abort();
}

pub(super) async fn blobs_are_joined_in_order(store: Store) {
    let contents = [bytes(100_000, 1), Bytes::new(), bytes(1, 2), bytes(9_000_000, 3)];
    let mut names = Vec::new();
    for (index, piece) in contents.iter().enumerate() {
        let name = format!("parts/{index}");
        put(&store, &name, piece).await;
        names.push(key(&name));
    }
    let whole = Bytes::from(contents.concat());
    let options = PutOptions { content_type: Some("a/b".to_owned()), ..PutOptions::default() };
    let info = store.concat(&key("new/whole"), &pieces(&names), options).await.unwrap().info;
    assert_eq!((info.size, info.content_type.as_deref()), (whole.len() as u64, Some("a/b")));
    assert_eq!(read(&store, "new/whole").await, whole);
    for (name, piece) in names.iter().zip(&contents) {
        assert_eq!(read(&store, name.as_str()).await, piece);
    }
    store.concat(&key("checked"), &pieces(&names), verified(&whole)).await.unwrap();
    assert_eq!(read(&store, "checked").await, whole);
    // A blob may be appended to itself, and occur twice.
    let twice = [key("parts/0"), key("parts/2"), key("parts/0")];
    let stored =
        store.concat(&key("parts/0"), &pieces(&twice), PutOptions::default()).await.unwrap();
    assert_eq!(stored.change, Change::Replaced { size: 100_000 });
    let expected = [&contents[0][..], &contents[2], &contents[0]].concat();
    assert_eq!(read(&store, "parts/0").await, expected);
    let nothing = store.concat(&key("nothing"), &pieces(&[]), PutOptions::default()).await.unwrap();
    assert_eq!((nothing.info.size, nothing.change), (0, Change::Created));
}

pub(super) async fn pieces_of_blobs_are_joined(store: Store) {
    let (one, two) = (bytes(700_000, 1), bytes(9_000_000, 2));
    put(&store, "one", &one).await;
    put(&store, "two", &two).await;
    put(&store, "empty", &Bytes::new()).await;
    let piece = |name: &str, part| Piece { key: key(name), part };
    let slice = |offset, length| Part::Slice { offset, length };
    let some = [
        piece("two", slice(1, Some(8_500_001))),
        piece("one", Part::Suffix(3)),
        piece("empty", Part::Whole),
        piece("one", slice(699_990, Some(100))),
        piece("one", slice(5, None)),
        piece("two", Part::Suffix(u64::MAX)),
    ];
    let whole =
        [&two[1..8_500_002], &one[699_997..], &one[699_990..], &one[5..], &two[..]].concat();
    for options in [PutOptions::default(), verified(&whole), when(Condition::AbsentOrIdentical)] {
        let again = options.condition == Condition::AbsentOrIdentical;
        let stored = store.concat(&key("new/whole"), &some, options).await.unwrap();
        assert_eq!(stored.info.size, whole.len() as u64);
        assert_eq!(stored.change == Change::Unchanged, again);
        assert_eq!(read(&store, "new/whole").await, whole);
    }
    for (name, part, size) in [
        ("one", slice(700_000, None), 700_000),
        ("one", slice(3, Some(0)), 700_000),
        ("one", Part::Suffix(0), 700_000),
        ("empty", slice(0, None), 0),
    ] {
        let pieces = [piece("two", Part::Whole), piece(name, part)];
        let outcome = store.concat(&key("none"), &pieces, PutOptions::default()).await;
        let told = matches!(outcome, Err(StoreError::OutOfRange { size: told }) if told == size);
        assert!(told, "{name} {part:?}: {outcome:?}");
    }
    assert!(matches!(store.head(&key("none")).await, Err(StoreError::NotFound)));
}

pub(super) async fn joining_checks_the_conditions(store: Store) {
    put(&store, "one", &Bytes::from("one")).await;
    put(&store, "two", &Bytes::from("two")).await;
    let parts = [key("one"), key("two")];
    let missing = [key("one"), key("missing")];
    let outcome = store.concat(&key("new"), &pieces(&missing), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
    let outcome = store.concat(&key("new"), &pieces(&parts), verified(b"onetwo!")).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })), "{outcome:?}");
    assert_eq!(names(&store, "", true).await, ["one", "two"]);

    let info =
        store.concat(&key("new"), &pieces(&parts), when(Condition::Absent)).await.unwrap().info;
    let outcome = store.concat(&key("new"), &pieces(&parts), when(Condition::Absent)).await;
    assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    let same = store.concat(&key("new"), &pieces(&parts), when(Condition::AbsentOrIdentical)).await;
    assert_eq!(same.unwrap(), Stored { info: info.clone(), change: Change::Unchanged });
    let reversed = [key("two"), key("one")];
    let outcome =
        store.concat(&key("new"), &pieces(&reversed), when(Condition::AbsentOrIdentical)).await;
    assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    let matching = when(Condition::Matches(info.etag));
    store.concat(&key("new"), &pieces(&reversed), matching.clone()).await.unwrap();
    let outcome = store.concat(&key("new"), &pieces(&reversed), matching).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{outcome:?}");
    assert_eq!(read(&store, "new").await, "twoone");
}
