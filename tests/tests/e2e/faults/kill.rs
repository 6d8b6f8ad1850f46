//! `kill -9` at each step of an upload. `durability` does it at random and often; here each step is
//! certain to be hit.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::thread;

use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::fault::Strace;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;

use super::{assert_holds, assert_no_leftovers};
use crate::{path, store};

const KILL: i32 = 9;

/// A gateway with a repository and an acknowledged blob.
fn started() -> (Setup, Gateway, Blob) {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let kept = Blob::new(1000, 200_000);
    store(&client, "/r/", kept);
    (setup, gateway, kept)
}

/// After the kill, the acknowledged blob is there, and so is the other one if it had its name;
/// otherwise nothing is left of it. It can be stored again.
#[track_caller]
fn look(setup: &Setup, kept: Blob, blob: Blob, named: bool) {
    let id = blob.id();
    let file = setup.store().join("r/data").join(&id[..2]).join(&id);
    assert_eq!(file.exists(), named, "before the next start");
    if named {
        assert_eq!(sha256(fs::File::open(&file).unwrap()), id);
    }
    let gateway = setup.start();
    assert_no_leftovers(setup);
    let client = gateway.endpoint();
    let found = if named { vec![kept, blob] } else { vec![kept] };
    assert_holds(setup, &client, "/r/", &found);
    store(&client, "/r/", blob);
    assert_holds(setup, &client, "/r/", &[kept, blob]);
    gateway.stop();
}

#[test]
fn a_kill_before_and_during_the_body() {
    for part in [0, 1, 700_000, 999_999] {
        let (setup, mut gateway, kept) = started();
        let blob = Blob::new(1, 1_000_000);
        let received = "keepgate_http_received_bytes_total{mount=\"/\"}";
        let before = gateway.metric(received);
        let mut connection = gateway.endpoint().connect();
        let length = blob.size.to_string();
        let path = path("/r/", &blob.id());
        connection.write_head("POST", &path, &[("content-length", &length)]).unwrap();
        connection.write(&blob.bytes()[..part]).unwrap();
        gateway.eventually("the upload", |gateway| {
            let in_flight = gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}");
            in_flight == 1.0 && gateway.metric(received) - before == part as f64
        });
        gateway.program.kill();
        assert!(connection.reply("POST").is_err());
        drop(gateway);
        look(&setup, kept, blob, false);
    }
}

/// After the last byte: the calls at whose start the gateway is killed, and whether the blob has its
/// name by then.
const STEPS: &[(&str, u64, bool)] = &[
    ("fsync:signal=KILL", 1_000_000, false),
    ("fsync:signal=KILL", 10, false),
    ("linkat,renameat2,renameat:signal=KILL", 1_000_000, false),
    // The folder's sync, after the file's.
    ("fsync:signal=KILL:when=2", 1_000_000, true),
    // For an empty blob, only the response is written.
    ("writev,sendto,sendmsg:signal=KILL", 0, true),
];

#[test]
fn a_kill_between_the_last_byte_and_the_response() {
    for (inject, size, named) in STEPS {
        let (setup, mut gateway, kept) = started();
        let client = gateway.endpoint();
        let blob = Blob::new(1, *size);
        let check = "uploads killed at each of their last steps";
        let Some(strace) = Strace::attach(check, &gateway.program, inject) else { return };
        let status = thread::scope(|scope| {
            let (client, path) = (&client, path("/r/", &blob.id()));
            let sent =
                scope.spawn(move || client.connect().send("POST", &path, &[], &blob.bytes()));
            let status = gateway.program.wait(LONG);
            let sent = sent.join().unwrap();
            assert!(sent.is_err(), "{inject}: it was answered, {sent:?}");
            status
        });
        assert_eq!(status.signal(), Some(KILL), "{inject}");
        strace.detach();
        drop(gateway);
        look(&setup, kept, blob, *named);
    }
}
