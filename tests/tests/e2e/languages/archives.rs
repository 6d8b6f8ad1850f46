//! The templates: archives are stored, returned, listed and removed by name.

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::Gateway;
use keepgate_tests::tools;
use serde_json::json;

use super::{Language, median};

const MIB: u64 = 1 << 20;

pub(super) fn describe_themselves(language: Language, gateway: &Gateway) {
    let name = language.archive();
    let status = gateway.status();
    let plugins = status["plugins"].as_array().unwrap();
    let plugin = plugins.iter().find(|plugin| plugin["name"] == name.as_str()).unwrap();
    let said = &plugin["description"];
    assert_eq!(said["name"], name.as_str());
    assert_eq!(said["default_mount"], format!("/{name}").as_str());
    assert_eq!(said["stores"], json!(["main"]));
}

pub(super) fn are_kept(gateway: &Gateway) {
    let client = gateway.endpoint();
    let put =
        |path: &str, headers: &[(&str, &str)], body: &[u8]| client.send("PUT", path, headers, body);
    assert_eq!(client.get("/archive/").json(), json!([]), "before anything was stored");
    assert_eq!(client.status("GET", "/archive/one"), 404);

    let blob = Blob::new(1, 100_000).bytes();
    let stored = put("/archive/one", &[], &blob);
    assert_eq!(stored.status, 201, "{}", stored.text());
    assert_eq!(stored.json(), json!({"name": "one", "size": 100_000}));
    let found = client.get("/archive/one");
    assert!(found.status == 200 && found.body == blob);
    assert_eq!(found.header("content-type"), Some("application/octet-stream"));
    let etag = found.header("etag").unwrap().to_owned();
    assert_eq!(stored.header("etag"), Some(etag.as_str()));
    assert!(found.header("last-modified").unwrap().contains(" 20"), "{found:?}");
    let head = client.send("HEAD", "/archive/one", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("100000")));
    let known = client.send("GET", "/archive/one", &[("if-none-match", &etag)], b"");
    assert_eq!((known.status, known.body.len()), (304, 0));
    ranges_are_parts(&client, &blob);

    assert_eq!(put("/archive/one", &[], &blob).status, 201, "the same once more");
    assert_eq!(put("/archive/one", &[], b"other").status, 409);
    assert_eq!(client.get("/archive/one").body, blob, "a refused upload changes nothing");
    let right = sha256(&b"two"[..]);
    assert_eq!(put("/archive/two", &[("x-sha256", &right)], b"tow").status, 400);
    assert_eq!(put("/archive/two", &[("x-sha256", &right)], b"two").status, 201);

    let all = json!([{"name": "one", "size": 100_000}, {"name": "two", "size": 3}]);
    assert_eq!(client.get("/archive/").json(), all);

    for (path, status) in
        [("/archive/.hidden", 400), ("/archive/a%2Fb", 400), ("/archive/a/b", 404)]
    {
        assert_eq!(client.status("GET", path), status, "{path}");
    }
    let refused = client.send("POST", "/archive/one", &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, PUT, DELETE")));
    for (name, status) in [("one", 204), ("two", 204), ("two", 404)] {
        assert_eq!(client.status("DELETE", &format!("/archive/{name}")), status);
    }
    assert_eq!(client.get("/archive/").json(), json!([]));
}

fn ranges_are_parts(client: &Endpoint, blob: &[u8]) {
    for (range, status, part, content_range) in [
        ("bytes=5-9", 206, &blob[5..10], Some("bytes 5-9/100000")),
        ("bytes=99990-", 206, &blob[99_990..], Some("bytes 99990-99999/100000")),
        ("bytes=-10", 206, &blob[99_990..], Some("bytes 99990-99999/100000")),
        ("bytes=5-2", 200, blob, None),
        ("bytes=1-2,4-5", 200, blob, None),
        ("items=1-2", 200, blob, None),
    ] {
        let reply = client.send("GET", "/archive/one", &[("range", range)], b"");
        assert_eq!(
            (reply.status, reply.header("content-range")),
            (status, content_range),
            "{range}"
        );
        assert!(reply.body == part, "{range}");
    }
    let reply = client.send("GET", "/archive/one", &[("range", "bytes=100000-")], b"");
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */100000")));
}

/// More than the plugin's memory limit is stored and returned.
pub(super) fn pass_without_entering(language: Language, gateway: &Gateway) {
    let client = gateway.endpoint();
    let blob = Blob::new(2, 64 * MIB);
    let before = gateway.program.memory("VmHWM");
    for _ in 0..2 {
        let sent = client
            .connect()
            .send_from("PUT", "/tight/large", &[], blob.size, blob.reader())
            .unwrap();
        assert_eq!(sent.status, 201, "{}", sent.text());
    }
    let mut connection = client.connect();
    connection.write_head("GET", "/tight/large", &[]).unwrap();
    assert_eq!(sha256(connection.download("GET").unwrap()), blob.id());
    let grown = gateway.program.memory("VmHWM").saturating_sub(before);
    tools::report(&format!(
        "languages: {}: 64 MiB in, compared, and out: {:.1} MiB more memory",
        language.archive(),
        grown as f64 / MIB as f64
    ));
    assert!(grown < 48 * MIB, "{grown} bytes");
    assert_eq!(client.status("DELETE", "/tight/large"), 204);
}

pub(super) fn are_answered_fresh_and_warm(language: Language, gateway: &Gateway) {
    let client = gateway.endpoint();
    assert_eq!(client.send("PUT", "/archive/timed", &[], b"x").status, 201);
    let mut connection = client.connect();
    let mut ask = |path: &str| {
        median(|| {
            assert_eq!(connection.send("HEAD", path, &[], b"").unwrap().status, 200);
        })
    };
    let (fresh, warm) = (ask("/archive/timed"), ask("/warm/timed"));
    tools::report(&format!(
        "languages: {}: HEAD by a fresh instance {fresh:.1?}, by a warm one {warm:.1?} (median)",
        language.archive()
    ));
    assert_eq!(client.status("DELETE", "/archive/timed"), 204);
}

/// The default limit is enough, as everything else here shows; too little is reported to the operator.
pub(super) fn need_some_memory(language: Language, gateway: &Gateway) {
    let from = gateway.program.stderr.count();
    assert_eq!(gateway.endpoint().status("GET", "/starved/"), 503);
    let limit = "but `limits.memory` is 1048576 bytes";
    gateway.program.stderr.wait_for(from, &["/starved", &language.archive(), limit]);
}
