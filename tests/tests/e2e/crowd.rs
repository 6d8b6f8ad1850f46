//! Idle, silent and slow clients do not keep others from being served, and are disconnected in time.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::{Connection, Endpoint};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::program::LONG;
use keepgate_tests::tools;

use crate::store;

/// Nobody is disconnected: a client that is served has not waited for the crowd to go.
const ENDLESS: &str = "[timeouts]\nhead = \"1h\"\nhandshake = \"1h\"\nidle = \"1h\"";
const SHORT: &str = "[timeouts]\nhead = \"2s\"\nhandshake = \"2s\"\nidle = \"1h\"";

/// The beginning of a head that never ends.
const SLOW_HEAD: &[u8] = b"GET /config HTTP/1.1\r\nhost: x\r\nx-slow: ";

fn setup(tls: bool, timeouts: &str) -> Setup {
    let setup = Setup::restic().table(timeouts);
    if tls { setup.tls() } else { setup }
}

/// Connections that say nothing, not even a TLS hello.
fn silent(port: u16, count: usize) -> Vec<Connection> {
    let plain = Endpoint::tcp(([127, 0, 0, 1], port).into());
    (0..count).map(|_| plain.connect()).collect()
}

/// Sends a byte of a head now and then until the server has closed the connection.
fn drip_until_closed(mut connection: Connection) {
    let end = Instant::now() + LONG;
    while connection.write(b"x").is_ok() {
        assert!(Instant::now() < end, "a head that never ends is still being read");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_crowd_of_idle_and_slow_clients_does_not_keep_others_waiting() {
    let _turn = tools::one_at_a_time();
    for tls in [false, true] {
        let gateway = setup(tls, ENDLESS).start();
        let client = gateway.endpoint();
        let blob = Blob::new(1, 100_000);
        let path = store(&client, "/r/", blob);

        // A hundred that have sent one request and wait.
        let mut idle: Vec<_> = (0..100).map(|_| client.connect()).collect();
        for connection in &mut idle {
            assert_eq!(connection.send("HEAD", &path, &[], b"").unwrap().status, 200);
        }
        let silent = silent(gateway.port(), 100);
        let mut slow: Vec<_> = (0..50).map(|_| client.connect()).collect();
        for connection in &mut slow {
            connection.write(SLOW_HEAD).unwrap();
        }

        // Meanwhile others are served: new clients, and those that waited.
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let begun = Instant::now();
            assert_eq!(client.get(&path).body, blob.bytes());
            slowest = slowest.max(begun.elapsed());
            for connection in &mut slow {
                connection.write(b"x").unwrap();
            }
            thread::sleep(Duration::from_millis(20));
        }
        for connection in &mut idle {
            assert_eq!(connection.send("GET", &path, &[], b"").unwrap().body, blob.bytes());
        }
        let kind = if tls { "TLS" } else { "plain" };
        tools::report(&format!(
            "crowd ({kind}): 250 connections open, 50 answers, the slowest took {slowest:.1?}"
        ));
        // An orderly stop would wait for requests that have begun.
        drop((idle, silent, slow));
        gateway.stop();
    }
}

#[test]
fn silent_and_slow_clients_are_disconnected_and_idle_ones_are_not() {
    for tls in [false, true] {
        let gateway = setup(tls, SHORT).start();
        let client = gateway.endpoint();
        let path = store(&client, "/r/", Blob::new(1, 1000));
        let mut idle = client.connect();
        assert_eq!(idle.send("HEAD", &path, &[], b"").unwrap().status, 200);
        let silent = silent(gateway.port(), 100);
        thread::scope(|scope| {
            for _ in 0..50 {
                let mut slow = client.connect();
                slow.write(SLOW_HEAD).unwrap();
                scope.spawn(|| drip_until_closed(slow));
            }
            for mut connection in silent {
                assert!(connection.is_closed_by_server());
            }
        });
        assert_eq!(idle.send("HEAD", &path, &[], b"").unwrap().status, 200);
        gateway.stop();
    }
}

/// Once the limit is reached, further connections wait until others end.
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
    // The admin pages have a listener of their own.
    gateway.assert_alive();
    drop(open.pop());
    assert_eq!(waiting.reply("GET").unwrap().status, 404);
    gateway.stop();
}

/// Silence in the middle of a body, in either direction, ends the request and nothing else.
#[test]
fn stalled_transfers_are_ended_and_slow_ones_are_not() {
    let setup = Setup::restic().table("[timeouts]\nstall = \"4s\"");
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
    // A slow client is not a silent one: the pauses are much shorter than the limit, and all of them
    // together are longer.
    let mut upload = client.connect();
    upload.write_head("POST", &upload_path, &[("content-length", &length)]).unwrap();
    for piece in blob.bytes().chunks(12_500) {
        thread::sleep(Duration::from_millis(700));
        upload.write(piece).unwrap();
    }
    assert_eq!(upload.reply("POST").unwrap().status, 200);
    gateway.stop();
}
