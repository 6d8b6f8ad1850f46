//! SIGTERM: in-flight requests finish, new ones are not accepted, the exit code is 0. A second signal
//! cuts them off.

use std::io::Read as _;

use keepgate_tests::client::Connection;
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::{LONG, Program};
use rustix::process::Signal;

use crate::{path, store};

/// More than the sockets buffer.
const BLOB: Blob = Blob { seed: 1, size: 64 << 20 };

/// A download that has begun and stalls.
fn begun(gateway: &Gateway) -> Connection {
    let client = gateway.endpoint();
    let path = store(&client, "/r/", BLOB);
    let mut connection = client.connect();
    connection.write_head("GET", &path, &[]).unwrap();
    connection
}

#[test]
fn in_flight_requests_finish() {
    for (tls, signal) in [(false, Signal::TERM), (true, Signal::INT)] {
        let setup = if tls { Setup::restic().tls() } else { Setup::restic() };
        let mut gateway = setup.start();
        let client = gateway.endpoint();
        let mut idle = client.connect();
        assert_eq!(idle.send("GET", "/config", &[], b"").unwrap().status, 404);
        let mut download = begun(&gateway);
        let mut download = download.download("GET").unwrap();
        let mut bytes = vec![0; 1000];
        download.read_exact(&mut bytes).unwrap();
        let other = Blob::new(2, 100_000);
        let (upload_path, length) = (path("/r/", &other.id()), other.size.to_string());
        let mut upload = client.connect();
        upload.write_head("POST", &upload_path, &[("content-length", &length)]).unwrap();
        upload.write(&other.bytes()[..500]).unwrap();
        gateway.eventually("the upload's begin", |gateway| {
            gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}") == 2.0
        });

        gateway.program.signal(signal);
        gateway.program.stderr.wait_for(0, &["shutting down"]);
        assert!(idle.is_closed_by_server());
        assert!(
            client.try_connect().and_then(|mut new| new.send("GET", "/config", &[], b"")).is_err()
        );
        download.read_to_end(&mut bytes).unwrap();
        assert!(bytes == BLOB.bytes());
        upload.write(&other.bytes()[500..]).unwrap();
        assert_eq!(upload.reply("POST").unwrap().status, 200);
        let status = gateway.program.wait(LONG);
        assert_eq!(status.code(), Some(0));
        gateway.program.stderr.wait_for(0, &["shut down cleanly"]);
        assert!(setup.store().join(format!("r/data/{}/{}", &other.id()[..2], other.id())).exists());
        assert!(!setup.path("admin.sock").exists());
    }
}

/// Somebody who sees that it serves may signal it at once; it must not be killed by that.
#[test]
fn a_signal_right_after_startup_is_handled() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for _ in 0..10 {
            let setup = Setup::restic();
            let mut program = Program::start(setup.command());
            let (line, _) = program.stderr.wait_for(0, &["serving", "generation="]);
            program.signal(signal);
            if signal == Signal::HUP {
                program.stderr.wait_for(line + 1, &["serving", "generation=2"]);
                program.signal(Signal::TERM);
            }
            assert_eq!(program.wait(LONG).code(), Some(0), "{signal:?}");
        }
    }
}

#[test]
fn a_second_signal_cuts_requests_off() {
    let setup = Setup::restic();
    let mut gateway = setup.start();
    let mut download = begun(&gateway);
    let mut download = download.download("GET").unwrap();
    let mut bytes = vec![0; 1000];
    download.read_exact(&mut bytes).unwrap();
    gateway.program.signal(Signal::TERM);
    let (line, _) = gateway.program.stderr.wait_for(0, &["shutting down"]);
    gateway.program.signal(Signal::TERM);
    gateway.program.stderr.wait_for(line, &["second signal"]);
    assert_eq!(gateway.program.wait(LONG).code(), Some(0));
    assert!(download.read_to_end(&mut bytes).is_err(), "{} bytes", bytes.len());
}

#[test]
fn a_time_limit_cuts_requests_off() {
    let setup = Setup::restic().table("[timeouts]\nshutdown = \"500ms\"");
    let mut gateway = setup.start();
    let mut download = begun(&gateway);
    let mut download = download.download("GET").unwrap();
    let mut bytes = vec![0; 1000];
    download.read_exact(&mut bytes).unwrap();
    gateway.program.signal(Signal::TERM);
    gateway.program.stderr.wait_for(0, &["cutting connections"]);
    assert_eq!(gateway.program.wait(LONG).code(), Some(0));
    assert!(download.read_to_end(&mut bytes).is_err(), "{} bytes", bytes.len());
}
