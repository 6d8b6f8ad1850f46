//! Real components in the real runtime: the plugins and the test guests. Run them by `cargo xtask test`,
//! which builds the components and sets the environment variables that name their folders.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod contract;
mod etcd;
mod hostile_guests;
mod job_guest;
mod misdeeds;
mod records;
mod secrets;
mod settling;
mod support;
mod upstreams;
mod wasi_http;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use keepgate_core::{CallError, Failure, Limit, Principal, Reply, Request};
use keepgate_runtime::capability::blobs::{StoreGrant, Stores};
use keepgate_runtime::capability::jobs::JobQueue;
use keepgate_runtime::capability::stand_in;
use keepgate_runtime::{Generation, Grants, Limits, Loader, Metrics, Mount, MountSpec};
use keepgate_store::memory::MemoryStore;
use keepgate_store::{BlobStore, Body};
use serde_json::json;

use support::*;

#[tokio::test]
async fn a_plugin_answers_and_its_calls_are_counted() {
    let mut bench = Bench::new();
    let mount = bench.hostile(|spec| {
        spec.settings = json!({"greeting": "!"}).as_object().unwrap().clone();
    });
    let mount = mount.await;
    let reply = get(&mount, "/hello").await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(text(reply).await, "hello ann!");
    assert_eq!(bench.counted("plugin_hostile_total"), Some(1.0));
    assert!(matches!(get(&mount, "/?").await, Err(CallError::Failure(Failure::NotFound))));
}

#[tokio::test]
async fn each_breakdown_has_its_reason_and_affects_one_request() {
    let mut bench = Bench::new();
    for warm in [false, true] {
        let mount = bench.hostile(|spec| {
            spec.warm = warm;
            // Reached quickly even on a busy machine.
            spec.limits.memory = 16 << 20;
        });
        let mount = mount.await;
        for _ in 0..3 {
            let reason = |result: Result<Reply, CallError>| result.unwrap_err().reason();
            assert_eq!(reason(get(&mount, "/loop").await), "cpu");
            assert_eq!(reason(get(&mount, "/loop-calling").await), "cpu");
            assert_eq!(reason(get(&mount, "/flood").await), "memory");
            assert_eq!(reason(get(&mount, "/trap").await), "trap");
            assert_eq!(reason(get(&mount, "/recurse").await), "trap");
            assert_eq!(reason(get(&mount, "/random").await), "trap");
            assert_eq!(reason(get(&mount, "/nonsense").await), "bad-reply");
            assert_eq!(reason(get(&mount, "/header").await), "bad-reply");
            assert_eq!(text(get(&mount, "/hello").await.unwrap()).await, "hello ann");
        }
        bench.put("hostile.wasm", &[guest("hostile"), b"\0\x02\x01x".to_vec()].concat());
    }
}

#[tokio::test]
async fn a_loop_does_not_block_the_thread() {
    let mut bench = Bench::new();
    // This test has one thread; if the guest blocked it, nothing else would run.
    let mount = bench.hostile(|spec| spec.limits.cpu = Duration::from_secs(3)).await;
    let looping = {
        let mount = mount.clone();
        tokio::spawn(async move { get(&mount, "/loop").await.unwrap_err().reason() })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..5 {
        assert_eq!(text(get(&mount, "/hello").await.unwrap()).await, "hello ann");
    }
    assert!(!looping.is_finished());
    assert_eq!(looping.await.unwrap(), "cpu");
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends() {
    let mut bench = Bench::new();
    let mount = bench.hostile(|spec| spec.limits.time = Duration::from_millis(200)).await;
    // The body never arrives.
    let mut waiting = request("POST", "/length", b"");
    waiting.body = Body::from_stream(None, futures_util::stream::pending());
    let error = mount.call(waiting).await.unwrap_err();
    assert!(matches!(error, CallError::OverLimit(Limit::Time(_))), "{error}");
}

#[tokio::test]
async fn calls_in_flight_are_limited() {
    let mut bench = Bench::new();
    let mount = bench.hostile(|spec| spec.limits.calls = 1).await;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let (reading, is_read) = tokio::sync::oneshot::channel::<()>();
    let mut held = request("POST", "/length", b"");
    held.body = Body::from_stream(
        None,
        futures_util::stream::once(async move {
            reading.send(()).unwrap();
            let _ = receiver.await;
            Ok(b"abc".to_vec().into())
        }),
    );
    let first = {
        let mount = mount.clone();
        tokio::spawn(async move { text(mount.call(held).await.unwrap()).await })
    };
    is_read.await.unwrap();
    let second = {
        let mount = mount.clone();
        tokio::spawn(async move { text(get(&mount, "/hello").await.unwrap()).await })
    };
    // Everything runs on this thread, so the second call had many more turns than it needs.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished(), "the second call did not wait");
    sender.send(()).unwrap();
    assert_eq!(first.await.unwrap(), "3");
    assert_eq!(second.await.unwrap(), "hello ann");
}

#[tokio::test]
async fn a_streamed_reply_that_breaks_off_ends_with_an_error() {
    let mut bench = Bench::new();
    let mount = bench.hostile(|_| {}).await;
    for path in ["/break-off", "/fail-midway", "/answer-midway"] {
        // Whether the failure comes before or after the head is sent depends on how far the
        // guest got; in both cases nobody takes it for a complete reply.
        match get(&mount, path).await {
            Ok(reply) => assert!(reply.body.collect(1 << 20).await.is_err(), "{path}"),
            Err(error) => assert_ne!(error.reason(), "busy"),
        }
    }
}

#[tokio::test]
async fn dropping_the_reply_stops_the_guest() {
    let mut bench = Bench::new();
    let mount = bench.hostile(|spec| spec.limits.calls = 1).await;
    let mut reply = get(&mount, "/stream-forever").await.unwrap();
    assert!(reply.body.chunk().await.unwrap().is_ok());
    drop(reply);
    // The only permit is available again.
    assert_eq!(text(get(&mount, "/hello").await.unwrap()).await, "hello ann");
}

#[tokio::test]
async fn bodies_pass_through() {
    let mut bench = Bench::new();
    for warm in [false, true] {
        let mount = bench.hostile(|spec| spec.warm = warm).await;
        let body = vec![7; 300_000];
        let echoed = mount.call(request("POST", "/echo", &body)).await.unwrap();
        assert_eq!(echoed.body.length(), Some(300_000));
        assert_eq!(echoed.body.collect(1 << 20).await.unwrap(), body);
        let length = mount.call(request("POST", "/length", &body)).await.unwrap();
        assert_eq!(text(length).await, "300000");
        let tail = mount.call(request("POST", "/tail", &body)).await.unwrap();
        assert_eq!(tail.body.length(), Some(299_990));
        assert_eq!(tail.body.collect(1 << 20).await.unwrap().len(), 299_990);
    }
}

#[tokio::test]
async fn stores_are_granted_by_name() {
    let mut bench = Bench::new();
    let mount = bench.hostile(|_| {}).await;
    let error = get(&mount, "/store").await.unwrap_err();
    assert!(matches!(error, CallError::Failure(Failure::Denied(_))), "{error}");
    let mut bench = Bench::new();
    let mount = bench.hostile(|spec| drop(with_store(spec))).await;
    assert_eq!(get(&mount, "/store").await.unwrap().status, 200);
    let error = mount.call(request("PUT", "/escape", b"x")).await.unwrap_err();
    assert!(matches!(error, CallError::Failure(Failure::Invalid(_))), "{error}");
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// Moving a body is the host's work, even if it never waits: over a terabyte the time for each chunk adds
/// up.
#[tokio::test]
async fn a_long_upload_is_not_charged_to_the_guest() {
    let mut bench = Bench::new();
    bench.put("restic.wasm", &restic());
    let spec = spec("/", "restic", |spec| drop(with_store(spec)));
    let limit = spec.limits.cpu;
    let generation = bench.generation(&[spec]).await;
    let chunks = futures_util::stream::iter(0..8).map(move |_| {
        // Of the thread's CPU time, which a busy machine does not shorten.
        let begun = cpu_time();
        while cpu_time() - begun < limit / 2 {
            std::hint::spin_loop();
        }
        Ok(bytes::Bytes::from_static(b"chunk"))
    });
    let mut upload = request("POST", "/r/config", b"");
    upload.body = Body::from_stream(None, chunks);
    assert_eq!(generation.mounts[0].call(upload).await.unwrap().status, 200);
}

#[tokio::test]
async fn restic_stores_and_lists() {
    let mut bench = Bench::new();
    bench.put("restic.wasm", &restic());
    let spec = spec("/restic", "restic", |spec| drop(with_store(spec)));
    let generation = bench.generation(&[spec]).await;
    let mount = &generation.mounts[0];
    let id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let target = format!("/repo/data/{id}");
    assert_eq!(mount.call(request("POST", &target, b"abc")).await.unwrap().status, 200);
    assert_eq!(mount.call(request("POST", &target, b"abd")).await.unwrap().status, 403);
    let reply = get(mount, "/repo/data/").await.unwrap();
    assert_eq!(text(reply).await, format!("[\"{id}\"]"));
    let reply = get(mount, &target).await.unwrap();
    assert_eq!((reply.body.length(), text(reply).await), (Some(3), "abc".to_owned()));
}

#[tokio::test]
async fn files_that_are_not_plugins_are_refused_with_the_reason() {
    let mut bench = Bench::new();
    let good = guest("hostile");
    bench.put("text.wasm", b"#!/bin/sh\n");
    bench.put("core.wasm", b"\0asm\x01\0\0\0");
    bench.put("half.wasm", &good[..good.len() / 2]);
    bench.put("empty.wasm", b"");
    bench.put("other.wasm", b"\0asm\x0d\0\x01\0");
    bench.put("newer.wasm", &replace(&good, b"@0.1.1", b"@0.9.0"));
    bench.put("older.wasm", &replace(&good, b"@0.1.1", b"@0.0.1"));
    bench.put("mute.wasm", &guest("mute"));
    let generation = bench.generation(&[]).await;
    let why = |name: &str| {
        let refused =
            generation.refused.iter().find(|r| r.what.ends_with(&format!("/{name}.wasm")));
        refused.unwrap_or_else(|| panic!("{name} is not refused")).why.clone()
    };
    assert!(why("text").contains("not a WebAssembly component"), "{}", why("text"));
    assert!(why("core").contains("core module"), "{}", why("core"));
    assert!(why("half").contains("still being copied"), "{}", why("half"));
    assert!(why("empty").contains("still being copied"), "{}", why("empty"));
    assert!(why("other").contains("does not export keepgate:plugin/guest@0.1.1"));
    assert!(why("newer").contains("the gateway is too old"), "{}", why("newer"));
    assert!(why("older").contains("the plugin is too old"), "{}", why("older"));
    assert!(why("mute").contains("`describe`"), "{}", why("mute"));
    assert!(generation.plugins.is_empty());
}

#[tokio::test]
async fn a_bad_file_leaves_the_previous_plugin_active() {
    let mut bench = Bench::new();
    bench.put("hostile.wasm", &guest("hostile"));
    let specs = [spec("/", "hostile", |_| {})];
    let first = bench.generation(&specs).await;
    bench.put("hostile.wasm", b"garbage");
    let second = bench.generation(&specs).await;
    assert!(Arc::ptr_eq(&first.mounts[0], &second.mounts[0]), "carried over as it is");
    assert!(second.refused[0].older_serves);
    assert_eq!(second.number, 2);
    // A removed plugin is gone until its file is back.
    fs::remove_file(bench.file("hostile.wasm")).unwrap();
    let third = bench.generation(&specs).await;
    let error = get(&third.mounts[0], "/hello").await.unwrap_err();
    assert!(matches!(&error, CallError::NotServing(why) if why.contains("no plugin")), "{error}");
    // In-flight requests finish on the previous generation.
    assert_eq!(text(get(&first.mounts[0], "/hello").await.unwrap()).await, "hello ann");
    bench.put("other.wasm", &guest("hostile"));
    fs::rename(bench.file("other.wasm"), bench.file("hostile.wasm")).unwrap();
    let fourth = bench.generation(&specs).await;
    assert_eq!(text(get(&fourth.mounts[0], "/hello").await.unwrap()).await, "hello ann");
    assert!(fourth.refused.is_empty());
}

#[tokio::test]
async fn settings_are_checked_before_a_mount_serves() {
    let mut bench = Bench::new();
    bench.put("hostile.wasm", &guest("hostile"));
    let with = |settings: serde_json::Value| {
        spec("/", "hostile", |spec| spec.settings = settings.as_object().unwrap().clone())
    };
    for bad in [json!({"greting": "x"}), json!({"greeting": "forbidden"}), json!({"greeting": 1})] {
        let generation = bench.generation(&[with(bad)]).await;
        assert_eq!(generation.refused.len(), 1);
        assert!(generation.refused[0].why.contains("gre"), "{:?}", generation.refused);
        let error = get(&generation.mounts[0], "/hello").await.unwrap_err();
        let told = matches!(&error, CallError::Misconfigured(why) if why.contains("gre"));
        assert!(told, "{error}");
    }
    bench.put("restic.wasm", &restic());
    let generation = bench.generation(&[spec("/r", "restic", |_| {})]).await;
    assert!(generation.refused[0].why.contains("store \"main\""), "{:?}", generation.refused);
}

#[tokio::test]
async fn compiled_code_is_cached_and_replaced_if_damaged() {
    let mut bench = Bench::new();
    bench.put("hostile.wasm", &guest("hostile"));
    bench.scan().await;
    let kept = |bench: &Bench| -> Vec<PathBuf> {
        fs::read_dir(bench.code.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let [file] = &kept(&bench)[..] else { panic!("{:?}", kept(&bench)) };
    for damage in [b"short".to_vec(), vec![0; 100_000], Vec::new()] {
        fs::write(file, damage).unwrap();
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let mut again = Loader::new(bench.folder.path(), Some(bench.code.path()), metrics).unwrap();
        assert!(again.scan().await.settled);
        assert_eq!(again.plugins().len(), 1);
        assert!(fs::metadata(file).unwrap().len() > 10_000, "written anew");
    }
    let before = Instant::now();
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let mut again = Loader::new(bench.folder.path(), Some(bench.code.path()), metrics).unwrap();
    again.scan().await;
    eprintln!("engine and a cached plugin: {:?}", before.elapsed());
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for start in 0..out.len().saturating_sub(from.len()) {
        if &out[start..start + from.len()] == from {
            out[start..start + to.len()].copy_from_slice(to);
        }
    }
    out
}
