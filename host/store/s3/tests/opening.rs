//! How a store is opened, what it says about itself, and how it is reached.

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
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use futures_util::future::join_all;
use http::Method;
use keepgate_store::{BlobStore as _, Part, PutOptions, StoreError};
use keepgate_store_s3::{Credentials, Metrics, S3Options, S3Store, diagnose};
use prometheus::{Registry, TextEncoder};
use support::Server;
use support::proxy::{Fault, Proxy};

fn server(case: &str) -> Option<&'static Server> {
    let server = support::versitygw();
    if server.is_none() {
        support::skip(case, "`cargo xtask test` builds versitygw with Go");
    }
    server
}

fn is_unavailable<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_itself_once_at_its_first_use() {
    let Some(server) = server("a store opens itself once at its first use") else { return };
    let proxy = Proxy::start(&server.url).await;
    let options = S3Options { endpoint: Some(proxy.url.clone()), ..server.bucket() };
    let s3 = S3Store::new(options).unwrap();
    let state = s3.state();
    assert!(!state.available && state.reason.as_deref() == Some("not opened yet"), "{state:?}");
    assert_eq!(proxy.seen().len(), 0, "nothing is asked");
    let store: Store = Arc::new(s3.clone());
    let puts = (0..16).map(|index| {
        let (store, name) = (store.clone(), format!("{index}"));
        async move { store.put(&key(&name), "x".into_body(), PutOptions::default()).await }
    });
    join_all(puts).await.into_iter().for_each(|stored| drop(stored.unwrap()));
    let seen = proxy.seen();
    let opening = seen.len() - 16 * 4;
    assert!(opening < 130, "the page for operators says about 120 requests: {opening}");
    let probes = seen.iter().filter(|seen| seen.contains("-race0?")).count();
    assert!(probes <= 16, "one probe has 8 writers and removes what they wrote: {probes}");
    let state = s3.state();
    assert!(state.available && state.reason.is_none() && state.limitations.is_empty(), "{state:?}");
    assert!(state.place.contains(&proxy.url) && state.capabilities.unwrap().can_be_shared());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_opening_stands_for_a_moment_and_is_tried_again() {
    let case = "a failed opening stands for a moment and is tried again";
    let Some(server) = server(case) else { return };
    let proxy = Proxy::start(&server.url).await;
    let mut options = server.bucket();
    options.endpoint = Some(proxy.url.clone());
    options.budget = Duration::from_secs(1);
    proxy.fault(Method::PUT, "", &[Fault::Status(503); 1000]);
    let s3 = S3Store::new(options).unwrap();
    let store: Store = Arc::new(s3.clone());
    is_unavailable(&store.head(&key("a")).await);
    proxy.seen();
    let name = key("a");
    let many = join_all((0..1000).map(|_| store.head(&name))).await;
    many.iter().for_each(is_unavailable);
    let asked = proxy.seen().len();
    assert!(asked < 20, "a thousand clients ask for no more than one opening: {asked}");
    let error = s3.open().await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("503"), "{error}");
    let state = s3.state();
    assert!(!state.available && state.reason.is_some(), "{state:?}");
    proxy.forget();
    // Nobody calls, and it becomes available nevertheless.
    let until = Instant::now() + Duration::from_secs(60);
    while !s3.state().available {
        assert!(Instant::now() < until, "{:?}", s3.state());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    put(&store, "a", &Bytes::from("x")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_failure_is_unavailable_to_clients() {
    let case = "a permanent failure is unavailable to clients";
    let Some(server) = server(case) else { return };
    let s3 = S3Store::new(server.options("no-such-bucket")).unwrap();
    assert!(s3.open().await.unwrap_err().is_permanent());
    is_unavailable(&s3.head(&key("a")).await);
    assert!(s3.state().reason.unwrap().contains("create the bucket"));
    let none = S3Options { bucket: String::new(), ..server.options("x") };
    assert!(S3Store::new(none).unwrap_err().is_permanent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_store_writes_nothing() {
    let Some(server) = server("a read-only store writes nothing") else { return };
    let options = server.bucket();
    let writer: Store = Arc::new(support::open(options.clone()).await);
    put(&writer, "a/b", &Bytes::from("x")).await;
    let proxy = Proxy::start(&server.url).await;
    let options = S3Options { endpoint: Some(proxy.url.clone()), read_only: true, ..options };
    let store: Store = Arc::new(support::open(options.clone()).await);
    assert_eq!(read(&store, "a/b").await, "x");
    assert_eq!(names(&store, "a", true).await, ["a/b"]);
    assert_eq!(store.epoch().await.unwrap(), writer.epoch().await.unwrap());
    let denied = |outcome: Result<(), StoreError>| {
        assert!(matches!(outcome, Err(StoreError::Denied(_))), "{outcome:?}");
    };
    denied(store.put(&key("c"), "x".into_body(), PutOptions::default()).await.map(|_| ()));
    denied(store.delete(&key("a/b")).await.map(|_| ()));
    let found = diagnose(&options).await;
    assert!(found.problems.is_empty(), "{found:?}");
    let seen = proxy.seen();
    assert!(
        seen.iter().all(|seen| seen.starts_with("GET") || seen.starts_with("HEAD")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted() {
    let Some(server) = server("requests are counted") else { return };
    let proxy = Proxy::start(&server.url).await;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let options = S3Options {
        endpoint: Some(proxy.url.clone()),
        metrics: Some(metrics.store("main")),
        ..server.bucket()
    };
    assert_eq!(options, S3Options { metrics: None, ..options.clone() });
    let store: Store = Arc::new(support::open(options).await);
    let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let value = |line: &str| {
        let text = text();
        let found = text.lines().find_map(|one| one.strip_prefix(line)?.trim().parse::<f64>().ok());
        found.unwrap_or(0.0)
    };
    let puts = "keepgate_s3_requests_total{operation=\"PutObject\",outcome=\"ok\",store=\"main\"}";
    let retries = "keepgate_s3_retries_total{operation=\"PutObject\",store=\"main\"}";
    let sent = "keepgate_s3_sent_bytes_total{store=\"main\"}";
    let before = (value(puts), value(retries), value(sent));
    proxy.fault(Method::PUT, "/blob?", &[Fault::Status(500), Fault::Refuse]);
    put(&store, "blob", &bytes(1000, 1)).await;
    assert_eq!(value(puts) - before.0, 1.0, "{}", text());
    assert_eq!(value(retries) - before.1, 2.0, "{}", text());
    assert_eq!(value(sent) - before.2, 3000.0, "each attempt sends the body: {}", text());
    store.get(&key("blob"), Part::Whole).await.unwrap().body.collect(2000).await.unwrap();
    assert_eq!(value("keepgate_s3_received_bytes_total{store=\"main\"}"), 1000.0);
    let missing =
        "keepgate_s3_requests_total{operation=\"HeadObject\",outcome=\"not_found\",store=\"main\"}";
    let before = value(missing);
    store.head(&key("none")).await.unwrap_err();
    assert_eq!(value(missing) - before, 1.0);
    assert_eq!(value("keepgate_s3_requests_in_flight{store=\"main\"}"), 0.0);
    assert!(text().contains("keepgate_s3_circuit_breaker_open{store=\"main\"} 0"));
    assert!(text().contains("keepgate_s3_request_duration_seconds_count{operation=\"PutObject\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_what_a_bucket_can_do_and_which_rights_are_missing() {
    let case = "a check tells what a bucket can do and which rights are missing";
    let Some(server) = server(case) else { return };
    let options = server.bucket();
    let found = diagnose(&options).await;
    assert!(found.problems.is_empty(), "{found:?}");
    let all = found.lines.join("\n");
    for expected in [
        &options.bucket,
        "conditional writes: yes",
        "tags kept: yes",
        "SHA-256 checked by the server: yes",
        "versions: not kept",
        "object lock: not possible",
        "clocks differ by",
    ] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
    let left = server.data.join(&options.bucket).join(".keepgate/probe");
    assert_eq!(std::fs::read_dir(left).map_or(0, Iterator::count), 0);
    // A server that refuses one kind of request.
    for (method, target, right) in [
        (Method::PUT, "probe", "s3:PutObject"),
        (Method::GET, "/probe/", "s3:GetObject"),
        (Method::GET, "list-type=2", "s3:ListBucket"),
        (Method::DELETE, "uploadId=", "s3:AbortMultipartUpload"),
        (Method::DELETE, "x-id=DeleteObject", "s3:DeleteObject"),
        (Method::GET, "tagging", "s3:GetObjectTagging"),
    ] {
        let proxy = Proxy::start(&server.url).await;
        proxy.fault(method, target, &[Fault::Denied; 100]);
        let options = S3Options { endpoint: Some(proxy.url.clone()), ..options.clone() };
        let found = diagnose(&options).await;
        let named = format!("missing right {right}:");
        assert!(found.problems.iter().any(|line| line.starts_with(&named)), "{right}: {found:?}");
    }
    let missing = diagnose(&server.options("no-such-bucket")).await;
    assert!(missing.problems[0].contains("create the bucket"), "{missing:?}");
    let wrong = Credentials::Keys { id: "AK".to_owned(), secret: "x".to_owned(), token: None };
    let refused = diagnose(&S3Options { credentials: wrong, ..options.clone() }).await;
    assert!(refused.problems[0].contains("check the access key"), "{refused:?}");
    let away = S3Options {
        endpoint: Some(format!("http://127.0.0.1:{}", support::free_port())),
        budget: Duration::from_secs(1),
        ..options
    };
    let away = diagnose(&away).await;
    assert!(away.problems[0].contains("check the endpoint"), "{away:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_keys_in_files_are_used_without_a_restart() {
    let case = "rotated keys in files are used without a restart";
    let Some(server) = server(case) else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let (id, secret) = (folder.path().join("id"), folder.path().join("secret"));
    std::fs::write(&id, support::KEY).unwrap();
    std::fs::write(&secret, "old").unwrap();
    let options = S3Options {
        credentials: Credentials::Files { id, secret: secret.clone(), token: None },
        ..server.bucket()
    };
    let s3 = S3Store::new(options).unwrap();
    assert!(s3.open().await.unwrap_err().is_permanent());
    std::fs::write(&secret, support::SECRET).unwrap();
    s3.open().await.unwrap();
}

/// Encrypted requests through a tunnel, others by name.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_through_a_proxy() {
    let case = "a server is reached through a proxy";
    let Some(plain) = server(case) else { return };
    let files = tempfile::TempDir::new().unwrap();
    let (certificate, key_file) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    let path = |file: &std::path::Path| file.display().to_string();
    let tls = ["--cert".to_owned(), path(&certificate), "--key".to_owned(), path(&key_file)];
    let encrypted = support::new_versitygw(&tls).unwrap();
    let forward = support::forward::Forward::start("user", "word").await;
    let mut options = encrypted.bucket();
    options.endpoint = Some(encrypted.url.replace("http:", "https:"));
    options.trust = vec![made.cert.der().clone()];
    for (options, method) in [(options, "CONNECT "), (plain.bucket(), "PUT http://")] {
        let proxy = |user: &str| Some(format!("http://{user}:word@{}", forward.address));
        let with = S3Options { proxy: proxy("user"), ..options.clone() };
        let store: Store = Arc::new(support::open(with).await);
        let some = bytes(3_000_000, 1);
        put(&store, "a/b", &some).await;
        assert!(read(&store, "a/b").await == some);
        let seen = forward.seen();
        assert!(seen.iter().any(|line| line.starts_with(method)), "{method}: {seen:?}");
        let budget = Duration::from_secs(1);
        let error = support::refused(S3Options { proxy: proxy("no"), budget, ..options }).await;
        assert!(error.to_string().contains("407"), "{error}");
    }
    let socks = S3Options { proxy: Some("socks5://127.0.0.1".to_owned()), ..plain.bucket() };
    assert!(S3Store::new(socks).unwrap_err().to_string().contains("expected a proxy"));
}
