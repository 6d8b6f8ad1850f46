//! Broken, malicious and vanished clients: bytes that are not HTTP, contradictory framing, uploads that
//! are cut short. The server responds or closes the connection, stores nothing, and keeps serving.

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tree;

/// SHA-256 of "abc".
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Stands for a connection that is closed without a response.
const CLOSED: u16 = 0;

/// What is sent, with `ID` standing for [`ABC`], and the statuses that are right.
const BYTES: &[(&str, &[u8], &[u16])] = &[
    ("garbage", b"\x00\x01\x02garbage\r\n\r\n", &[400, CLOSED]),
    ("one word", b"hello\r\n\r\n", &[400, CLOSED]),
    ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[400, CLOSED]),
    ("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505, CLOSED]),
    ("HTTP/3.7", b"GET /config HTTP/3.7\r\nhost: x\r\n\r\n", &[400, 505, CLOSED]),
    ("no version", b"GET /config\r\nhost: x\r\n\r\n", &[400, CLOSED]),
    ("a blank in the path", b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", &[400, CLOSED]),
    ("a NUL in the path", b"GET /a\0b HTTP/1.1\r\nhost: x\r\n\r\n", &[400, CLOSED]),
    ("bytes that are no ASCII", b"GET /\xe4/config HTTP/1.1\r\nhost: x\r\n\r\n", &[400, 404, CLOSED]),
    ("a header without a colon", b"GET /config HTTP/1.1\r\nhost x\r\n\r\n", &[400, CLOSED]),
    ("a header that goes on", b"GET /config HTTP/1.1\r\nx: a\r\n b\r\n\r\n", &[400, CLOSED]),
    ("a blank before the colon", b"GET /config HTTP/1.1\r\nx : a\r\n\r\n", &[400, CLOSED]),
    ("no host", b"GET /config HTTP/1.1\r\n\r\n", &[400, 404]),
    ("only line feeds", b"GET /config HTTP/1.1\nhost: x\n\n", &[400, 404]),
    (
        "a length that is no number",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\nabc",
        &[400],
    ),
    (
        "a negative length",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: -3\r\n\r\nabc",
        &[400],
    ),
    (
        "a signed length",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc",
        &[400],
    ),
    (
        "a length beyond all numbers",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\nabc",
        &[400],
    ),
    (
        "two lengths",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        &[400],
    ),
    (
        "two lengths in one",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: 3, 4\r\n\r\nabcd",
        &[400],
    ),
    (
        "an unknown framing",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\nabc",
        &[400, 501],
    ),
    (
        "chunked in HTTP/1.0",
        b"POST /data/ID HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a chunk of a size that is no number",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a chunk without an end",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a chunk of all memory",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
        &[400],
    ),
    ("an expectation nobody knows", b"GET /config HTTP/1.1\r\nhost: x\r\nexpect: 42\r\n\r\n", &[404, 417]),
    ("an upgrade", b"GET /config HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", &[404]),
];

/// The same, after which the client shuts down writing.
const CUT: &[(&str, &[u8], &[u16])] = &[
    (
        "chunks that end too early",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        &[400],
    ),
    (
        "a body that ends too early",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nabc",
        &[400],
    ),
    (
        "no body where one is announced",
        b"POST /data/ID HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n",
        &[400],
    ),
    ("a head that ends too early", b"GET /config HTTP/1.1\r\nhost:", &[400, CLOSED]),
];

/// The status of the server's response to these bytes.
fn answer(client: &Endpoint, bytes: &[u8], cut: bool) -> u16 {
    let mut connection = client.connect();
    // The server may respond before it has read everything.
    let _ = connection.write(bytes);
    if cut {
        connection.finish_writing();
    }
    connection.reply("GET").map_or(CLOSED, |reply| reply.status)
}

fn nothing_is_stored(setup: &Setup) {
    let stored = tree::blobs(&setup.store());
    assert!(stored.is_empty(), "{stored:?}");
}

fn started() -> (Setup, Gateway) {
    let setup = Setup::restic();
    let gateway = setup.start();
    (setup, gateway)
}

#[test]
fn bytes_that_are_not_a_request() {
    let (setup, gateway) = started();
    let client = gateway.endpoint();
    let mut wrong = Vec::new();
    let cut = CUT.iter().map(|case| (case, true));
    for ((what, bytes, right), cut) in BYTES.iter().map(|case| (case, false)).chain(cut) {
        let text: Vec<u8> = match bytes.windows(3).position(|window| window == b"/ID") {
            Some(at) => [&bytes[..=at], ABC.as_bytes(), &bytes[at + 3..]].concat(),
            None => bytes.to_vec(),
        };
        let status = answer(&client, &text, cut);
        if !right.contains(&status) {
            wrong.push(format!("{what}: {status} and not one of {right:?}"));
        }
        assert_eq!(client.status("GET", "/config"), 404, "after {what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    nothing_is_stored(&setup);
    gateway.stop();
}

#[test]
fn oversized_heads_are_refused() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    let refused =
        |headers: &[(&str, &str)], path: &str| client.send("GET", path, headers, b"").status;
    let long = "x".repeat(100_000);
    assert_eq!(refused(&[("x", &long)], "/config"), 431);
    let many: Vec<_> = (0..2000).map(|_| ("x", "y")).collect();
    assert_eq!(refused(&many, "/config"), 431);
    assert!(matches!(refused(&[], &format!("/{long}")), 414 | 431));
    // Large ones that are still accepted.
    assert_eq!(refused(&[("x", &long[..20_000])], "/config"), 404);
    assert_eq!(refused(&[], &format!("/{}", &long[..20_000])), 404);
    assert_eq!(refused(&[], &format!("/{}", "a/".repeat(5000))), 404);
    assert_eq!(client.post(&format!("/{}/?create=true", &long[..5000]), b"").status, 404);
    gateway.stop();
}

#[test]
fn http_1_0() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    let path = crate::store(&client, "/r/", Blob::new(1, 100_000));
    for (path, status) in [(path.as_str(), 200), ("/r/data/", 200), ("/none", 404)] {
        let mut connection = client.connect();
        connection.write(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let reply = connection.reply("GET").unwrap();
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("transfer-encoding"), None, "{path}: HTTP/1.0 knows no chunks");
        assert!(connection.is_closed_by_server(), "{path}");
        match path {
            "/r/data/" => assert_eq!(reply.json().as_array().unwrap().len(), 1),
            "/none" => assert_eq!(reply.text(), "Not Found\n"),
            _ => assert_eq!(reply.body, Blob::new(1, 100_000).bytes()),
        }
    }
    gateway.stop();
}

#[test]
fn uploads_may_be_chunked() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    for (blob, piece) in [(Blob::new(1, 300_000), 7001), (Blob::new(2, 3), 1), (Blob::new(3, 0), 1)]
    {
        let (path, bytes) = (crate::path("/r/", &blob.id()), blob.bytes());
        let mut connection = client.connect();
        connection.write_head("POST", &path, &[("transfer-encoding", "chunked")]).unwrap();
        for piece in bytes.chunks(piece) {
            connection.write(format!("{:x};extension=1\r\n", piece.len()).as_bytes()).unwrap();
            connection.write(piece).unwrap();
            connection.write(b"\r\n").unwrap();
        }
        connection.write(b"0\r\ntrailer: x\r\n\r\n").unwrap();
        assert_eq!(connection.reply("POST").unwrap().status, 200);
        // The connection can be used for another request.
        assert_eq!(connection.send("GET", &path, &[], b"").unwrap().body, bytes);
    }
    gateway.stop();
}

#[test]
fn uploads_that_are_cut_short_leave_nothing() {
    let (setup, gateway) = started();
    let client = gateway.endpoint();
    for size in [1_u64, 1000, 200_000, 3 << 20] {
        let blob = Blob::new(size, size);
        let (path, bytes) = (crate::path("/", &blob.id()), blob.bytes());
        for part in [0, bytes.len() / 2, bytes.len() - 1] {
            for gone in [false, true] {
                let mut connection = client.connect();
                let length = size.to_string();
                connection.write_head("POST", &path, &[("content-length", &length)]).unwrap();
                connection.write(&bytes[..part]).unwrap();
                if gone {
                    // Closed without reading the response.
                    drop(connection);
                } else {
                    connection.finish_writing();
                    assert_eq!(connection.reply("POST").unwrap().status, 400, "{part} of {size}");
                }
                assert_eq!(client.status("HEAD", &path), 404, "{part} of {size}");
            }
        }
    }
    // Requests whose client is gone have been given up by now, or will be.
    gateway.eventually("the end of all requests", |gateway| {
        gateway.metric("keepgate_http_requests_in_flight{mount=\"/\"}") == 0.0
    });
    nothing_is_stored(&setup);
    gateway.stop();
}

#[test]
fn a_client_can_wait_for_100_continue() {
    let (setup, gateway) = started();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 100_000);
    let (path, length) = (crate::path("/r/", &blob.id()), blob.size.to_string());
    let headers = [("content-length", length.as_str()), ("expect", "100-continue")];
    let mut connection = client.connect();
    connection.write_head("POST", &path, &headers).unwrap();
    assert_eq!(connection.read_head().unwrap().status, 100);
    connection.write(&blob.bytes()).unwrap();
    assert_eq!(connection.reply("POST").unwrap().status, 200);
    // If it is refused, it need not send the body.
    let mut connection = client.connect();
    connection.write_head("POST", "/r/nonsense", &headers).unwrap();
    assert_eq!(connection.read_head().unwrap().status, 404);
    assert_eq!(tree::files(&setup.store().join("r/data")).len(), 1);
    gateway.stop();
}

/// Many requests sent at once on one connection are answered in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_setup, gateway) = started();
    let client = gateway.endpoint();
    let blobs: Vec<_> = (0..50).map(|size| Blob::new(1, size * 100)).collect();
    let mut all = Vec::new();
    for blob in &blobs {
        let path = crate::path("/r/", &blob.id());
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", blob.size);
        all.extend_from_slice(head.as_bytes());
        all.extend_from_slice(&blob.bytes());
        all.extend_from_slice(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    }
    // Fewer bytes than the sockets buffer, so neither side waits for the other.
    assert!(all.len() < 200_000);
    let mut connection = client.connect();
    connection.write(&all).unwrap();
    for blob in &blobs {
        assert_eq!(connection.reply("POST").unwrap().status, 200);
        assert_eq!(connection.reply("GET").unwrap().body, blob.bytes());
    }
    gateway.stop();
}
