//! Ranges, lengths and lists: what restic relies on to the letter.

use std::thread;

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::tree;

use crate::store;

const V1: &str = "application/vnd.x.restic.rest.v1";
const V2: &str = "application/vnd.x.restic.rest.v2";

/// A range, and the first and last byte of the part that is returned for a blob of 1000 bytes.
const PARTS: [(&str, usize, usize); 14] = [
    ("bytes=0-", 0, 999),
    ("bytes=0-0", 0, 0),
    ("bytes=0-999", 0, 999),
    ("bytes=0-1000", 0, 999),
    ("bytes=999-", 999, 999),
    ("bytes=999-5000", 999, 999),
    ("bytes=10-19", 10, 19),
    ("bytes=-1", 999, 999),
    ("bytes=-1000", 0, 999),
    ("bytes=-1001", 0, 999),
    ("bytes=-18446744073709551616", 0, 999),
    ("bytes=0-18446744073709551615", 0, 999),
    ("bytes=0-99999999999999999999999", 0, 999),
    ("bytes= 5-9 ", 5, 9),
];

/// Ranges that contain no byte of the blob.
const OUTSIDE: [&str; 6] = [
    "bytes=-0",
    "bytes=1000-",
    "bytes=1000-1001",
    "bytes=5000-",
    "bytes=18446744073709551615-",
    "bytes=99999999999999999999999-",
];

const SENSELESS: [&str; 11] = [
    "bytes=5-2",
    "bytes=x-y",
    "bytes=5",
    "bytes=",
    "bytes=-",
    "bytes=--1",
    "bytes=+1-2",
    "bytes=0x1-2",
    "chunks=0-1",
    "0-1",
    "bytes=1-2-3",
];

#[test]
fn ranges_return_exactly_the_requested_part() {
    let gateway = Setup::restic().start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 1000);
    let (path, bytes) = (store(&client, "/r/", blob), blob.bytes());
    let get = |range: &str| client.send("GET", &path, &[("range", range)], b"");

    for (range, first, last) in PARTS {
        let reply = get(range);
        assert_eq!(reply.status, 206, "{range}");
        let said = format!("bytes {first}-{last}/1000");
        assert_eq!(reply.header("content-range"), Some(said.as_str()), "{range}");
        // restic takes a part of unknown length for a failure.
        let length = (last - first + 1).to_string();
        assert_eq!(reply.header("content-length"), Some(length.as_str()), "{range}");
        assert_eq!(reply.header("transfer-encoding"), None, "{range}");
        assert_eq!(reply.body, bytes[first..=last], "{range}");
    }
    for range in OUTSIDE {
        let reply = get(range);
        assert_eq!(reply.status, 416, "{range}");
        assert_eq!(reply.header("content-range"), Some("bytes */1000"), "{range}");
    }
    for range in SENSELESS {
        let reply = get(range);
        assert_eq!((reply.status, reply.header("content-range")), (416, None), "{range}");
    }
    // Several ranges, an empty one, none, and one whose condition does not hold.
    let whole = |reply: Reply, what: &str| {
        assert_eq!(reply.status, 200, "{what}");
        assert_eq!(reply.header("content-length"), Some("1000"), "{what}");
        assert_eq!(reply.header("accept-ranges"), Some("bytes"), "{what}");
        assert_eq!(reply.header("content-range"), None, "{what}");
        assert!(reply.body == bytes, "{what}");
    };
    whole(get("bytes=0-1,5-6"), "several ranges");
    whole(get(""), "an empty range");
    whole(client.get(&path), "no range");
    let guarded = [("range", "bytes=0-1"), ("if-range", "\"x\"")];
    whole(client.send("GET", &path, &guarded, b""), "if-range");
    gateway.stop();
}

#[test]
fn an_empty_blob_has_no_part() {
    let gateway = Setup::restic().start();
    let client = gateway.endpoint();
    let path = store(&client, "/r/", Blob::new(0, 0));
    for range in ["bytes=0-", "bytes=0-0", "bytes=5-", "bytes=-1"] {
        let reply = client.send("GET", &path, &[("range", range)], b"");
        assert_eq!(reply.status, 200, "{range}");
        assert_eq!(reply.header("content-length"), Some("0"), "{range}");
        assert_eq!(reply.header("content-range"), None, "{range}");
        assert!(reply.body.is_empty());
    }
    let head = client.send("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("0")));
    gateway.stop();
}

#[test]
fn heads_have_the_length_and_no_body() {
    let gateway = Setup::restic().start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/config", b"configuration").status, 200);
    let path = store(&client, "/r/", Blob::new(1, 1000));
    // On one connection, where an extra byte would be taken for the next response.
    let mut connection = client.connect();
    for _ in 0..3 {
        for (path, status, length) in
            [(path.as_str(), 200, "1000"), ("/r/config", 200, "13"), ("/other/config", 404, "10")]
        {
            let reply = connection.send("HEAD", path, &[("range", "bytes=0-1")], b"").unwrap();
            assert_eq!(reply.status, status, "{path}");
            assert_eq!(reply.header("content-length"), Some(length), "{path}");
            assert_eq!(reply.header("content-range"), None, "{path}");
        }
        let refused = connection.send("HEAD", "/r/data/", &[], b"").unwrap();
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")));
    }
    assert_eq!(connection.send("GET", &path, &[], b"").unwrap().body.len(), 1000);
    // A config file is returned as a whole, whatever range is requested.
    let config = client.send("GET", "/r/config", &[("range", "bytes=0-1")], b"");
    assert_eq!((config.status, config.text().as_str()), (200, "configuration"));
    gateway.stop();
}

/// Concurrent uploads of the same blob all succeed; of concurrent uploads of a config file, one does.
#[test]
fn concurrent_uploads_of_the_same_name() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    for round in 0..10 {
        let blob = Blob::new(round, 300_000);
        let path = crate::path("/r/", &blob.id());
        // One of them breaks off, which must not affect the others.
        let mut broken = client.connect();
        broken.write_head("POST", &path, &[("content-length", "300000")]).unwrap();
        broken.write(&blob.bytes()[..1000]).unwrap();
        let repository = format!("/{round}/config");
        let taken: usize = thread::scope(|scope| {
            let clients: Vec<_> = (0..8_u8)
                .map(|number| {
                    let (client, path, repository) = (&client, &path, &repository);
                    scope.spawn(move || {
                        assert_eq!(client.post(path, &blob.bytes()).status, 200);
                        let config = client.post(repository, &[number]).status;
                        assert!(matches!(config, 200 | 403), "{config}");
                        usize::from(config == 200)
                    })
                })
                .collect();
            drop(broken);
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        assert_eq!(taken, 1, "configurations taken");
        assert!(client.get(&path).body == blob.bytes());
    }
    assert_eq!(tree::files(&setup.store().join("r")).len(), 10);
    gateway.stop();
}

#[test]
fn lists_come_in_both_versions() {
    let gateway = Setup::restic().start();
    let client = gateway.endpoint();
    assert_eq!(client.status("GET", "/r/data/"), 404, "no repository yet");
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    for kind in ["data", "index", "keys", "locks", "snapshots"] {
        let list = client.get(&format!("/r/{kind}/"));
        assert_eq!((list.status, list.text().as_str()), (200, "[]"), "{kind}");
    }
    let blobs: Vec<_> = (0..2000_u32).map(|size| Blob::new(9, size.into())).collect();
    let mut connection = client.connect();
    for blob in &blobs {
        let path = crate::path("/r/", &blob.id());
        let stored = connection.send("POST", &path, &[], &blob.bytes()).unwrap();
        assert_eq!(stored.status, 200);
    }
    let mut expected: Vec<_> = blobs.iter().map(|blob| (blob.id(), blob.size)).collect();
    expected.sort();
    for (accept, version) in [
        (None, V1),
        (Some(V1), V1),
        (Some(V2), V2),
        (Some("*/*"), V1),
        (Some(""), V1),
        // Compared as a whole, like rest-server does.
        (Some("application/vnd.x.restic.rest.v2;q=1"), V1),
        (Some("application/vnd.x.restic.rest.v2, */*"), V1),
        (Some("APPLICATION/VND.X.RESTIC.REST.V2"), V1),
        (Some("application/vnd.x.restic.rest.v3"), V1),
    ] {
        assert_eq!(list(&client, accept, version), expected, "{accept:?}");
    }
    gateway.stop();
}

/// The names and sizes in a list; if it has no sizes, those that belong to the names.
fn list(client: &Endpoint, accept: Option<&str>, version: &str) -> Vec<(String, u64)> {
    let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
    let reply = client.send("GET", "/r/data/", &headers, b"");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some(version), "{accept:?}");
    let known: std::collections::HashMap<_, _> =
        (0..2000).map(|size| (Blob::new(9, size).id(), size)).collect();
    let mut found: Vec<_> = reply
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| match entry.as_str() {
            Some(name) => (name.to_owned(), known[name]),
            None => (entry["name"].as_str().unwrap().to_owned(), entry["size"].as_u64().unwrap()),
        })
        .collect();
    found.sort();
    found
}
