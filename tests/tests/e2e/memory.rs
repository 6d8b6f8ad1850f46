//! Bodies pass through and are not kept in memory. Measured as the process's peak memory.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::s3::S3Server;
use keepgate_tests::tools;

use crate::{path, store};

/// How much more memory transfers may need than an idle gateway.
const MOST: u64 = 32 << 20;

/// A gateway that has served a little, and its peak memory by then.
fn warmed_up(setup: &Setup) -> (Gateway, u64) {
    let gateway = setup.start();
    let client = gateway.endpoint();
    store(&client, "/r/", Blob::new(1, 1000));
    assert_eq!(client.status("GET", "/r/data/"), 200);
    let idle = gateway.program.memory("VmHWM");
    (gateway, idle)
}

fn upload(client: &Endpoint, blob: Blob) -> String {
    let path = path("/r/", &blob.id());
    let sent = client.connect().send_from("POST", &path, &[], blob.size, blob.reader());
    assert_eq!(sent.unwrap().status, 200);
    path
}

/// Reads a blob back, with a part so slow that the server must wait, and checks it.
fn download_with_a_pause(client: &Endpoint, blob: Blob) {
    let id = blob.id();
    let mut connection = client.connect();
    connection.write_head("GET", &path("/r/", &id), &[]).unwrap();
    let mut download = connection.download("GET").unwrap();
    assert_eq!(download.head.header("content-length"), Some(blob.size.to_string().as_str()));
    let third = blob.size / 3;
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    let first = sha256_of_part(&mut download, third);
    for _ in 0..20 {
        bytes.resize(256 * 1024, 0);
        download.read_exact(&mut bytes).unwrap();
        found.extend_from_slice(&bytes);
        thread::sleep(Duration::from_millis(50));
    }
    let last = sha256(&mut download);
    let mut expected = blob.reader();
    assert_eq!(first, sha256_of_part(&mut expected, third));
    let mut middle = vec![0; found.len()];
    expected.read_exact(&mut middle).unwrap();
    assert!(middle == found);
    assert_eq!(last, sha256(expected));
}

fn sha256_of_part(from: &mut impl std::io::Read, length: u64) -> String {
    sha256(from.take(length))
}

fn report(what: &str, gateway: &Gateway, idle: u64, begun: Instant) -> u64 {
    let grown = gateway.program.memory("VmHWM") - idle;
    tools::report(&format!(
        "memory: {what}: {:.1} MiB more than idle ({:.1} MiB), in {:.1?}",
        grown as f64 / 1048576.0,
        idle as f64 / 1048576.0,
        begun.elapsed()
    ));
    grown
}

#[test]
fn a_gigabyte_is_stored_and_returned() {
    let _turn = tools::one_at_a_time();
    for tls in [false, true] {
        let setup = if tls { Setup::restic().tls() } else { Setup::restic() };
        let (gateway, idle) = warmed_up(&setup);
        let client = gateway.endpoint();
        let (begun, blob) = (Instant::now(), Blob::new(2, 1 << 30));
        upload(&client, blob);
        download_with_a_pause(&client, blob);
        let what = if tls { "1 GiB in and out over TLS" } else { "1 GiB in and out" };
        let grown = report(what, &gateway, idle, begun);
        assert!(grown < MOST, "{grown} bytes");
        gateway.stop();
    }
}

/// In a bucket, what uploads may hold together is configured.
#[test]
fn a_gigabyte_is_stored_in_a_bucket_and_returned() {
    let Some(server) = S3Server::find("memory with a store in a bucket") else { return };
    let _turn = tools::one_at_a_time();
    let most = 64 << 20;
    let setup = Setup::restic().in_bucket(&server, "bucket", "memory = \"64MiB\"");
    let (gateway, idle) = warmed_up(&setup);
    let client = gateway.endpoint();
    let (begun, blob) = (Instant::now(), Blob::new(2, 1 << 30));
    upload(&client, blob);
    download_with_a_pause(&client, blob);
    let grown = report("1 GiB in and out of a bucket", &gateway, idle, begun);
    assert!(grown < MOST + most, "{grown} bytes");
    thread::scope(|scope| {
        for seed in 0..8 {
            let client = &client;
            scope.spawn(move || {
                let blob = Blob::new(100 + seed, 64 << 20);
                upload(client, blob);
                download_with_a_pause(client, blob);
            });
        }
    });
    let grown = report("8 times 64 MiB at once in a bucket", &gateway, idle, begun);
    assert!(grown < MOST + most, "{grown} bytes");
    gateway.stop();
}

#[test]
fn eight_concurrent_transfers() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::restic();
    let (gateway, idle) = warmed_up(&setup);
    let client = gateway.endpoint();
    let begun = Instant::now();
    thread::scope(|scope| {
        for seed in 0..8 {
            let client = &client;
            scope.spawn(move || {
                let blob = Blob::new(100 + seed, 128 << 20);
                upload(client, blob);
                download_with_a_pause(client, blob);
            });
        }
    });
    let grown = report("8 times 128 MiB at once, in and out", &gateway, idle, begun);
    assert!(grown < MOST, "{grown} bytes");
    gateway.stop();
}
