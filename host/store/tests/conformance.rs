//! What every store promises, held against each of them: the disk in all its ways of working,
//! memory, and both through guards. A case knows nothing of the store that it is given.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests say plainly what they expect"
)]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::*;
use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::guard::{AppendOnly, Policy, Subfolder};
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{FolderRule, Quota, QuotaOptions, Rules, UserRule};
use keepgate_store::{
    Body, BodyError, Change, Changed, Condition, Key, Observer, Part, PutOptions, StoreError,
    Stored, Witness,
};
use tempfile::TempDir;

/// Runs every case against every store, each time on a new one.
macro_rules! conformance {
    (stores: $($store:ident)*; cases: $cases:tt) => {
        $(conformance!(@store $store $cases);)*
    };
    (@store $store:ident { $($case:ident)* }) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (_dir, store) = super::make::$store();
                    super::$case(store).await;
                }
            )*
        }
    };
}

conformance! {
    stores:
        disk disk_in_memory disk_without_openat2 disk_with_named_files disk_with_hard_links disk_with_neither
        memory
        disk_behind_append_only disk_subfolder memory_behind_append_only memory_subfolder
        disk_in_quota memory_in_quota
        unguarded;
    cases: {
        what_was_put_can_be_read
        parts_are_clamped_to_the_blob
        every_way_to_chunk_a_body_stores_the_same
        info_is_the_same_from_everywhere
        an_etag_never_comes_back
        what_is_missing_is_not_found
        absent_fails_before_the_body_is_read
        absent_or_identical_compares
        matches_replaces_only_what_it_knows
        wrong_bytes_are_not_stored
        a_body_that_breaks_off_is_not_stored
        one_of_many_wins_an_absent_key
        identical_uploads_at_once_all_succeed
        one_of_many_different_uploads_wins
        one_of_many_wins_a_match
        an_upload_that_is_dropped_leaves_nothing
        a_folder_is_no_blob_and_a_blob_no_folder
        deleting_is_idempotent_and_keeps_folders
        listings_are_in_order_of_bytes
        a_missing_folder_is_not_found
        many_blobs_are_listed_whole
        asking_for_no_entries_is_not_the_end
        a_listing_survives_changes
        parts_are_joined_in_order
        joining_keeps_the_conditions
        folders_are_prepared
        the_longest_names_work
        what_changes_adds_up
        a_witness_is_told_what_changed
        a_witness_is_let_go
        a_witness_may_refuse_to_join
    }
}

mod make {
    use super::*;

    type Made = (Option<TempDir>, Store);

    fn disk_with(features: Features) -> Made {
        let dir = TempDir::new().unwrap();
        let options = DiskOptions { features, ..DiskOptions::default() };
        let store = DiskStore::open(dir.path(), options).unwrap();
        (Some(dir), Arc::new(store))
    }

    pub(super) fn disk() -> Made {
        disk_with(Features::default())
    }

    /// Where files without a name are used for certain.
    pub(super) fn disk_in_memory() -> Made {
        let dir = in_memory().unwrap_or_else(|| TempDir::new().unwrap());
        let store = DiskStore::open(dir.path(), DiskOptions::default()).unwrap();
        (Some(dir), Arc::new(store))
    }

    pub(super) fn disk_without_openat2() -> Made {
        disk_with(Features { openat2: false, ..Features::default() })
    }

    pub(super) fn disk_with_named_files() -> Made {
        disk_with(Features { unnamed_files: false, ..Features::default() })
    }

    pub(super) fn disk_with_hard_links() -> Made {
        disk_with(Features { unnamed_files: false, rename_noreplace: false, ..Features::default() })
    }

    pub(super) fn disk_with_neither() -> Made {
        disk_with(Features {
            unnamed_files: false,
            rename_noreplace: false,
            hard_links: false,
            openat2: true,
        })
    }

    pub(super) fn memory() -> Made {
        (None, Arc::new(MemoryStore::new()))
    }

    /// With everything excepted, the guard must not be felt.
    fn behind_append_only((dir, store): Made) -> Made {
        (dir, Arc::new(AppendOnly::new(store, &["**".to_owned()]).unwrap()))
    }

    fn in_subfolder((dir, store): Made) -> Made {
        let folder = folder("some/folder");
        (dir, Arc::new(Subfolder::new(store, folder)))
    }

    pub(super) fn disk_behind_append_only() -> Made {
        behind_append_only(disk())
    }

    pub(super) fn disk_subfolder() -> Made {
        let made = disk();
        std::fs::create_dir_all(made.0.as_ref().unwrap().path().join("some/folder")).unwrap();
        in_subfolder(made)
    }

    pub(super) fn memory_behind_append_only() -> Made {
        behind_append_only(memory())
    }

    pub(super) fn memory_subfolder() -> Made {
        let (dir, store) = memory();
        // Ready at once, in memory.
        store.prepare(&[folder("some/folder")]).now_or_never().unwrap().unwrap();
        in_subfolder((dir, store))
    }

    /// Limits that are never reached must not be felt.
    fn in_quota((dir, store): Made) -> Made {
        let state = TempDir::new().unwrap();
        let folder = FolderRule { pattern: "**".to_owned(), limit: 1 << 40 };
        let user = UserRule { user: "*".to_owned(), limit: 1 << 40 };
        let rules = Rules { total: Some(1 << 40), folders: vec![folder], users: vec![user] };
        let options = QuotaOptions { state_file: state.path().join("quota"), recount_every: None };
        let quota = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(Quota::open(store, rules, options))
        });
        // Nothing else holds the folder of the disk, and so it must outlive the quota.
        let dir = dir.unwrap_or(state);
        (Some(dir), quota.unwrap().store(Some("alice")))
    }

    pub(super) fn disk_in_quota() -> Made {
        in_quota(disk())
    }

    pub(super) fn memory_in_quota() -> Made {
        in_quota(memory())
    }

    pub(super) fn unguarded() -> Made {
        let (dir, store) = disk();
        (dir, Policy::default().guard(store).unwrap())
    }
}

async fn what_was_put_can_be_read(store: Store) {
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

async fn parts_are_clamped_to_the_blob(store: Store) {
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

async fn every_way_to_chunk_a_body_stores_the_same(store: Store) {
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

async fn info_is_the_same_from_everywhere(store: Store) {
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
    assert!(info.modified >= before && info.modified <= SystemTime::now());
    assert!(!info.etag.is_empty() && !info.etag.contains(['"', ' ']));
    assert_eq!(store.head(&key("a/b")).await.unwrap(), info);
    assert_eq!(store.get(&key("a/b"), Part::Suffix(1)).await.unwrap().info, info);
    let entry = entries(&store, "a", true, 10).await.unwrap().remove(0);
    assert_eq!((entry.key.as_str(), entry.size, entry.modified), ("a/b", 5, info.modified));

    // Replaced without them, it has none.
    let stored = store.put(&key("a/b"), "hello".into_body(), PutOptions::default()).await.unwrap();
    let info = stored.info;
    assert_eq!(info.metadata.iter().filter(theirs).count(), 0, "{info:?}");
    assert_eq!((info.content_type, info.tags), (None, vec![]));
}

async fn an_etag_never_comes_back(store: Store) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let stored =
            store.put(&key("blob"), "same".into_body(), PutOptions::default()).await.unwrap();
        assert!(seen.insert(stored.info.etag), "an etag was given twice");
        store.delete(&key("blob")).await.unwrap();
    }
}

async fn what_is_missing_is_not_found(store: Store) {
    put(&store, "a/there", &bytes(1, 1)).await;
    for name in ["b", "a/b", "a/b/c", "a/there/b", "x/y/z"] {
        assert!(matches!(store.head(&key(name)).await, Err(StoreError::NotFound)), "{name}");
        let outcome = store.get(&key(name), Part::Whole).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{name}");
        assert_eq!(store.delete(&key(name)).await.unwrap(), None, "{name}");
    }
}

async fn absent_fails_before_the_body_is_read(store: Store) {
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

async fn absent_or_identical_compares(store: Store) {
    let first = bytes(300_000, 1);
    let mut changed = first.to_vec();
    changed[299_999] ^= 1;
    let changed = Bytes::from(changed);
    let condition = || when(Condition::AbsentOrIdentical);
    let checked = |bytes: &Bytes| PutOptions { sha256: Some(sha256(bytes)), ..condition() };
    let blob = key("a/b");

    // A free key: the bytes must be the right ones.
    let outcome = store.put(&blob, chunked(&first, 9999), checked(&changed)).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })), "{outcome:?}");
    let stored = store.put(&blob, chunked(&first, 9999), checked(&first)).await.unwrap();
    assert_eq!(stored.change, Change::Created);
    let info = stored.info;

    // A taken key: the same bytes are let pass, and nothing changes.
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
    // Bytes that are not what they should be never succeed, be they those that are there or not.
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

async fn matches_replaces_only_what_it_knows(store: Store) {
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

    // Replaced while the body is on its way.
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

async fn wrong_bytes_are_not_stored(store: Store) {
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

async fn a_body_that_breaks_off_is_not_stored(store: Store) {
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

/// Uploads at once, with the bytes of each; their outcomes in order.
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

async fn one_of_many_wins_an_absent_key(store: Store) {
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

async fn identical_uploads_at_once_all_succeed(store: Store) {
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

async fn one_of_many_different_uploads_wins(store: Store) {
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

async fn one_of_many_wins_a_match(store: Store) {
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

async fn an_upload_that_is_dropped_leaves_nothing(store: Store) {
    put(&store, "a/old", &Bytes::from("old")).await;
    for name in ["a/new", "a/old", "deep/er/new"] {
        // Dropped after a little, after a batch, in the midst of the next.
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

async fn a_folder_is_no_blob_and_a_blob_no_folder(store: Store) {
    put(&store, "folder/blob", &bytes(10, 1)).await;
    assert!(matches!(store.head(&key("folder")).await, Err(StoreError::NotFound)));
    let outcome = store.get(&key("folder"), Part::Whole).await;
    assert!(matches!(outcome, Err(StoreError::NotFound)));
    assert_eq!(store.delete(&key("folder")).await.unwrap(), None);
    for name in ["folder", "folder/blob/below", "folder/blob/far/below"] {
        for condition in [Condition::Always, Condition::Absent, Condition::AbsentOrIdentical] {
            let outcome = store.put(&key(name), "x".into_body(), when(condition)).await;
            assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{name}: {outcome:?}");
            let outcome = store.concat(&key(name), &[], PutOptions::default()).await;
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

async fn deleting_is_idempotent_and_keeps_folders(store: Store) {
    put(&store, "a/b/c", &bytes(10, 1)).await;
    assert_eq!(store.delete(&key("a/b/c")).await.unwrap(), Some(10));
    assert_eq!(store.delete(&key("a/b/c")).await.unwrap(), None);
    assert!(names(&store, "a/b", true).await.is_empty());
    assert_eq!(names(&store, "a", false).await, ["a/b/"]);
    // Of many at once, one has deleted it.
    put(&store, "a/b/c", &bytes(10, 1)).await;
    let blob = key("a/b/c");
    let deleted = join_all((0..8).map(|_| store.delete(&blob))).await;
    let sizes: Vec<_> = deleted.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(sizes, [10]);
}

async fn listings_are_in_order_of_bytes(store: Store) {
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

async fn a_missing_folder_is_not_found(store: Store) {
    assert!(names(&store, "", true).await.is_empty());
    assert!(names(&store, "", false).await.is_empty());
    for recursive in [true, false] {
        let outcome = entries(&store, "a", recursive, 1).await;
        assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
    }
    // An upload that came to nothing made no folder.
    let outcome = store.put(&key("a/b"), broken(&bytes(10, 1)), PutOptions::default()).await;
    assert!(outcome.is_err());
    assert!(matches!(entries(&store, "a", true, 1).await, Err(StoreError::NotFound)));
}

async fn many_blobs_are_listed_whole(store: Store) {
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

async fn asking_for_no_entries_is_not_the_end(store: Store) {
    put(&store, "blob", &bytes(1, 1)).await;
    let mut listing = store.list(&folder(""), true).await.unwrap();
    assert_eq!(listing.next(0).await.unwrap().len(), 1);
    assert!(listing.next(0).await.unwrap().is_empty());
}

async fn a_listing_survives_changes(store: Store) {
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

async fn parts_are_joined_in_order(store: Store) {
    let pieces = [bytes(100_000, 1), Bytes::new(), bytes(1, 2), bytes(9_000_000, 3)];
    let mut names = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let name = format!("parts/{index}");
        put(&store, &name, piece).await;
        names.push(key(&name));
    }
    let whole = Bytes::from(pieces.concat());
    let options = PutOptions { content_type: Some("a/b".to_owned()), ..PutOptions::default() };
    let info = store.concat(&key("new/whole"), &names, options).await.unwrap().info;
    assert_eq!((info.size, info.content_type.as_deref()), (whole.len() as u64, Some("a/b")));
    assert_eq!(read(&store, "new/whole").await, whole);
    for (name, piece) in names.iter().zip(&pieces) {
        assert_eq!(read(&store, name.as_str()).await, piece);
    }
    store.concat(&key("checked"), &names, verified(&whole)).await.unwrap();
    assert_eq!(read(&store, "checked").await, whole);
    // A blob may be appended to itself, and be a part twice.
    let twice = [key("parts/0"), key("parts/2"), key("parts/0")];
    let stored = store.concat(&key("parts/0"), &twice, PutOptions::default()).await.unwrap();
    assert_eq!(stored.change, Change::Replaced { size: 100_000 });
    let expected = [&pieces[0][..], &pieces[2], &pieces[0]].concat();
    assert_eq!(read(&store, "parts/0").await, expected);
    let nothing = store.concat(&key("nothing"), &[], PutOptions::default()).await.unwrap();
    assert_eq!((nothing.info.size, nothing.change), (0, Change::Created));
}

async fn joining_keeps_the_conditions(store: Store) {
    put(&store, "one", &Bytes::from("one")).await;
    put(&store, "two", &Bytes::from("two")).await;
    let parts = [key("one"), key("two")];
    let missing = [key("one"), key("missing")];
    let outcome = store.concat(&key("new"), &missing, PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::NotFound)), "{outcome:?}");
    let outcome = store.concat(&key("new"), &parts, verified(b"onetwo!")).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })), "{outcome:?}");
    assert_eq!(names(&store, "", true).await, ["one", "two"]);

    let info = store.concat(&key("new"), &parts, when(Condition::Absent)).await.unwrap().info;
    let outcome = store.concat(&key("new"), &parts, when(Condition::Absent)).await;
    assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    let same = store.concat(&key("new"), &parts, when(Condition::AbsentOrIdentical)).await;
    assert_eq!(same.unwrap(), Stored { info: info.clone(), change: Change::Unchanged });
    let reversed = [key("two"), key("one")];
    let outcome = store.concat(&key("new"), &reversed, when(Condition::AbsentOrIdentical)).await;
    assert!(matches!(outcome, Err(StoreError::AlreadyExists)), "{outcome:?}");
    let matching = when(Condition::Matches(info.etag));
    store.concat(&key("new"), &reversed, matching.clone()).await.unwrap();
    let outcome = store.concat(&key("new"), &reversed, matching).await;
    assert!(matches!(outcome, Err(StoreError::PreconditionFailed)), "{outcome:?}");
    assert_eq!(read(&store, "new").await, "twoone");
}

async fn folders_are_prepared(store: Store) {
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

async fn the_longest_names_work(store: Store) {
    // Room is left for the folder of a subfolder.
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

async fn what_changes_adds_up(store: Store) {
    for round in 0..10_usize {
        let name = format!("folder/blob{}", round % 3);
        let calls = (0..12_usize).map(|index| {
            let (store, key) = (store.clone(), key(&name));
            tokio::spawn(async move {
                if index % 4 == 3 {
                    return -(store.delete(&key).await.unwrap().unwrap_or(0) as i64);
                }
                let length = 1 + index * 1000;
                let body = chunked(&bytes(length, round), 700);
                let stored = store.put(&key, body, PutOptions::default()).await.unwrap();
                match stored.change {
                    Change::Created => length as i64,
                    Change::Replaced { size } => length as i64 - size as i64,
                    Change::Unchanged => 0,
                }
            })
        });
        let sum: i64 = join_all(calls).await.into_iter().map(Result::unwrap).sum();
        let there = store.delete(&key(&name)).await.unwrap();
        assert_eq!(sum, there.unwrap_or(0) as i64);
    }
}

#[derive(Debug, Default)]
struct Notes {
    /// None between `before` and `after`.
    changes: Mutex<Vec<Option<Option<Changed>>>>,
    refuse: bool,
}

impl Witness for Notes {
    fn admit(&self, _: u64) -> keepgate_store::Result<()> {
        if self.refuse {
            return Err(StoreError::QuotaExceeded("refused".to_owned()));
        }
        Ok(())
    }

    fn before(&self) -> Result<bool, StoreError> {
        self.changes.lock().unwrap().push(None);
        Ok(true)
    }

    fn after(&self, changed: Option<Changed>) {
        let before = self.changes.lock().unwrap().last_mut().unwrap().replace(changed);
        assert!(before.is_none(), "told twice");
    }
}

impl Notes {
    /// What it was told, where the store has let it go.
    fn told(self: Arc<Self>) -> Vec<Changed> {
        // The store holds it no more.
        let notes = Arc::into_inner(self).unwrap();
        let changes = notes.changes.into_inner().unwrap();
        // After every `before` it was told the end.
        changes.into_iter().filter_map(Option::unwrap).collect()
    }
}

fn noted(options: PutOptions) -> (Arc<Notes>, PutOptions) {
    let notes = Arc::new(Notes::default());
    let witness: Arc<dyn Witness> = notes.clone();
    (notes, PutOptions { witness: Some(Observer::new(witness)), ..options })
}

async fn a_witness_is_told_what_changed(store: Store) {
    let blob = key("a/b");
    let metadata = vec![("name".to_owned(), "value".to_owned())];
    let with = |condition| PutOptions { metadata: metadata.clone(), ..when(condition) };
    // Where users are counted, more is kept than the caller knows.
    let went = |told: &Changed, size| {
        let gone = told.gone.as_ref().unwrap();
        assert_eq!(gone.size, size);
        assert!(gone.metadata.contains(&metadata[0]), "{gone:?}");
    };

    let (notes, options) = noted(with(Condition::Always));
    store.put(&blob, bytes(9, 1).into_body(), options).await.unwrap();
    assert_eq!(notes.told(), [Changed { gone: None, came: Some(9) }]);
    for body in [bytes(9, 1).into_body(), chunked(&bytes(9, 1), 2)] {
        let (notes, options) = noted(with(Condition::AbsentOrIdentical));
        store.put(&blob, body, options).await.unwrap();
        assert_eq!(notes.told(), []);
    }
    let (notes, options) = noted(with(Condition::Always));
    let etag = store.put(&blob, chunked(&bytes(7, 2), 2), options).await.unwrap().info.etag;
    let told = notes.told();
    assert_eq!((told.len(), told[0].came), (1, Some(7)));
    went(&told[0], 9);
    let (notes, options) = noted(with(Condition::Matches(etag)));
    store.concat(&blob, &[blob.clone(), blob.clone()], options).await.unwrap();
    let told = notes.told();
    assert_eq!((told.len(), told[0].came), (1, Some(14)));
    went(&told[0], 7);

    let notes = Arc::new(Notes::default());
    for expected in [Some(14), None] {
        let witness: Arc<dyn Witness> = notes.clone();
        let deleted = store.delete_observed(&blob, Some(Observer::new(witness))).await;
        assert_eq!(deleted.unwrap(), expected);
    }
    let told = notes.told();
    assert_eq!((told.len(), told[0].came), (1, None));
    went(&told[0], 14);
}

async fn a_witness_is_let_go(store: Store) {
    let blob = key("a/b");
    put(&store, "a/b", &bytes(9, 1)).await;
    // Whatever a call ends with, nobody holds its witness afterwards, and nothing was changed.
    for condition in
        [Condition::Absent, Condition::AbsentOrIdentical, Condition::Matches("another".to_owned())]
    {
        for body in [bytes(8, 2).into_body(), chunked(&bytes(8, 2), 2)] {
            let (notes, options) = noted(when(condition.clone()));
            store.put(&blob, body, options).await.unwrap_err();
            assert_eq!(notes.told(), []);
        }
    }
    for body in [broken(&bytes(400_000, 1)), short(&bytes(400_000, 1), 400_001)] {
        let (notes, options) = noted(PutOptions::default());
        store.put(&blob, body, options).await.unwrap_err();
        assert_eq!(notes.told(), []);
    }
    let (notes, options) = noted(verified(b"other"));
    store.put(&blob, bytes(9, 1).into_body(), options).await.unwrap_err();
    assert_eq!(notes.told(), []);

    // A future that is dropped: as soon as nothing can come of it any more.
    for count in [1, 9] {
        let (notes, options) = noted(PutOptions::default());
        let (body, taken) = stalling((0..count).map(|seed| bytes(50_000, seed)).collect());
        let upload = tokio::spawn({
            let (store, blob) = (store.clone(), blob.clone());
            async move { store.put(&blob, body, options).await }
        });
        while taken.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());
        while Arc::strong_count(&notes) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(notes.told(), []);
    }
    // One that is dropped in the midst of its commit, or before: told of what became of it.
    for round in 0..200 {
        let (notes, options) = noted(PutOptions::default());
        let body = bytes(10, round).into_body();
        let upload = tokio::spawn({
            let store = store.clone();
            async move { store.put(&key("a/new"), body, options).await }
        });
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        upload.abort();
        let _ = upload.await;
        while Arc::strong_count(&notes) > 1 {
            tokio::task::yield_now().await;
        }
        let told = notes.told();
        let there = store.delete(&key("a/new")).await.unwrap();
        assert_eq!(told.first().and_then(|changed| changed.came), there);
    }
}

async fn a_witness_may_refuse_to_join(store: Store) {
    put(&store, "one", &bytes(5, 1)).await;
    let notes = Arc::new(Notes { refuse: true, ..Notes::default() });
    let witness: Arc<dyn Witness> = notes.clone();
    let options = PutOptions { witness: Some(Observer::new(witness)), ..PutOptions::default() };
    let outcome = store.concat(&key("new"), &[key("one")], options).await;
    assert!(matches!(outcome, Err(StoreError::QuotaExceeded(_))), "{outcome:?}");
    assert_eq!(notes.told(), []);
    assert_eq!(names(&store, "", true).await, ["one"]);
    let (notes, options) = noted(PutOptions::default());
    store.concat(&key("new"), &[key("one")], options).await.unwrap();
    assert_eq!(notes.told(), [Changed { gone: None, came: Some(5) }]);
}
