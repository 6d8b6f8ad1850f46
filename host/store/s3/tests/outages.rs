//! What a store does when its server fails for longer, or in every possible place: calls fail as unavailable, soon, and
//! nothing is half there; when the server is back, everything works.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use futures_util::future::join_all;
use http::Method;
use keepgate_store::{Condition, Part, PutOptions, StoreError};
use keepgate_store_s3::{BreakerOptions, MIN_PART, S3Options, S3Store};
use support::Server;
use support::proxy::{Fault, Proxy};

/// No call may take longer than this, whatever happens.
const NO_HANG: Duration = Duration::from_secs(180);

fn server(case: &str) -> Option<&'static Server> {
    let server = support::versitygw();
    if server.is_none() {
        support::skip(case, "`cargo xtask test` builds versitygw with Go");
    }
    server
}

/// A store behind a proxy, with this patience in seconds for one attempt and for all.
async fn behind_proxy(server: &Server, [request, budget]: [u64; 2]) -> (Proxy, S3Store) {
    let proxy = Proxy::start(&server.url).await;
    let options = S3Options {
        endpoint: Some(proxy.url.clone()),
        single_put: 100_000,
        part_size: MIN_PART,
        request_timeout: Duration::from_secs(request),
        budget: Duration::from_secs(budget),
        ..server.bucket()
    };
    let s3 = S3Store::new(options).unwrap();
    // With little patience, a busy machine may need several tries.
    for _ in 0..20 {
        if s3.open().await.is_ok() {
            break;
        }
    }
    proxy.seen();
    (proxy, s3)
}

fn is_unavailable<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(_)))
}

const KINDS: [(&str, Method, &str); 9] = [
    ("look", Method::HEAD, ""),
    ("list", Method::GET, "list-type=2"),
    ("read", Method::GET, "x-id=GetObject"),
    ("put", Method::PUT, "x-id=PutObject"),
    ("begin", Method::POST, "uploads"),
    ("part", Method::PUT, "x-id=UploadPart"),
    ("complete", Method::POST, "uploadId="),
    ("abort", Method::DELETE, "x-id=AbortMultipartUpload"),
    ("delete", Method::DELETE, "x-id=DeleteObject"),
];

const FAULTS: [Fault; 8] = [
    Fault::Status(500),
    Fault::Status(503),
    Fault::SlowDown,
    Fault::Refuse,
    Fault::Swallow,
    Fault::Delay(3_000),
    Fault::Cut(0),
    Fault::Denied,
];

/// Stores, reads, lists and removes; everything succeeds, or is unavailable, or (on the way back) was not stored.
async fn everything(store: &Store, name: &str, length: usize, must: bool) {
    let (bytes, name) = (bytes(length, length), format!("f/{name}"));
    let one = |outcome: &str, unavailable: bool, error: Option<StoreError>| {
        let fine = unavailable && !must;
        assert!(error.is_none() || fine, "{outcome} {name}: {error:?}");
    };
    let options = PutOptions { condition: Condition::Absent, ..verified(&bytes) };
    let stored = store.put(&key(&name), bytes.clone().into_body(), options).await;
    let is_there = stored.is_ok();
    one("put", is_unavailable(&stored), stored.err());
    match store.get(&key(&name), Part::Whole).await {
        // Acknowledged or not: what is visible is whole.
        Ok(download) => match download.body.collect(u64::MAX).await {
            Ok(read) => assert!(read == bytes, "{name}"),
            Err(error) => assert!(!must, "{name}: {error:?}"),
        },
        Err(StoreError::NotFound) => assert!(!is_there, "acknowledged and lost: {name}"),
        Err(error) => one("get", matches!(error, StoreError::Unavailable(_)), Some(error)),
    }
    let listed = entries(store, "f", true, 10).await;
    let missing = matches!(listed, Err(StoreError::NotFound)) && !is_there;
    one("list", is_unavailable(&listed) || missing, listed.err().filter(|_| !missing));
    let deleted = store.delete(&key(&name)).await;
    one("delete", is_unavailable(&deleted), deleted.err());
}

/// One fault in each kind of request is not noticed, except for a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_in_each_request() {
    let Some(server) = server("each fault in each request") else { return };
    support::log();
    let (proxy, s3) = behind_proxy(server, [20, 120]).await;
    let store: Store = Arc::new(s3);
    for fault in FAULTS {
        let cases = KINDS.iter().map(|(kind, method, target)| {
            let (proxy, store) = (proxy.clone(), store.clone());
            async move {
                for length in [1000, 6_000_000] {
                    let name = format!("{kind}-{length}");
                    let of = if *kind == "list" { "" } else { &name };
                    proxy.fault_of(method.clone(), of, target, &[fault]);
                    let tolerated = fault == Fault::Denied;
                    println!("{fault:?} of {name}");
                    let done = everything(&store, &name, length, !tolerated);
                    tokio::time::timeout(NO_HANG, done).await.expect("a hang");
                }
            }
        });
        join_all(cases).await;
        proxy.forget();
    }
    // What was refused may be left; nothing of it is half.
    everything(&store, "last", 6_000_000, true).await;
}

/// Each kind of request fails for ever: calls fail soon, and afterwards everything works.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_for_ever() {
    let Some(server) = server("each fault for ever") else { return };
    let cases = FAULTS.iter().flat_map(|fault| KINDS.iter().map(move |kind| (fault, kind)));
    let cases = cases.map(|(fault, (kind, method, target))| async move {
        let (proxy, s3) = behind_proxy(server, [2, 3]).await;
        let store: Store = Arc::new(s3);
        proxy.fault(method.clone(), target, &[*fault; 500]);
        for length in [1000, 6_000_000] {
            let name = format!("{kind}-{length}");
            let done = everything(&store, &name, length, false);
            tokio::time::timeout(NO_HANG, done).await.expect("a hang");
        }
        proxy.forget();
        wait_until_it_works(&store).await;
    });
    join_all(cases).await;
}

/// A busy machine may need several tries, because the store has little patience.
async fn wait_until_it_works(store: &Store) {
    let bytes = bytes(6_000_000, 7);
    let until = Instant::now() + NO_HANG;
    loop {
        assert!(Instant::now() < until, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stored = store.put(&key("again"), bytes.clone().into_body(), verified(&bytes)).await;
        if is_unavailable(&stored) {
            continue;
        }
        stored.unwrap();
        match store.get(&key("again"), Part::Whole).await {
            Ok(download) => match download.body.collect(u64::MAX).await {
                Ok(read) => {
                    assert!(read == bytes);
                    return;
                }
                Err(error) => println!("{error}"),
            },
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_failing_is_left_alone_and_tried_again() {
    let case = "a server that keeps failing is left alone and tried again";
    let Some(server) = server(case) else { return };
    for fault in [Fault::Status(500), Fault::SlowDown, Fault::Refuse, Fault::Delay(60_000)] {
        let proxy = Proxy::start(&server.url).await;
        let pause = Duration::from_secs(2);
        let options = S3Options {
            endpoint: Some(proxy.url.clone()),
            request_timeout: Duration::from_millis(500),
            budget: Duration::from_secs(3),
            max_requests: 16,
            breaker: BreakerOptions { failures: 10, after: Duration::ZERO, pause },
            ..server.bucket()
        };
        let s3 = support::open(options).await;
        let store: Store = Arc::new(s3.clone());
        put(&store, "a", &bytes(1000, 1)).await;
        proxy.seen();
        let faults = vec![fault; 10_000];
        for method in [Method::HEAD, Method::GET, Method::PUT] {
            proxy.fault(method, "", &faults);
        }
        let clients = (0..1000).map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                match index % 3 {
                    0 => store.head(&key("a")).await.map(|_| ()),
                    1 => store.get(&key("a"), Part::Whole).await.map(|_| ()),
                    _ => {
                        let body = bytes(1000, index).into_body();
                        let name = format!("new/{index}");
                        store.put(&key(&name), body, PutOptions::default()).await.map(|_| ())
                    }
                }
            })
        });
        let all = tokio::time::timeout(NO_HANG, join_all(clients)).await.expect("a hang");
        for outcome in all {
            let outcome = outcome.unwrap();
            assert!(is_unavailable(&outcome), "{fault:?}: {outcome:?}");
        }
        let asked = proxy.seen().len();
        assert!(asked < 200, "a thousand clients made {asked} requests: {fault:?}");
        let state = s3.state();
        assert!(!state.available && state.reason.unwrap().contains("left alone"));
        proxy.forget();
        // Without any client: the store tries by itself.
        let until = Instant::now() + NO_HANG;
        while !s3.state().available {
            assert!(Instant::now() < until, "{:?}", s3.state());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(read(&store, "a").await, bytes(1000, 1));
    }
}

/// More clients than requests at the same time: all are served, in their turn.
#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_their_turn() {
    let Some(server) = server("requests wait for their turn") else { return };
    let proxy = Proxy::start(&server.url).await;
    let options =
        S3Options { endpoint: Some(proxy.url.clone()), max_requests: 2, ..server.bucket() };
    let store: Store = Arc::new(support::open(options).await);
    put(&store, "a", &bytes(1000, 1)).await;
    proxy.most_at_once();
    let reads = join_all((0..100).map(|_| read(&store, "a"))).await;
    assert!(reads.iter().all(|read| *read == bytes(1000, 1)));
    assert!(proxy.most_at_once() <= 2);
    // The wait has an end.
    let options = S3Options {
        endpoint: Some(proxy.url.clone()),
        max_requests: 1,
        budget: Duration::from_secs(1),
        ..server.bucket()
    };
    let store: Store = Arc::new(support::open(options).await);
    proxy.fault(Method::HEAD, "", &[Fault::Delay(800); 50]);
    let name = key("a");
    let looks = join_all((0..20).map(|_| store.head(&name)));
    let looks = tokio::time::timeout(NO_HANG, looks).await.expect("a hang");
    assert!(looks.iter().any(is_unavailable), "{looks:?}");
}

/// The server itself ends, and is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_is_used_again() {
    let case = "a server that is restarted is used again";
    let Some(mut own) = support::new_versitygw(&[]) else {
        support::skip(case, "`cargo xtask test` builds versitygw with Go");
        return;
    };
    let options = S3Options {
        request_timeout: Duration::from_secs(5),
        budget: Duration::from_secs(20),
        attempts: 10,
        ..own.bucket()
    };
    let store: Store = Arc::new(support::open(options).await);
    for round in 0..3 {
        put(&store, &format!("{round}"), &bytes(1000, round)).await;
        own.stop();
        if round == 0 {
            let away = store.head(&key("0")).await;
            assert!(is_unavailable(&away), "{away:?}");
        }
        let waiting = tokio::spawn({
            let store = store.clone();
            async move {
                // One that began while the server was away.
                let bytes = bytes(1000, 100).into_body();
                store.put(&key("meanwhile"), bytes, PutOptions::default()).await
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        own.start_again();
        let stored = waiting.await.unwrap();
        assert!(stored.is_ok() || is_unavailable(&stored), "{stored:?}");
        wait_until_it_works(&store).await;
        for earlier in 0..=round {
            assert_eq!(read(&store, &format!("{earlier}")).await, bytes(1000, earlier));
        }
    }
}
