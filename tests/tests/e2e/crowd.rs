//! Idle, silent and slow clients do not stop others, and go in time.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::tools;

use crate::store;

const TIMEOUTS: &str = "[timeouts]\nhead = \"4s\"\nhandshake = \"4s\"\nidle = \"1h\"";

#[test]
fn a_crowd_of_idle_and_slow_clients() {
    let _turn = tools::one_at_a_time();
    for tls in [false, true] {
        let mut setup = Setup::restic().table(TIMEOUTS);
        if tls {
            setup = setup.tls();
        }
        let gateway = setup.start();
        let client = gateway.endpoint();
        let blob = Blob::new(1, 100_000);
        let path = store(&client, "/r/", blob);

        // A hundred that have asked once and wait.
        let mut idle: Vec<_> = (0..100).map(|_| client.connect()).collect();
        for connection in &mut idle {
            assert_eq!(connection.send("HEAD", &path, &[], b"").unwrap().status, 200);
        }
        let begun = Instant::now();
        // A hundred that connect and say nothing, not even a TLS hello.
        let address = ([127, 0, 0, 1], gateway.port()).into();
        let plain = keepgate_tests::client::Endpoint::tcp(address);
        let mut silent: Vec<_> = (0..100).map(|_| plain.connect()).collect();
        // Fifty whose head never ends.
        let mut slow: Vec<_> = (0..50).map(|_| client.connect()).collect();
        for connection in &mut slow {
            connection.write(b"GET /config HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
        }

        // Meanwhile the others are served: new ones, and those that waited.
        let mut slowest = Duration::ZERO;
        let mut answers = 0;
        while begun.elapsed() < Duration::from_millis(1500) {
            let one = Instant::now();
            assert_eq!(client.get(&path).body, blob.bytes());
            slowest = slowest.max(one.elapsed());
            answers += 1;
            for connection in &mut slow {
                connection.write(b"x").unwrap();
            }
            thread::sleep(Duration::from_millis(20));
        }
        let kind = if tls { "TLS" } else { "plain" };
        tools::report(&format!(
            "crowd ({kind}): 250 connections open, {answers} answers, the slowest took {slowest:.1?}"
        ));
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");

        for connection in slow.iter_mut().chain(&mut silent) {
            assert!(connection.is_closed_by_server());
        }
        // In time: not when the client would have given up.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        for connection in &mut idle {
            assert_eq!(connection.send("GET", &path, &[], b"").unwrap().body, blob.bytes());
        }
        gateway.stop();
    }
}

/// As many as are allowed: the next ones wait, and come in when others go.
#[test]
fn connections_are_limited() {
    let setup = Setup::restic();
    setup.write();
    setup.edit(|text| {
        text.replace("address = \"127.0.0.1:0\"", "address = \"127.0.0.1:0\"\nmax_connections = 4")
    });
    let gateway = setup.start();
    let client = gateway.endpoint();
    let mut open: Vec<_> = (0..4).map(|_| client.connect()).collect();
    for connection in &mut open {
        assert_eq!(connection.send("GET", "/config", &[], b"").unwrap().status, 404);
    }
    let mut waiting = client.connect();
    waiting.write_head("GET", "/config", &[]).unwrap();
    gateway.program.stderr.wait_for(0, &["connection limit reached"]);
    // The operators' pages have a listener of their own.
    gateway.assert_alive();
    drop(open.pop());
    assert_eq!(waiting.reply("GET").unwrap().status, 404);
    gateway.stop();
}

/// Silence in the middle of a body, from either side, ends the request and nothing else.
#[test]
fn transfers_that_stand_still_are_ended() {
    let setup = Setup::restic().table("[timeouts]\nstall = \"1s\"");
    let gateway = setup.start();
    let client = gateway.endpoint();
    let path = store(&client, "/r/", Blob::new(1, 64 << 20));
    let mut download = client.connect();
    download.write_head("GET", &path, &[]).unwrap();
    let mut download = download.download("GET").unwrap();

    let blob = Blob::new(2, 100_000);
    let (upload_path, length) = (crate::path("/r/", &blob.id()), blob.size.to_string());
    let mut upload = client.connect();
    upload.write_head("POST", &upload_path, &[("content-length", &length)]).unwrap();
    upload.write(&blob.bytes()[..50_000]).unwrap();
    assert_eq!(upload.reply("POST").unwrap().status, 408);
    assert_eq!(client.status("HEAD", &upload_path), 404);

    gateway.program.stderr.wait_for(0, &["the client accepts no data"]);
    let mut bytes = Vec::new();
    assert!(download.read_to_end(&mut bytes).is_err(), "{} bytes", bytes.len());
    // Slow is not silent.
    let mut upload = client.connect();
    upload.write_head("POST", &upload_path, &[("content-length", &length)]).unwrap();
    for piece in blob.bytes().chunks(20_000) {
        thread::sleep(Duration::from_millis(400));
        upload.write(piece).unwrap();
    }
    assert_eq!(upload.reply("POST").unwrap().status, 200);
    gateway.stop();
}
