//! Buckets that keep versions, and buckets that lock them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod support;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::ObjectLockMode;
use bytes::Bytes;
use common::*;
use futures_util::future::join_all;
use keepgate_store::{Change, Condition, DeleteOptions, Piece, StoreError};
use keepgate_store_s3::{Lock, LockMode, MIN_PART, OnDelete, OpenError, S3Options, diagnose};
use support::Server;

fn server(case: &str) -> Option<&'static Server> {
    let server = support::versitygw_with_versions();
    if server.is_none() {
        support::skip(case, "`cargo xtask test` builds versitygw with Go");
    }
    server
}

/// A client of one's own, to look behind the store.
struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    /// A new bucket; it keeps versions in any case.
    async fn new(server: &Server, locks: bool) -> (Self, S3Options) {
        let client = server.client();
        let options = server.bucket_with_versions(locks).await;
        let name = options.bucket.clone();
        let options = S3Options { single_put: 100_000, part_size: MIN_PART, ..options };
        (Self { client, name }, options)
    }

    /// Versions and marks of removals under a name that begins with this.
    async fn versions(&self, prefix: &str) -> (usize, usize) {
        let list = self.client.list_object_versions().bucket(&self.name).prefix(prefix);
        let listed = list.send().await.unwrap();
        (listed.versions().len(), listed.delete_markers().len())
    }

    /// Whether an object is locked for about so long.
    async fn retention(&self, name: &str) -> Option<(ObjectLockMode, i64)> {
        let head = self.client.head_object().bucket(&self.name).key(name).send().await.unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let left = head.object_lock_retain_until_date?.secs() - now.as_secs() as i64;
        Some((head.object_lock_mode?, left))
    }
}

const LENGTHS: [usize; 2] = [1000, 6_000_000];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_can_be_stored_again() {
    let Some(server) = server("what was removed can be stored again") else { return };
    let (bucket, options) = Bucket::new(server, false).await;
    let s3 = support::open(options).await;
    let found = s3.state().capabilities.unwrap();
    assert!(found.versions && found.can_be_shared(), "{found}");
    assert_eq!(bucket.versions(".keepgate/probe").await, (0, 0), "the probe leaves nothing");
    let store: Store = Arc::new(s3);
    for length in LENGTHS {
        let name = format!("f/{length}");
        for condition in [Condition::Absent, Condition::AbsentOrIdentical, Condition::Always] {
            let bytes = bytes(length, 1);
            let stored =
                store.put(&key(&name), bytes.clone().into_body(), when(condition)).await.unwrap();
            assert_eq!(stored.change, Change::Created);
            assert!(read(&store, &name).await == bytes);
            let again = store.put(&key(&name), "x".into_body(), when(Condition::Absent)).await;
            assert!(matches!(again, Err(StoreError::AlreadyExists)), "{again:?}");
            assert_eq!(store.delete(&key(&name)).await.unwrap(), Some(length as u64));
            assert_eq!(store.delete(&key(&name)).await.unwrap(), None);
            assert!(matches!(store.head(&key(&name)).await, Err(StoreError::NotFound)));
        }
        let (versions, marks) = bucket.versions(&name).await;
        assert!(versions == 3 && marks >= 3, "older versions are left to the bucket: {versions}");
    }
    assert!(names(&store, "", true).await.is_empty());
    for own in ["uploads", "claims", "probe"] {
        assert_eq!(bucket.versions(&format!(".keepgate/{own}")).await, (0, 0), "{own}");
    }
}

/// The claim that guards a key whose blob was removed has one holder.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_that_store_a_removed_blob_again_one_wins() {
    let case = "of two gateways that store a removed blob again one wins";
    let Some(server) = server(case) else { return };
    let (_, options) = Bucket::new(server, false).await;
    let stores: Vec<Store> = vec![
        Arc::new(support::open(options.clone()).await),
        Arc::new(support::open(options).await),
    ];
    for round in 0..20 {
        let length = LENGTHS[usize::from(round % 5 == 4)];
        put(&stores[0], "blob", &Bytes::from("first")).await;
        stores[1].delete(&key("blob")).await.unwrap();
        let puts = stores.iter().enumerate().map(|(index, store)| {
            let body = bytes(length, index).into_body();
            async move { store.put(&key("blob"), body, when(Condition::Absent)).await }
        });
        let outcomes = join_all(puts).await;
        let won: Vec<_> = (0..2).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert!(read(&stores[0], "blob").await == bytes(length, won[0]));
        stores[0].delete(&key("blob")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_on_condition_removes_only_what_it_knows() {
    let case = "a removal on condition removes only what it knows";
    let Some(server) = server(case) else { return };
    for delete in [OnDelete::Latest, OnDelete::AllVersions] {
        let (_, options) = Bucket::new(server, false).await;
        let store: Store = Arc::new(support::open(S3Options { delete, ..options }).await);
        put(&store, "a", &Bytes::from("one")).await;
        let old = store.head(&key("a")).await.unwrap().etag;
        put(&store, "a", &Bytes::from("three")).await;
        let new = store.head(&key("a")).await.unwrap().etag;
        let matches = |etag: String| DeleteOptions { matches: Some(etag), ..Default::default() };
        let refused = store.delete_with(&key("a"), matches(old)).await;
        assert!(matches!(refused, Err(StoreError::PreconditionFailed)), "{refused:?}");
        assert_eq!(read(&store, "a").await, "three");
        assert_eq!(store.delete_with(&key("a"), matches(new)).await.unwrap(), Some(5));
        assert!(matches!(store.head(&key("a")).await, Err(StoreError::NotFound)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_versions_are_removed_if_the_options_say_so() {
    let case = "all versions are removed if the options say so";
    let Some(server) = server(case) else { return };
    let (bucket, options) = Bucket::new(server, false).await;
    let hides: Store = Arc::new(support::open(options.clone()).await);
    let options = S3Options { delete: OnDelete::AllVersions, ..options };
    let store: Store = Arc::new(support::open(options).await);
    for length in LENGTHS {
        put(&hides, "blob", &bytes(length, 1)).await;
        put(&hides, "blob-longer", &Bytes::from("stays")).await;
        hides.delete(&key("blob")).await.unwrap();
        put(&hides, "blob", &bytes(length, 2)).await;
        put(&hides, "blob", &bytes(length, 3)).await;
        assert_eq!(store.delete(&key("blob")).await.unwrap(), Some(length as u64));
        assert!(matches!(store.head(&key("blob")).await, Err(StoreError::NotFound)));
        let (versions, _) = bucket.versions("blob").await;
        assert!(versions >= 1, "the other blob stays");
        assert_eq!(read(&store, "blob-longer").await, "stays");
        let left = bucket.client.list_object_versions().bucket(&bucket.name).prefix("blob");
        let left = left.send().await.unwrap();
        assert!(left.versions().iter().all(|one| one.key() == Some("blob-longer")), "{left:?}");
        assert!(left.delete_markers().is_empty(), "{left:?}");
        // One that is hidden already leaves too.
        put(&hides, "blob", &bytes(length, 4)).await;
        hides.delete(&key("blob")).await.unwrap();
        assert_eq!(store.delete(&key("blob")).await.unwrap(), None);
        assert_eq!(store.delete(&key("blob-longer")).await.unwrap(), Some(5));
        assert_eq!(bucket.versions("blob").await, (0, 0));
    }
}

fn lock(period: Duration) -> Option<Lock> {
    Some(Lock { mode: LockMode::Compliance, period, except: vec!["**/locks/*".to_owned()] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_blob_cannot_be_removed_for_good() {
    let Some(server) = server("a locked blob cannot be removed for good") else { return };
    let (bucket, options) = Bucket::new(server, true).await;
    let period = Duration::from_secs(12 * 60 * 60);
    let options = S3Options { lock: lock(period), ..options };
    let found = diagnose(&options).await;
    assert!(found.problems.is_empty(), "{found:?}");
    assert!(found.lines.iter().any(|line| line == "object lock: possible"), "{found:?}");
    assert!(found.lines.iter().any(|line| line == "a locked probe: kept"), "{found:?}");
    assert_eq!(bucket.versions(".keepgate/probe").await, (0, 0));
    let all = S3Options { delete: OnDelete::AllVersions, ..options.clone() };
    let store: Store = Arc::new(support::open(all).await);
    put(&store, "data/small", &bytes(1000, 1)).await;
    put(&store, "data/large", &bytes(6_000_000, 1)).await;
    let pieces = [Piece::from(key("data/large")), Piece::from(key("data/small"))];
    store.concat(&key("data/joined"), &pieces, when(Condition::Absent)).await.unwrap();
    put(&store, "locks/one", &Bytes::from("x")).await;
    for name in ["data/small", "data/large", "data/joined"] {
        let (mode, left) = bucket.retention(name).await.unwrap_or_else(|| panic!("{name}"));
        assert_eq!(mode, ObjectLockMode::Compliance);
        let expected = period.as_secs() as i64;
        assert!((expected - 600..=expected + 60).contains(&left), "{name}: {left}");
        let refused = store.delete(&key(name)).await;
        assert!(matches!(refused, Err(StoreError::Denied(_))), "{name}: {refused:?}");
        store.head(&key(name)).await.unwrap();
    }
    assert!(bucket.retention("locks/one").await.is_none());
    assert!(bucket.retention("data/.keepgate").await.is_none());
    assert_eq!(store.delete(&key("locks/one")).await.unwrap(), Some(1));
    // Hiding it would be as bad for its owner.
    let hides: Store = Arc::new(support::open(options).await);
    let refused = hides.delete(&key("data/small")).await;
    assert!(matches!(refused, Err(StoreError::Denied(_))), "{refused:?}");
    let other = bytes(10, 2).into_body();
    let replaced = hides.put(&key("data/small"), other, when(Condition::Always)).await;
    assert!(matches!(replaced, Err(StoreError::Denied(_))), "{replaced:?}");
    assert_eq!(bucket.versions("data/small").await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_object_lock_is_refused_if_it_is_wanted() {
    let case = "a bucket without object lock is refused if it is wanted";
    let Some(server) = server(case) else { return };
    let (_, options) = Bucket::new(server, false).await;
    let options = S3Options { lock: lock(Duration::from_secs(60)), ..options };
    let refused = support::refused(options.clone()).await;
    assert!(matches!(refused, OpenError::Unusable(_)), "{refused:?}");
    assert!(refused.is_permanent() && refused.to_string().contains("cannot lock"), "{refused}");
    let found = diagnose(&options).await;
    assert!(found.problems.iter().any(|line| line.contains("cannot lock")), "{found:?}");
}
