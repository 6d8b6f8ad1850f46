//! What a store in a bucket does besides the promises that all stores share.

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

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, Change, Condition, PutOptions, StoreError};
use keepgate_store_s3::{Credentials, IfMatch, MIN_PART, OpenError, S3Options};
use support::Server;

fn server(case: &str) -> Option<&'static Server> {
    let server = support::versitygw();
    if server.is_none() {
        support::skip(case, "`cargo xtask test` builds versitygw with Go");
    }
    server
}

/// Small enough that everything goes in parts.
fn in_parts(options: S3Options) -> S3Options {
    S3Options { single_put: 1000, part_size: MIN_PART, ..options }
}

/// Files of uploads in parts that a versitygw keeps for a bucket.
fn unfinished(server: &Server, bucket: &str) -> usize {
    fn files(folder: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        entries
            .flatten()
            .map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 })
            .sum()
    }
    files(&server.data.join(bucket).join(".sgwtmp/multipart"))
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_probe_finds_out_what_a_server_can_do() {
    let Some(server) = server("the probe finds out what a server can do") else { return };
    let options = server.bucket();
    let bucket = options.bucket.clone();
    let store = support::open(options).await;
    let found = store.state().capabilities.unwrap();
    assert!(found.can_be_shared(), "{found}");
    assert!(found.complete_if_absent && found.delete_if_match && found.sha256, "{found}");
    assert!(found.tags && found.part_tags && found.part_sha256 && found.unsigned, "{found}");
    assert_eq!(found.if_match, IfMatch::Quoted);
    assert_eq!(unfinished(server, &bucket), 0);
    let left = std::fs::read_dir(server.data.join(bucket).join(".keepgate/probe"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn a_server_whose_conditions_race_is_refused_unless_there_is_one_writer() {
    let Some(server) = support::s3s_fs() else {
        let how = "`cargo xtask test` builds it";
        support::skip("a server whose conditions race is refused", how);
        return;
    };
    let options = server.bucket();
    let refused = support::refused(options.clone()).await;
    assert!(matches!(refused, OpenError::NotAtomic { .. }), "{refused:?}");
    let store = support::open(S3Options { single_writer: true, ..options }).await;
    assert!(!store.state().capabilities.unwrap().put_is_atomic);
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_do() {
    let Some(server) = server("what cannot be opened says what to do") else { return };
    let good = server.bucket();
    let refuses = async |options: S3Options, permanent: bool, expected: &[&str]| {
        let error = support::refused(options).await;
        assert_eq!(error.is_permanent(), permanent, "{error}");
        let error = error.to_string();
        for expected in expected {
            assert!(error.contains(expected), "{error}");
        }
    };
    let missing = S3Options { bucket: "nowhere".to_owned(), ..good.clone() };
    refuses(missing, true, &["nowhere", &server.url, "create the bucket"]).await;
    // Shorter than any bucket's name.
    let short = S3Options { bucket: "b".to_owned(), ..good.clone() };
    refuses(short, true, &["InvalidBucketName", "correct the bucket's name"]).await;
    let keys = |id: &str, secret: &str| Credentials::Keys {
        id: id.to_owned(),
        secret: secret.to_owned(),
        token: None,
    };
    let wrong = S3Options { credentials: keys(support::KEY, "wrong"), ..good.clone() };
    refuses(wrong, true, &[&good.bucket, &server.url, "check the secret key"]).await;
    let unknown = S3Options { credentials: keys("nobody", "x"), ..good.clone() };
    refuses(unknown, true, &[&good.bucket, &server.url, "check the access key"]).await;
    let closed = format!("http://127.0.0.1:{}", support::free_port());
    let away = S3Options {
        endpoint: Some(closed.clone()),
        budget: Duration::from_secs(2),
        ..good.clone()
    };
    refuses(away, false, &[&good.bucket, &closed, "check the endpoint"]).await;
    refuses(S3Options { part_size: 1, ..good }, true, &["parts of 1 bytes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_goes_in_parts_and_leaves_none() {
    let Some(server) = server("a large body goes in parts and leaves none") else { return };
    let options = in_parts(server.bucket());
    let bucket = options.bucket.clone();
    let s3 = support::open(options).await;
    let store: Store = Arc::new(s3.clone());
    let large = bytes(23_000_000, 1);
    for body in [large.clone().into_body(), chunked(&large, 100_000)] {
        let stored = store.put(&key("a/large"), body, verified(&large)).await.unwrap();
        assert_eq!(stored.info.size, 23_000_000);
        assert!(read(&store, "a/large").await == large);
    }
    // Dropped, broken off and wrong: nothing is left.
    let wrong = PutOptions { sha256: Some([0; 32]), ..PutOptions::default() };
    let outcome = store.put(&key("a/wrong"), large.clone().into_body(), wrong).await;
    assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })), "{outcome:?}");
    let outcome =
        store.put(&key("a/short"), short(&large, 30_000_000), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Body(_))), "{outcome:?}");
    let (body, taken) = stalling((0..4).map(|seed| bytes(4_000_000, seed)).collect());
    let upload = tokio::spawn({
        let store = store.clone();
        async move { store.put(&key("a/dropped"), body, PutOptions::default()).await }
    });
    wait_until("the body is read", || taken.load(Ordering::Relaxed) == 4).await;
    upload.abort();
    let _ = upload.await;
    wait_until("no parts are left", || unfinished(server, &bucket) == 0).await;
    let records = server.data.join(&bucket).join(".keepgate/uploads");
    wait_until("no records are left", || {
        std::fs::read_dir(&records).map_or(0, Iterator::count) == 0
    })
    .await;
    assert_eq!(names(&store, "", true).await, ["a/large"]);
}

/// What a gateway left that was killed is found by its record; what is young or of others stays.
#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_removes_only_what_a_gateway_left() {
    let Some(server) = server("the sweep removes only what a gateway left") else { return };
    let options = in_parts(server.bucket());
    let bucket = options.bucket.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let killed = options.clone();
    // A runtime that ends takes its tasks with it, as a kill does.
    runtime.spawn(async move {
        let store = support::open(killed).await;
        let (body, _) = stalling((0..4).map(|seed| bytes(4_000_000, seed)).collect());
        let _ =
            keepgate_store::BlobStore::put(&store, &key("a"), body, PutOptions::default()).await;
    });
    wait_until("parts are there", || unfinished(server, &bucket) >= 3).await;
    runtime.shutdown_background();
    let store = support::open(options.clone()).await;
    assert_eq!(store.sweep().await.unwrap().uploads, 0, "it is young");
    assert!(unfinished(server, &bucket) > 0);
    let store = support::open(S3Options { abandoned_after: Duration::ZERO, ..options }).await;
    assert_eq!(store.sweep().await.unwrap().uploads, 1);
    assert_eq!(unfinished(server, &bucket), 0);
    assert_eq!(store.sweep().await.unwrap().uploads, 0);
}

/// Two gateways, each with its own locks: only the server decides.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_wins() {
    let Some(server) = server("of two gateways one wins") else { return };
    let options = S3Options { single_put: 100_000, part_size: MIN_PART, ..server.bucket() };
    let stores: Vec<Store> = vec![
        Arc::new(support::open(options.clone()).await),
        Arc::new(support::open(options).await),
    ];
    for round in 0..40 {
        // Small ones, large ones, and one of each.
        let lengths = [[1000, 1000], [200_000, 200_000], [1000, 200_000]][round % 3];
        let name = format!("f/{round}");
        let race = async |condition: Condition, seed: usize| {
            let puts = stores.iter().zip(lengths).enumerate().map(|(index, (store, length))| {
                let body = bytes(length, seed + index).into_body();
                let (store, key) = (store.clone(), key(&name));
                let condition = condition.clone();
                tokio::spawn(async move { store.put(&key, body, when(condition)).await })
            });
            join_all(puts).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        };
        let outcomes = race(Condition::Absent, round * 10).await;
        let won: Vec<_> = (0..2).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert!(read(&stores[0], &name).await == bytes(lengths[won[0]], round * 10 + won[0]));
        let etag = stores[1].head(&key(&name)).await.unwrap().etag;
        let outcomes = race(Condition::Matches(etag), round * 10 + 4).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
        // Whoever replaces says what was replaced.
        let before = stores[0].head(&key(&name)).await.unwrap().size;
        let outcomes = race(Condition::Always, round * 10 + 6).await;
        let mut replaced: Vec<_> =
            outcomes.into_iter().map(|outcome| outcome.unwrap().change).collect();
        replaced.sort_by_key(|change| *change != Change::Replaced { size: before });
        assert_eq!(replaced[0], Change::Replaced { size: before }, "{replaced:?}");
        let deleted =
            join_all(stores.iter().map(|store| async { store.delete(&key(&name)).await })).await;
        let deleted: Vec<_> = deleted.into_iter().filter_map(Result::unwrap).collect();
        // versitygw removes nothing with success, so both may think that they did it.
        assert!(!deleted.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_together_stay_within_their_memory() {
    let Some(server) = server("uploads together stay within their memory") else { return };
    // Room for two parts: eight uploads of three parts each take turns, and none waits for ever.
    let memory = 2 * MIN_PART;
    let options = S3Options { memory, single_put: memory, ..in_parts(server.bucket()) };
    let options = S3Options { single_put: 1000, ..options };
    let store: Store = Arc::new(support::open(options).await);
    let uploads = (0..8).map(|seed| {
        let store = store.clone();
        tokio::spawn(async move {
            let chunks = (0..12).map(move |part| Ok(bytes(1_000_000, seed * 100 + part)));
            let body = Body::from_stream(None, stream::iter(chunks).boxed());
            store.put(&key(&format!("{seed}")), body, PutOptions::default()).await
        })
    });
    for uploaded in join_all(uploads).await {
        assert_eq!(uploaded.unwrap().unwrap().info.size, 12_000_000);
    }
    assert_eq!(names(&store, "", true).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_gone_is_not_an_empty_one() {
    let Some(server) = server("a bucket that is gone is not an empty one") else { return };
    let options = server.bucket();
    let bucket = server.data.join(&options.bucket);
    let store: Store = Arc::new(support::open(options).await);
    put(&store, "a/b", &Bytes::from("x")).await;
    let epoch = store.epoch().await.unwrap();
    std::fs::remove_dir_all(&bucket).unwrap();
    // The bucket was seen a moment ago.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let outcome = store.head(&key("a/b")).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let outcome = entries(&store, "a", true, 1).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let outcome = store.put(&key("a/c"), "x".into_body(), PutOptions::default()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    std::fs::create_dir(&bucket).unwrap();
    put(&store, "a/c", &Bytes::from("y")).await;
    assert_ne!(store.epoch().await.unwrap(), epoch, "another bucket has another epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_own_certificate() {
    let files = tempfile::TempDir::new().unwrap();
    let (certificate, key_file) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    let path = |file: &Path| file.display().to_string();
    let tls = ["--cert".to_owned(), path(&certificate), "--key".to_owned(), path(&key_file)];
    let Some(server) = support::new_versitygw(&tls) else {
        support::skip("a server is trusted by its own certificate", "versitygw is not there");
        return;
    };
    let mut options = server.bucket();
    options.endpoint = Some(server.url.replace("http:", "https:"));
    options.budget = Duration::from_secs(5);
    // By the system's authorities it is not.
    let error = support::refused(options.clone()).await.to_string();
    assert!(error.contains("certificate"), "{error}");
    options.trust = vec![made.cert.der().clone()];
    let store: Store = Arc::new(support::open(options).await);
    let bytes = bytes(3_000_000, 1);
    put(&store, "a/b", &bytes).await;
    assert!(read(&store, "a/b").await == bytes);
}
