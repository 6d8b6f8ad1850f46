//! A plugin that misbehaves affects nobody else: its requests fail with the right status, the reason
//! is in the log, the metrics and the status page, and other mounts keep answering.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::component::{half, of_another_version};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tools;

use crate::store;

/// What the guest is asked to do, the status, the outcome in the metrics, and a text in the log.
const MISDEEDS: &[(&str, u16, &str, &str)] = &[
    ("loop", 503, "cpu", "CPU time"),
    ("loop-calling", 503, "cpu", "CPU time"),
    ("flood", 503, "memory", "bytes of memory"),
    ("trap", 500, "trap", "the plugin broke down: wasm trap: "),
    ("recurse", 500, "trap", "the plugin broke down: wasm trap: "),
    ("random", 500, "trap", "broke down"),
    ("nonsense", 500, "bad-reply", "status 42"),
    ("header", 500, "bad-reply", "set-cookie"),
];

fn started() -> (Setup, Gateway) {
    let setup = Setup::new()
        .mount("/", "restic", "")
        .mount("/hostile", "hostile", "limits = { cpu = \"300ms\", calls = 16, faults = 0 }")
        .mount("/warm", "hostile", "limits = { cpu = \"300ms\" }\nwarm = true")
        .mount("/hurried", "hostile", "limits = { time = \"300ms\", cpu = \"10s\" }")
        .mount("/few", "hostile", "limits = { calls = 1 }");
    setup.install("hostile", &tools::guest("hostile"));
    let gateway = setup.start();
    (setup, gateway)
}

/// Sends requests to restic's mount while something else happens, and returns how long the slowest
/// response took, and how many there were. `something` is given a function that waits until the mount
/// has answered another request: call it to make sure that it is still served.
fn meanwhile(endpoint: &Endpoint, something: impl FnOnce(&(dyn Fn() + Sync))) -> (Duration, u32) {
    let blob = Blob::new(77, 20_000);
    let path = store(endpoint, "/meanwhile/", blob);
    let (over, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    let still_served = || {
        let (before, end) = (answers.load(Ordering::Relaxed), Instant::now() + LONG);
        while answers.load(Ordering::Relaxed) == before {
            assert!(Instant::now() < end, "restic's mount no longer answers");
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::scope(|scope| {
        let polling = scope.spawn(|| {
            let mut connection = endpoint.connect();
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let reply = connection.send("GET", &path, &[], b"").unwrap();
                assert!(reply.status == 200 && reply.body == blob.bytes());
                slowest = slowest.max(begun.elapsed());
                answers.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
            slowest
        });
        something(&still_served);
        over.store(true, Ordering::Relaxed);
        (polling.join().unwrap(), answers.load(Ordering::Relaxed))
    })
}

fn outcome(gateway: &Gateway, mount: &str, outcome: &str) -> f64 {
    gateway.metric(&format!(
        "keepgate_plugin_calls_total{{mount=\"{mount}\",outcome=\"{outcome}\",plugin=\"hostile\"}}"
    ))
}

#[test]
fn each_misdeed_costs_one_request() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    let (slowest, answers) = meanwhile(&client, |still_served| {
        for mount in ["/hostile", "/warm"] {
            for (misdeed, status, reason, text) in MISDEEDS {
                let before = (outcome(&gateway, mount, reason), gateway.program.stderr.count());
                let reply = client.get(&format!("{mount}/{misdeed}"));
                assert_eq!(reply.status, *status, "{misdeed}");
                // The reason is for operators, not for clients.
                assert!(!reply.text().contains(text), "{misdeed}: {}", reply.text());
                assert_eq!(outcome(&gateway, mount, reason), before.0 + 1.0, "{misdeed}");
                gateway.program.stderr.wait_for(before.1, &[mount, text]);
                assert_eq!(client.get(&format!("{mount}/hello")).text(), "hello ");
                still_served();
            }
        }
    });
    tools::report(&format!(
        "hostile: one misdeed after the other, {answers} answers of restic's mount, the slowest \
         took {slowest:.0?}"
    ));
    gateway.stop();
}

#[test]
fn a_panic_is_logged_with_its_location_in_one_line_and_the_trap_in_another() {
    let (_setup, gateway) = started();
    let from = gateway.program.stderr.count();
    assert_eq!(gateway.endpoint().get("/hostile/trap").status, 500);
    gateway
        .program
        .stderr
        .wait_for(from, &["panicked at ", "hostile.rs:", "on purpose", "/hostile"]);
    gateway.program.stderr.wait_for(from, &["broke down: wasm trap: ", ", in function ", " < "]);
    gateway.stop();
}

#[test]
fn many_loops_at_once_leave_room_for_others() {
    let _turn = tools::one_at_a_time();
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    let (slowest, answers) = meanwhile(&client, |still_served| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for misdeed in ["loop", "flood", "loop-calling", "recurse"] {
                        let status = client.status("GET", &format!("/hostile/{misdeed}"));
                        assert!(matches!(status, 500 | 503), "{misdeed}: {status}");
                        // The other threads' calls are still running.
                        still_served();
                    }
                });
            }
        });
    });
    tools::report(&format!(
        "hostile: eight loops and floods at once, {answers} answers of restic's mount, the \
         slowest took {slowest:.0?}"
    ));
    gateway.stop();
}

#[test]
fn replies_that_break_off_are_not_complete() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    for misdeed in ["break-off", "fail-midway"] {
        let mut connection = client.connect();
        connection.write_head("GET", &format!("/hostile/{misdeed}"), &[]).unwrap();
        match connection.download("GET") {
            Ok(mut reply) if reply.head.status == 200 => {
                let mut body = Vec::new();
                assert!(reply.read_to_end(&mut body).is_err(), "{misdeed}: {} bytes", body.len());
            }
            // It trapped before anything was sent.
            Ok(reply) => assert_eq!(reply.head.status, 500, "{misdeed}"),
            // Disconnected before the head was sent.
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{misdeed}"),
        }
        assert_eq!(client.get("/hostile/hello").text(), "hello ");
    }
    assert_eq!(outcome(&gateway, "/hostile", "trap"), 1.0);
    assert_eq!(outcome(&gateway, "/hostile", "failure"), 1.0);

    // The client of an endless reply disconnects, which frees the only slot for calls.
    for _ in 0..5 {
        let mut connection = client.connect();
        connection.write_head("GET", "/few/stream-forever", &[]).unwrap();
        let mut some = vec![0; 1 << 20];
        connection.download("GET").unwrap().read_exact(&mut some).unwrap();
    }
    assert_eq!(client.get("/few/hello").text(), "hello ");
    gateway.stop();
}

#[test]
fn a_call_that_takes_too_long_is_answered_with_504() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    // The guest waits for a body that never comes.
    let mut connection = client.connect();
    connection.write_head("POST", "/hurried/length", &[("content-length", "10")]).unwrap();
    assert_eq!(connection.reply("POST").unwrap().status, 504);
    assert_eq!(outcome(&gateway, "/hurried", "time"), 1.0);
    assert_eq!(client.status("GET", "/hurried/loop"), 504);
    assert_eq!(client.get("/hurried/hello").text(), "hello ");
    gateway.stop();
}

#[test]
fn failures_have_their_status_and_bodies_are_passed_through() {
    let (setup, gateway) = started();
    let client = gateway.endpoint();
    let body = Blob::new(1, 500_000).bytes();
    assert_eq!(client.post("/hostile/echo", &body).body, body);
    assert_eq!(client.post("/hostile/length", &body).text(), "500000");
    let tail = client.post("/hostile/tail", &body);
    assert_eq!((tail.header("x-read"), &tail.body[..]), (Some("10"), &body[10..]));
    // Refused without being read. The connection may or may not be closed, but the response arrives.
    assert_eq!(client.post("/hostile/ignore", &body).status, 403);
    assert_eq!(client.status("GET", "/hostile/no-such-thing"), 404);
    assert_eq!(client.status("GET", "/hostile"), 404);
    assert_eq!(client.post("/hostile/escape", b"x").status, 400);
    assert!(!setup.path("escaped").exists());
    gateway.stop();
}

#[test]
fn unusable_files_are_refused_with_a_reason() {
    let (setup, gateway) = started();
    let client = gateway.endpoint();
    let hostile = tools::guest("hostile");
    let files: [(&str, Vec<u8>, &str); 5] = [
        ("text", b"#!/bin/sh\n".to_vec(), "not a WebAssembly component"),
        ("core", b"\0asm\x01\0\0\0".to_vec(), "core module"),
        ("newer", of_another_version(&hostile), "the gateway is too old"),
        ("half", half(&hostile).to_vec(), "still being copied"),
        ("mute", tools::guest("mute"), "`describe`"),
    ];
    let from = gateway.program.stderr.count();
    let (slowest, answers) = meanwhile(&client, |still_served| {
        for (name, bytes, _) in &files {
            setup.install(name, bytes);
            still_served();
        }
        for (name, _, why) in &files {
            let file = format!("/{name}.wasm");
            gateway.program.stderr.wait_for(from, &["plugin refused", &file, why]);
        }
        gateway.program.stderr.wait_for(from, &["serving", "refused=5"]);
    });
    let status = gateway.status();
    let refused = status["refused"].as_array().unwrap();
    for (name, _, why) in &files {
        let file = setup.plugin(name);
        let found = refused.iter().find(|refused| refused["what"] == file.to_str().unwrap());
        let found = found.unwrap_or_else(|| panic!("{name} is not refused: {status:#}"));
        assert!(found["why"].as_str().unwrap().contains(why), "{found}");
        assert_eq!(found["older_serves"], false);
    }
    assert_eq!(gateway.metric("keepgate_plugin_refused"), 5.0);
    assert_eq!(client.get("/hostile/hello").text(), "hello ");
    tools::report(&format!(
        "hostile: five broken files dropped in, {answers} answers of restic's mount, the slowest \
         took {slowest:.0?}"
    ));
    gateway.stop();
}

/// A plugin that is mounted from the start and never describes itself does not hold up the others.
#[test]
fn a_mute_plugin_does_not_keep_the_gateway_from_starting() {
    let setup = Setup::new().mount("/", "restic", "").mount("/mute", "mute", "");
    setup.install("mute", &tools::guest("mute"));
    let gateway = setup.start();
    assert_eq!(gateway.endpoint().status("GET", "/config"), 404);
    assert_eq!(gateway.endpoint().status("GET", "/mute/x"), 503);
    let ready = gateway.admin.get("/ready");
    assert!(ready.status == 503 && ready.text().contains("describe"), "{}", ready.text());
    gateway.stop();
}
