//! Single system calls fail; strace injects the errors into a running gateway.

use std::fs;
use std::io::{self, Read as _};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::Blob;
use keepgate_tests::fault::Strace;
use keepgate_tests::gateway::Setup;

use super::{assert_absent, assert_holds, assert_no_leftovers};
use crate::{path, store};

/// The calls that give a finished file its name, depending on the file system.
const NAMING: &str = "linkat,renameat2,renameat";

/// Steps of an upload after its last byte: the call, which of the thread's calls fails, whether the
/// blob has its name by then, and what is logged.
const STEPS: &[(&str, &str, bool, &str)] = &[
    ("fsync", "", false, "cannot sync"),
    (NAMING, "", false, "cannot name"),
    ("fsync", ":when=2", true, "cannot sync"),
];

/// The status and body of a `GET`, if the whole response arrives.
fn get(client: &Endpoint, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut connection = client.connect();
    connection.write_head("GET", path, &[])?;
    let mut download = connection.download("GET")?;
    let mut body = Vec::new();
    download.read_to_end(&mut body)?;
    Ok((download.head.status, body))
}

#[test]
fn an_upload_that_cannot_be_made_durable_is_not_acknowledged() {
    for (number, (calls, when, named, says)) in (1..).zip(STEPS) {
        let setup = Setup::restic();
        let gateway = setup.start();
        let client = gateway.endpoint();
        assert_eq!(client.post("/r/?create=true", b"").status, 200);
        let kept = Blob::new(100, 5000);
        store(&client, "/r/", kept);
        for size in [10, 2 << 20] {
            let blob = Blob::new(number, size);
            let path = path("/r/", &blob.id());
            let inject = format!("{calls}:error=EIO{when}");
            let check = "uploads whose last steps fail";
            let before = gateway.program.stderr.count();
            let Some(strace) = Strace::attach(check, &gateway.program, &inject) else { return };
            let reply = client.post(&path, &blob.bytes());
            strace.detach_after_failures();
            let what = format!("{inject}, {size} bytes");
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (500, "Internal Server Error\n"),
                "{what}"
            );
            let (_, line) = gateway.program.stderr.wait_for(before, &[says, "os error 5"]);
            assert!(line.contains("/r/data/"), "{line}");
            assert_no_leftovers(&setup);
            if *named {
                // It has its name and is whole, but was not promised to last.
                assert_eq!(client.get(&path).body, blob.bytes(), "{what}");
            } else {
                assert_absent(&client, &path);
                assert_holds(&setup, &client, "/r/", &[kept]);
            }
            // The client retries.
            store(&client, "/r/", blob);
            assert_holds(&setup, &client, "/r/", &[kept, blob]);
            assert_eq!(client.status("DELETE", &path), 200);
        }
        gateway.stop();
    }
}

#[test]
fn a_failed_delete_is_not_acknowledged() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 5000);
    let path = store(&client, "/r/", blob);
    let fails = |inject| {
        let strace = Strace::attach("deletes that fail", &gateway.program, inject)?;
        let status = client.status("DELETE", &path);
        strace.detach_after_failures();
        Some(status)
    };
    let Some(status) = fails("unlinkat:error=EIO") else { return };
    assert_eq!(status, 500);
    assert_holds(&setup, &client, "/r/", &[blob]);
    // Gone, but not durably: a power cut could bring it back.
    assert_eq!(fails("fsync:error=EIO"), Some(500));
    assert_eq!(client.status("DELETE", &path), 200);
    assert_holds(&setup, &client, "/r/", &[]);
    gateway.stop();
}

/// An unfinished file that cannot be removed stays until the next start.
#[test]
fn files_that_could_not_be_removed_are_swept_later() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 5000);
    let wrong = path("/r/", &Blob::new(2, 1).id());
    let check = "unfinished files that cannot be removed";
    let inject = "unlinkat:error=EIO";
    let Some(strace) = Strace::attach(check, &gateway.program, inject) else { return };
    assert_eq!(client.post(&wrong, &blob.bytes()).status, 400);
    // If unfinished files have no name, there is nothing to remove.
    strace.detach();
    assert_absent(&client, &wrong);
    drop(gateway);
    let gateway = setup.start();
    assert_no_leftovers(&setup);
    store(&gateway.endpoint(), "/r/", blob);
    gateway.stop();
}

/// A list that breaks off must not look complete: a client that prunes would delete the rest.
#[test]
fn a_list_or_blob_that_cannot_be_read_breaks_off() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let blobs: Vec<_> = (0..3000).map(|seed| Blob::new(seed, 10)).collect();
    for blob in &blobs {
        let id = blob.id();
        let file = setup.store().join("r/data").join(&id[..2]).join(&id);
        fs::write(file, blob.bytes()).unwrap();
    }
    let large = Blob::new(1, 4 << 20);
    let large_path = store(&client, "/big/", large);
    let check = "lists and blobs that cannot be read";
    // The first folder of 257, and one in the middle.
    for when in ["", ":when=100+"] {
        let inject = format!("getdents64:error=EIO{when}");
        let Some(strace) = Strace::attach(check, &gateway.program, &inject) else { return };
        let found = get(&client, "/r/data/");
        strace.detach_after_failures();
        let whole = matches!(&found, Ok((status, _)) if *status != 500);
        assert!(!whole, "{inject}: {} bytes", found.map_or(0, |(_, body)| body.len()));
    }
    let inject = "preadv2,preadv,pread64:error=EIO";
    let Some(strace) = Strace::attach(check, &gateway.program, inject) else { return };
    let found = get(&client, &large_path);
    strace.detach_after_failures();
    assert!(!matches!(&found, Ok((status, _)) if *status != 500), "a blob that was not read");

    let (status, body) = get(&client, "/r/data/").unwrap();
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, list.as_array().unwrap().len()), (200, blobs.len()));
    assert_eq!(get(&client, &large_path).unwrap().1, large.bytes());
    gateway.stop();
}

/// A hanging disk delays the requests that need it, and no others.
#[test]
fn a_disk_that_hangs_delays_nobody_else() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let (kept, blob) = (Blob::new(1, 100_000), Blob::new(2, 100_000));
    let kept_path = store(&client, "/r/", kept);
    let inject = "fsync:delay_enter=2s";
    let check = "a disk that hangs";
    let Some(strace) = Strace::attach(check, &gateway.program, inject) else { return };
    let mut uploads: Vec<_> = (0..8).map(|_| client.connect()).collect();
    for (seed, connection) in (10..).zip(&mut uploads) {
        let blob = Blob { seed, ..blob };
        let length = blob.size.to_string();
        let path = path("/r/", &blob.id());
        connection.write_head("POST", &path, &[("content-length", &length)]).unwrap();
        connection.write(&blob.bytes()).unwrap();
    }
    let in_flight = "keepgate_http_requests_in_flight{mount=\"/\"}";
    gateway.eventually("all uploads under way", |gateway| gateway.metric(in_flight) >= 8.0);
    let mut served = 0;
    // Each upload is delayed at least once, and by then others have been served.
    while gateway.metric(in_flight) >= 8.0 {
        assert_eq!(client.get(&kept_path).body, kept.bytes());
        assert_eq!(client.status("GET", "/r/data/"), 200);
        served += 1;
    }
    for connection in &mut uploads {
        assert_eq!(connection.reply("POST").unwrap().status, 200);
    }
    strace.detach();
    assert!(served > 0, "nobody was served while uploads waited for the disk");
    gateway.stop();
}
