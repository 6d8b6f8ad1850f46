//! Tests the plugin's logic natively, on a host in memory: `cargo test`. The cases in `cases/` test the component:
//! `keepgate plugin test`.

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
    assert_eq!(stored.status, 201);
    assert_eq!(stored.text(), r#"{"name":"monday.tar","size":12}"#);
    assert_eq!(list(&host), json!([{"name": "monday.tar", "size": 12}]));
    let found = send(&host, "GET", "/monday.tar");
    assert_eq!(found.status, 200);
    assert_eq!(found.body, b"all my files");
    assert_eq!(found.header("etag"), stored.header("etag"));
}

#[test]
fn an_archive_is_replaced_only_if_the_operator_allows_it() {
    let host = Host::new();
    assert_eq!(put(&host, "/a", b"first").status, 201);
    assert_eq!(put(&host, "/a", b"first").status, 201);
    assert_eq!(put(&host, "/a", b"second").status, 409);
    assert_eq!(host.blob("a").unwrap(), b"first");

    let host = Host::new().settings(&json!({"replace": true}));
    assert_eq!(put(&host, "/a", b"first").status, 201);
    assert_eq!(put(&host, "/a", b"second").status, 201);
    assert_eq!(host.blob("a").unwrap(), b"second");
}

#[test]
fn a_removed_archive_is_not_found() {
    let host = Host::new();
    host.put("a", b"x");
    assert_eq!(send(&host, "DELETE", "/a").status, 204);
    for method in ["GET", "HEAD", "DELETE"] {
        assert_eq!(send(&host, method, "/a").status, 404, "{method}");
    }
}

#[test]
fn other_names_are_refused() {
    let host = Host::new();
    let longest = format!("/{}", "a".repeat(128));
    assert_eq!(put(&host, &longest, b"x").status, 201);
    for bad in ["/.hidden", "/a%20b", "/%C3%A4", &format!("{longest}a")] {
        assert_eq!(put(&host, bad, b"x").status, 400, "{bad}");
    }
}

#[test]
fn a_body_that_is_cut_off_leaves_nothing() {
    let host = Host::new();
    let request = host.request("PUT", "/a").cut_short(b"only ha", 12);
    assert_eq!(request.send::<Archives>().status, 400);
    assert!(host.keys().is_empty());
}
