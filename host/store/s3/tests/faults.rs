//! What a store does when the network or the server fails in the middle of a request.

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

use bytes::Bytes;
use common::*;
use http::Method;
use keepgate_store::{Change, Condition, Part, PutOptions, StoreError};
use keepgate_store_s3::{MIN_PART, S3Options};
use support::proxy::{Fault, Proxy};

/// A store behind a proxy; `None` if there is no server.
async fn through_proxy(case: &str) -> Option<(Proxy, Store)> {
    through_proxy_with(case, |_| {}).await
}

async fn through_proxy_with(
    case: &str,
    change: impl FnOnce(&mut S3Options),
) -> Option<(Proxy, Store)> {
    let Some(server) = support::versitygw() else {
        support::skip(case, "`cargo xtask test` builds versitygw with Go");
        return None;
    };
    let proxy = Proxy::start(&server.url).await;
    let mut options = server.bucket();
    options.endpoint = Some(proxy.url.clone());
    options.single_put = 100_000;
    options.part_size = MIN_PART;
    change(&mut options);
    let store: Store = Arc::new(support::open(options).await);
    proxy.seen();
    Some((proxy, store))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled() {
    let Some((proxy, store)) = through_proxy("a lost answer is settled").await else { return };
    for (name, length) in [("small", 1000), ("large", 6_000_000)] {
        let bytes = bytes(length, 1);
        let method = if length < 100_000 { Method::PUT } else { Method::POST };
        // Completions, and puts of the blob itself, not of parts.
        let target = if length < 100_000 { format!("/{name}?") } else { "uploadId=".to_owned() };
        proxy.fault(method.clone(), &target, &[Fault::Swallow]);
        let options = when(Condition::Absent);
        let stored =
            store.put(&key(name), bytes.clone().into_body(), options.clone()).await.unwrap();
        assert!(proxy.is_done());
        assert_eq!(stored.change, Change::Created, "{name}");
        assert_eq!(stored.info, store.head(&key(name)).await.unwrap());
        assert_eq!(read(&store, name).await, bytes);
        let again = store.put(&key(name), bytes.clone().into_body(), options).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists)), "{again:?}");

        proxy.fault(method, &target, &[Fault::Swallow]);
        let options = when(Condition::Matches(stored.info.etag));
        let other = bytes.slice(1..);
        let stored = store.put(&key(name), other.clone().into_body(), options).await.unwrap();
        assert_eq!(stored.change, Change::Replaced { size: length as u64 });
        assert_eq!(read(&store, name).await, other);

        proxy.fault(Method::DELETE, name, &[Fault::Swallow]);
        assert_eq!(store.delete(&key(name)).await.unwrap(), Some(length as u64 - 1));
        assert_eq!(store.delete(&key(name)).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_repeated() {
    let Some((proxy, store)) = through_proxy("requests are repeated").await else { return };
    let some = [Fault::Status(500), Fault::Status(503), Fault::Refuse];
    for method in [Method::PUT, Method::HEAD, Method::GET, Method::POST] {
        proxy.fault(method, "", &some);
    }
    let bytes = bytes(12_000_000, 1);
    store.put(&key("a/b"), bytes.clone().into_body(), verified(&bytes)).await.unwrap();
    assert_eq!(read(&store, "a/b").await, bytes);
    assert_eq!(names(&store, "a", true).await, ["a/b"]);
    assert_eq!(store.delete(&key("a/b")).await.unwrap(), Some(12_000_000));
    assert!(proxy.is_done());
}

/// versitygw keeps half a body if nothing in the request says what it should be.
#[tokio::test(flavor = "multi_thread")]
async fn half_an_upload_is_never_kept() {
    let Some((proxy, store)) = through_proxy("half an upload is never kept").await else { return };
    for (name, length) in [("small", 90_000), ("large", 12_000_000)] {
        let bytes = bytes(length, 1);
        let truncated =
            [length / 2, 1, 0, length - 1].map(|limit| Fault::Truncate(limit.min(4_000_000)));
        let target = if length < 100_000 { format!("/{name}?") } else { "partNumber=".to_owned() };
        // As many as are tried: the upload fails, and nothing of it is there.
        proxy.fault(Method::PUT, &target, &truncated.repeat(20));
        let stored = store.put(&key(name), bytes.clone().into_body(), verified(&bytes)).await;
        assert!(matches!(stored, Err(StoreError::Unavailable(_))), "{stored:?}");
        let head = store.head(&key(name)).await;
        assert!(matches!(head, Err(StoreError::NotFound)), "{head:?}");
        proxy.forget();
        // Fewer: it succeeds.
        proxy.fault(Method::PUT, &target, &truncated[..2]);
        store.put(&key(name), bytes.clone().into_body(), verified(&bytes)).await.unwrap();
        assert!(proxy.is_done());
        assert!(read(&store, name).await == bytes, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_it_broke_off() {
    let case = "a download goes on where it broke off";
    let with = |options: &mut S3Options| options.idle_timeout = Duration::from_millis(500);
    let Some((proxy, store)) = through_proxy_with(case, with).await else { return };
    let bytes = bytes(3_000_000, 1);
    put(&store, "blob", &bytes).await;
    for part in
        [Part::Whole, Part::Slice { offset: 7, length: Some(2_500_000) }, Part::Suffix(2_900_000)]
    {
        let some = [Fault::Cut(1_000_000), Fault::Cut(0), Fault::Stall(500_000), Fault::Cut(1)];
        proxy.fault(Method::GET, "/blob", &some);
        let got = read_part(&store, "blob", part).await.unwrap();
        let (offset, length) = part.within(3_000_000).unwrap();
        let expected = bytes.slice(offset as usize..(offset + length) as usize);
        assert!(got == expected, "{part:?}");
        assert!(proxy.is_done());
    }
}

/// Bytes of two blobs are never mixed.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_ends_if_the_blob_is_replaced_when_it_breaks_off() {
    let case = "a download ends if the blob is replaced when it breaks off";
    let Some((proxy, store)) = through_proxy(case).await else { return };
    put(&store, "blob", &bytes(3_000_000, 1)).await;
    proxy.fault(Method::GET, "/blob", &[Fault::Cut(1_000_000)]);
    let mut download = store.get(&key("blob"), Part::Whole).await.unwrap();
    let first = download.body.chunk().await.unwrap().unwrap();
    assert!(!first.is_empty());
    put(&store, "blob", &bytes(3_000_000, 2)).await;
    let rest = download.body.collect(u64::MAX).await;
    assert!(rest.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_unavailable() {
    let case = "a server that is gone is unavailable";
    let with = |options: &mut S3Options| {
        options.budget = Duration::from_secs(2);
        options.breaker.failures = 0;
        options.request_timeout = Duration::from_secs(1);
    };
    let Some((proxy, store)) = through_proxy_with(case, with).await else { return };
    put(&store, "blob", &Bytes::from("there")).await;
    for fault in [Fault::Refuse, Fault::Status(503), Fault::Delay(3_000)] {
        let many = [fault; 40];
        for method in [Method::PUT, Method::HEAD, Method::GET, Method::DELETE] {
            proxy.fault(method, "", &many);
        }
        let unavailable = |what: &str, error: StoreError| {
            assert!(matches!(error, StoreError::Unavailable(_)), "{what}, {fault:?}: {error:?}");
            assert!(!error.to_string().contains("127.0.0.1"), "clients see the endpoint: {error}");
        };
        unavailable("head", store.head(&key("blob")).await.unwrap_err());
        unavailable("get", store.get(&key("blob"), Part::Whole).await.unwrap_err());
        unavailable("list", entries(&store, "", true, 1).await.unwrap_err());
        unavailable("delete", store.delete(&key("blob")).await.unwrap_err());
        let stored = store.put(&key("new"), "x".into_body(), PutOptions::default()).await;
        unavailable("put", stored.unwrap_err());
        proxy.forget();
        assert_eq!(read(&store, "blob").await, "there");
    }
    assert_eq!(names(&store, "", true).await, ["blob"]);
}

/// The cost in requests of what a restic client does most.
#[tokio::test(flavor = "multi_thread")]
async fn what_calls_cost_in_requests() {
    let Some((proxy, store)) = through_proxy("what calls cost in requests").await else { return };
    let bytes = bytes(1000, 1);
    put(&store, "data/first", &bytes).await;
    proxy.seen();
    let options = PutOptions { condition: Condition::AbsentOrIdentical, ..verified(&bytes) };
    store.put(&key("data/second"), bytes.clone().into_body(), options.clone()).await.unwrap();
    let seen = proxy.seen();
    assert_eq!(seen.len(), 4, "look, list, put, look: {seen:#?}");
    store.put(&key("data/second"), bytes.clone().into_body(), options).await.unwrap();
    let seen = proxy.seen();
    assert_eq!(seen.len(), 1, "an identical blob costs a look: {seen:#?}");
    store.head(&key("data/second")).await.unwrap();
    read(&store, "data/second").await;
    assert_eq!(proxy.seen().len(), 2);
}
