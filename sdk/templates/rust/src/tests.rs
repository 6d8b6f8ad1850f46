//! The plugin's logic, natively, on a host in memory: `cargo test`.

use keepgate_sdk::testing::{Host, TestReply};
use serde_json::{Value, json};

use super::Archives;

fn send(host: &Host, method: &str, target: &str) -> TestReply {
    host.request(method, target).send::<Archives>()
}

fn put(host: &Host, target: &str, body: &[u8]) -> TestReply {
    host.request("PUT", target).body(body).send::<Archives>()
}

fn list(host: &Host) -> Value {
    serde_json::from_slice(&send(host, "GET", "/").body).unwrap()
}

#[test]
fn an_archive_goes_in_and_comes_back() {
    let host = Host::new();
    assert_eq!(list(&host), json!([]));
    let stored = put(&host, "/monday.tar", b"all my files");
    assert_eq!(
        (stored.status, stored.text().as_str()),
        (201, r#"{"name":"monday.tar","size":12}"#)
    );
    assert_eq!(list(&host), json!([{"name": "monday.tar", "size": 12}]));
    let got = send(&host, "GET", "/monday.tar");
    assert_eq!(
        (got.status, got.body.as_slice()),
        (200, b"all my files".as_slice())
    );
    let head = send(&host, "HEAD", "/monday.tar");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("12"))
    );
}

#[test]
fn a_part_is_enough_for_a_client_that_resumes() {
    let host = Host::new();
    host.put("a", b"0123456789");
    let part = host
        .get("/a")
        .header("range", "bytes=4-6")
        .send::<Archives>();
    assert_eq!(
        (part.status, part.body.as_slice()),
        (206, b"456".as_slice())
    );
    assert_eq!(part.header("content-range"), Some("bytes 4-6/10"));
    assert_eq!(
        host.get("/a")
            .header("range", "bytes=10-")
            .send::<Archives>()
            .status,
        416
    );
    assert_eq!(
        host.get("/a")
            .header("range", "lines=1-2")
            .send::<Archives>()
            .status,
        400
    );
}

#[test]
fn what_is_stored_is_replaced_only_where_the_operator_says_so() {
    let host = Host::new();
    assert_eq!(put(&host, "/a", b"first").status, 201);
    assert_eq!(put(&host, "/a", b"second").status, 409);
    assert_eq!(host.blob("a").unwrap(), b"first");

    let host = Host::new().settings(&json!({"replace": true}));
    assert_eq!(put(&host, "/a", b"first").status, 201);
    assert_eq!(put(&host, "/a", b"second").status, 201);
    assert_eq!(host.blob("a").unwrap(), b"second");
}

#[test]
fn a_body_that_is_cut_off_leaves_nothing() {
    let host = Host::new();
    let cut = host
        .request("PUT", "/a")
        .cut_short(b"only ha", 12)
        .send::<Archives>();
    assert_eq!(cut.status, 400);
    assert!(host.keys().is_empty());
}

#[test]
fn what_is_gone_is_gone() {
    let host = Host::new();
    host.put("a", b"x");
    assert_eq!(send(&host, "DELETE", "/a").status, 204);
    for method in ["GET", "HEAD", "DELETE"] {
        assert_eq!(send(&host, method, "/a").status, 404, "{method}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let host = Host::new();
    assert_eq!(put(&host, "/folder%2Fa", b"x").status, 400);
    assert_eq!(put(&host, "/..", b"x").status, 400);
    assert_eq!(send(&host, "GET", "/a/b").status, 404);
    let refused = send(&host, "POST", "/a");
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD, PUT, DELETE"))
    );
}

#[test]
fn a_full_disk_is_told() {
    let host = Host::new();
    host.full();
    assert_eq!(put(&host, "/a", b"x").status, 507);
}
