//! Clients vanish, are slow, or come all at once. Afterwards everything is as before: descriptors, files
//! and memory.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keepgate_tests::client::{Connection, Endpoint};
use keepgate_tests::data::Blob;
use keepgate_tests::fault::allow_open_files;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;

use super::{assert_absent, assert_at_rest, assert_holds, assert_no_leftovers, at_rest};
use crate::{path, store};

/// Memory that the gateway may keep after a crowd, in bytes: buffers for the next one, and so much free memory that it is
/// not worth giving back.
const KEPT: u64 = 64 << 20;

/// How a client disconnects.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// It closes the connection (FIN).
    End,
    /// It resets the connection (RST), like a process that dies with unread data.
    Reset,
}

fn leave(connection: Connection, farewell: Farewell) {
    match farewell {
        Farewell::End => drop(connection),
        Farewell::Reset => connection.reset(),
    }
}

/// A gateway that has served a little, so it has open what it keeps open.
fn started(tls: bool, tables: &str) -> (Setup, Gateway, Blob) {
    let setup = Setup::restic().table(tables);
    let setup = if tls { setup.tls() } else { setup };
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let blob = Blob::new(1, 100_000);
    let path = store(&client, "/r/", blob);
    assert_eq!(client.get(&path).body, blob.bytes());
    (setup, gateway, blob)
}

/// Starts an upload and sends half of it.
fn half_an_upload(client: &Endpoint, repository: &str, blob: Blob, chunked: bool) -> Connection {
    let mut connection = client.connect();
    let (path, bytes) = (path(repository, &blob.id()), blob.bytes());
    let half = &bytes[..bytes.len() / 2];
    if chunked {
        connection.write_head("POST", &path, &[("transfer-encoding", "chunked")]).unwrap();
        connection.write(format!("{:x}\r\n", bytes.len()).as_bytes()).unwrap();
    } else {
        let length = blob.size.to_string();
        connection.write_head("POST", &path, &[("content-length", &length)]).unwrap();
    }
    connection.write(half).unwrap();
    connection
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}")
}

#[test]
fn uploads_of_vanished_clients_leave_nothing() {
    for tls in [false, true] {
        let (setup, gateway, kept) = started(tls, "");
        let client = gateway.endpoint();
        let open = at_rest(&gateway);
        for farewell in [Farewell::End, Farewell::Reset] {
            let blobs: Vec<_> = (0..20).map(|seed| Blob::new(100 + seed, 600_000)).collect();
            let uploads: Vec<_> = blobs
                .iter()
                .map(|blob| half_an_upload(&client, "/r/", *blob, blob.seed % 2 == 0))
                .collect();
            gateway.eventually("all uploads under way", |gateway| in_flight(gateway) == 20.0);
            uploads.into_iter().for_each(|upload| leave(upload, farewell));
            assert_at_rest(&gateway, open);
            assert_no_leftovers(&setup);
            assert_holds(&setup, &client, "/r/", &[kept]);
            // A second upload of the same blob succeeds.
            let path = store(&client, "/r/", blobs[0]);
            assert_eq!(client.get(&path).body, blobs[0].bytes());
            assert_eq!(client.status("DELETE", &path), 200);
        }
        gateway.stop();
    }
}

#[test]
fn downloads_of_vanished_clients_leave_nothing() {
    for tls in [false, true] {
        let (_setup, gateway, _) = started(tls, "");
        let client = gateway.endpoint();
        let blob = Blob::new(2, 32 << 20);
        let path = store(&client, "/r/", blob);
        let open = at_rest(&gateway);
        for farewell in [Farewell::End, Farewell::Reset] {
            let downloads: Vec<_> = (0..20)
                .map(|_| {
                    let mut connection = client.connect();
                    connection.write_head("GET", &path, &[]).unwrap();
                    let mut download = connection.download("GET").unwrap();
                    assert_eq!(download.head.status, 200);
                    download.read_exact(&mut [0; 1000]).unwrap();
                    connection
                })
                .collect();
            assert_eq!(in_flight(&gateway), 20.0);
            downloads.into_iter().for_each(|download| leave(download, farewell));
            assert_at_rest(&gateway, open);
        }
        assert_eq!(client.get(&path).body, blob.bytes());
        gateway.stop();
    }
}

/// Stalled uploads and heads that never end are cut off, trickling uploads are tolerated, and everybody
/// else is served meanwhile.
#[test]
fn stalled_clients_are_cut_off_and_others_served() {
    let _turn = tools::one_at_a_time();
    if !allow_open_files("slow clients", 4096) {
        return;
    }
    for tls in [false, true] {
        let times = "[timeouts]\nhead = \"5s\"\nhandshake = \"5s\"\nstall = \"5s\"\nidle = \"1h\"";
        let (setup, gateway, kept) = started(tls, times);
        let client = gateway.endpoint();
        let kept_path = path("/r/", &kept.id());
        let open = at_rest(&gateway);
        let blob = |seed| Blob::new(seed, 20_000);
        let trickling: Vec<_> = (200..220)
            .map(|seed| (half_an_upload(&client, "/r/", blob(seed), false), blob(seed)))
            .collect();
        let silent: Vec<_> =
            (100..200).map(|seed| half_an_upload(&client, "/r/", blob(seed), false)).collect();
        let headless: Vec<_> = (0..50)
            .map(|_| {
                let mut connection = client.connect();
                connection.write(b"POST /r/config HTTP/1.1\r\nhost:").unwrap();
                connection
            })
            .collect();
        let over = AtomicBool::new(false);
        let served = thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut served = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(client.get(&kept_path).body, kept.bytes());
                    let path = store(&client, "/r/", blob(300));
                    assert_eq!(client.status("DELETE", &path), 200);
                    served += 1;
                }
                served
            });
            // Within the limit for silence, and slower than anybody would like.
            let trickle = scope.spawn(|| {
                let (mut trickling, mut sent) = (trickling, 10_000);
                while !over.load(Ordering::Relaxed) {
                    for (connection, blob) in &mut trickling {
                        connection.write(&blob.bytes()[sent..=sent]).unwrap();
                    }
                    sent += 1;
                    thread::sleep(std::time::Duration::from_millis(200));
                }
                (trickling, sent)
            });
            for mut connection in silent {
                assert_eq!(connection.reply("POST").unwrap().status, 408);
            }
            for mut connection in headless {
                // With a response or without one.
                let status = connection.reply("POST").map_or(408, |reply| reply.status);
                assert_eq!(status, 408);
            }
            over.store(true, Ordering::Relaxed);
            let (trickling, sent) = trickle.join().unwrap();
            for (mut connection, blob) in trickling {
                connection.write(&blob.bytes()[sent..]).unwrap();
                assert_eq!(connection.reply("POST").unwrap().status, 200);
            }
            others.join().unwrap()
        });
        assert!(served > 0);
        assert_at_rest(&gateway, open);
        assert_no_leftovers(&setup);
        let trickled = (200..220).map(blob);
        let all: Vec<_> = std::iter::once(kept).chain(trickled).collect();
        assert_holds(&setup, &client, "/r/", &all);
        assert_absent(&client, &path("/r/", &blob(100).id()));
        gateway.stop();
    }
}

#[test]
fn a_thousand_idle_connections_cost_nothing_but_themselves() {
    let _turn = tools::one_at_a_time();
    if !allow_open_files("a thousand idle connections", 4096) {
        return;
    }
    for tls in [false, true] {
        let (setup, gateway, kept) = started(tls, "");
        let client = gateway.endpoint();
        let kept_path = path("/r/", &kept.id());
        let (open, before) = (at_rest(&gateway), gateway.program.memory("VmRSS"));
        let mut idle: Vec<_> = (0..1000).map(|_| client.connect()).collect();
        for connection in &mut idle {
            assert_eq!(connection.send("HEAD", &kept_path, &[], b"").unwrap().status, 200);
        }
        assert!(gateway.metric("keepgate_http_connections") >= 1000.0);
        let with = gateway.program.memory("VmRSS");
        let blobs: Vec<_> = (100..150).map(|seed| Blob::new(seed, 200_000)).collect();
        thread::scope(|scope| {
            for blobs in blobs.chunks(10) {
                let client = &client;
                scope.spawn(move || {
                    for blob in blobs {
                        let path = store(client, "/r/", *blob);
                        assert_eq!(client.get(&path).body, blob.bytes());
                    }
                });
            }
        });
        // Each of those that waited is served as if it had just connected.
        for connection in &mut idle {
            let reply = connection.send("GET", &kept_path, &[], b"").unwrap();
            assert!(reply.status == 200 && reply.body == kept.bytes());
        }
        drop(idle);
        assert_at_rest(&gateway, open);
        let after = gateway.memory_at_rest(before + KEPT);
        report("a thousand idle connections", tls, before, with, after);
        assert!(after < before + KEPT, "{after} bytes, {before} before");
        let all: Vec<_> = std::iter::once(kept).chain(blobs).collect();
        assert_holds(&setup, &client, "/r/", &all);
        gateway.stop();
    }
}

#[test]
fn two_hundred_concurrent_uploads_all_succeed() {
    let _turn = tools::one_at_a_time();
    if !allow_open_files("two hundred uploads at once", 4096) {
        return;
    }
    for tls in [false, true] {
        let (setup, gateway, kept) = started(tls, "");
        let client = gateway.endpoint();
        let (open, before) = (at_rest(&gateway), gateway.program.memory("VmRSS"));
        for round in 0..2 {
            let seeds = (100 + round * 200)..(300 + round * 200);
            let blobs: Vec<_> = seeds.map(|seed| Blob::new(seed, 1 << 20)).collect();
            all_at_once(&gateway, &client, &blobs);
            assert_at_rest(&gateway, open);
            assert_no_leftovers(&setup);
            let all: Vec<_> = std::iter::once(kept).chain(blobs.iter().copied()).collect();
            assert_holds(&setup, &client, "/r/", &all);
            for blob in &blobs {
                assert_eq!(client.status("DELETE", &path("/r/", &blob.id())), 200);
            }
            assert_at_rest(&gateway, open);
            let after = gateway.memory_at_rest(before + KEPT);
            report(
                "200 uploads of 1 MiB at once",
                tls,
                before,
                gateway.program.memory("VmHWM"),
                after,
            );
            assert!(after < before + KEPT, "{after} bytes after crowd {round}, {before} before");
        }
        gateway.stop();
    }
}

/// Uploads that are all in progress before one of them ends.
fn all_at_once(gateway: &Gateway, client: &Endpoint, blobs: &[Blob]) {
    let mut uploads: Vec<_> =
        blobs.iter().map(|blob| half_an_upload(client, "/r/", *blob, false)).collect();
    gateway.eventually("all uploads under way", |gateway| in_flight(gateway) == 200.0);
    thread::scope(|scope| {
        for (upload, blob) in uploads.iter_mut().zip(blobs) {
            scope.spawn(move || {
                let bytes = blob.bytes();
                upload.write(&bytes[bytes.len() / 2..]).unwrap();
                assert_eq!(upload.reply("POST").unwrap().status, 200);
            });
        }
    });
}

fn report(what: &str, tls: bool, before: u64, with: u64, after: u64) {
    let kind = if tls { "over TLS" } else { "plain" };
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    tools::report(&format!(
        "{what} ({kind}): {:.1} MiB before, {:.1} with them, {:.1} after",
        mib(before),
        mib(with),
        mib(after)
    ));
}
