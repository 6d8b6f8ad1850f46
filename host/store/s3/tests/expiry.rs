//! Blobs that expire are removed from buckets, by the cases of `host/store/tests/expiry`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/expiry/removal.rs"]
mod removal;
mod support;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use keepgate_store::{PutOptions, StoreError};
use keepgate_store_s3::{Lock, LockMode, S3Options};
use removal::*;
use support::*;

fn missing() {
    skip("blobs that expire in buckets", "`cargo xtask test` builds versitygw with Go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_bucket() {
    let Some(server) = versitygw() else { return missing() };
    let clock = clock();
    let options = S3Options { clock: clock.clone(), prefix: "a/b".to_owned(), ..server.bucket() };
    let store: Store = Arc::new(open(options).await);
    what_has_expired_is_removed_and_nothing_else(store, clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_bucket_with_versions() {
    let Some(server) = versitygw_with_versions() else { return missing() };
    let clock = clock();
    let options = server.bucket_with_versions(false).await;
    let store: Store = Arc::new(open(S3Options { clock: clock.clone(), ..options }).await);
    what_has_expired_is_removed_and_nothing_else(store, clock).await;
}

/// A reader removes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_blob_is_removed_when_the_lock_lets_it_go() {
    let Some(server) = versitygw_with_versions() else { return missing() };
    let clock = clock();
    let options = server.bucket_with_versions(true).await;
    let options = S3Options { clock: clock.clone(), ..options };
    let period = Duration::from_secs(24 * 3600);
    let lock = Some(Lock { mode: LockMode::Governance, period, except: Vec::new() });
    let store: Store = Arc::new(open(S3Options { lock, ..options.clone() }).await);
    let begin = clock.now();
    let expires = Some(begin + Duration::from_secs(60));
    let put = PutOptions { expires, ..PutOptions::default() };
    store.put(&key("a"), bytes(9, 1).into_body(), put).await.unwrap();

    // It is hidden in time; and looked at again after some hours, not in every round.
    clock.set(begin + Duration::from_secs(2 * 3600));
    assert!(matches!(store.head(&key("a")).await, Err(StoreError::NotFound)));
    assert_eq!(store.due(None, 9).await.unwrap().len(), 1);
    assert_eq!(removed(&store).await, (0, 0));
    assert!(store.due(None, 9).await.unwrap().is_empty());
    assert_eq!(names(&store, "", true).await, ["a"]);
    clock.set(begin + Duration::from_secs(10 * 3600));
    let reader = open(S3Options { read_only: true, ..options.clone() }).await;
    assert_eq!(removed(&(Arc::new(reader) as Store)).await, (0, 0));
    // Without the lock the bucket lets it be hidden.
    let store: Store = Arc::new(open(options).await);
    assert_eq!(removed(&store).await, (1, 9));
    assert!(names(&store, "", true).await.is_empty());
}
