//! The protocol's table, against the in-memory host.

use keepgate_sdk::testing::{Host, TestReply};
use serde_json::json;

use super::Restic;

/// SHA-256 of "abc" and of nothing.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const V2: &str = "application/vnd.x.restic.rest.v2";

fn send(host: &Host, method: &str, target: &str) -> TestReply {
    host.request(method, target).send::<Restic>()
}

fn post(host: &Host, target: &str, body: &[u8]) -> TestReply {
    host.post(target, body).send::<Restic>()
}

#[test]
fn a_repository_is_made_once_or_twice() {
    let host = Host::new();
    assert_eq!(post(&host, "/r/?create=true", b"").status, 200);
    assert_eq!(post(&host, "/r/?create=true", b"").status, 200);
    assert_eq!(post(&host, "/r/?create=false", b"").status, 400);
    assert_eq!(post(&host, "/r/", b"").status, 400);
    assert_eq!(send(&host, "GET", "/r/data/").text(), "[]");
    assert_eq!(send(&host, "GET", "/other/data/").status, 404);
    let refused = send(&host, "GET", "/r/");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")));
}

#[test]
fn a_blob_goes_in_and_out() {
    let host = Host::new();
    let target = format!("/r/data/{ABC}");
    assert_eq!(send(&host, "HEAD", &target).status, 404);
    assert_eq!(post(&host, &target, b"abc").status, 200);
    assert_eq!(host.keys(), [format!("r/data/ba/{ABC}")]);
    let head = send(&host, "HEAD", &target);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("3"), 0));
    let got = send(&host, "GET", &target);
    assert_eq!((got.status, got.body.as_slice()), (200, b"abc".as_slice()));
    assert_eq!(got.header("accept-ranges"), Some("bytes"));
    assert_eq!(send(&host, "DELETE", &target).status, 200);
    assert_eq!(send(&host, "DELETE", &target).status, 200);
    assert_eq!(send(&host, "GET", &target).status, 404);
    assert_eq!(host.count("rest_server_blob_write_total  r data"), 1);
    assert_eq!(host.count("rest_server_blob_write_bytes_total  r data"), 3);
    assert_eq!(host.count("rest_server_blob_delete_bytes_total  r data"), 3);
}

#[test]
fn bytes_must_have_the_name_that_they_come_under() {
    let host = Host::new();
    let target = format!("/data/{ABC}");
    assert_eq!(post(&host, &target, b"abd").status, 400);
    let cut = host.request("POST", &target).cut_short(b"ab", 3).send::<Restic>();
    assert_eq!(cut.status, 400);
    assert!(host.keys().is_empty());
    assert_eq!(post(&host, &target, b"abc").status, 200);
    assert_eq!(post(&host, &target, b"abc").status, 200, "the same bytes once more");
    assert_eq!(host.count("rest_server_blob_write_total   data"), 1, "a retry writes nothing");
    assert_eq!(host.count("rest_server_blob_write_bytes_total   data"), 3);
    assert_eq!(post(&host, &target, b"abd").status, 403, "other bytes under a taken name");
    assert_eq!(host.blob(&format!("data/ba/{ABC}")).unwrap(), b"abc");
}

#[test]
fn configurations_are_never_replaced() {
    let host = Host::new();
    assert_eq!(send(&host, "HEAD", "/config").status, 404);
    assert_eq!(post(&host, "/config", b"one").status, 200);
    assert_eq!(post(&host, "/config", b"one").status, 403);
    assert_eq!(post(&host, "/config", b"two").status, 403);
    let ranged = host.get("/config").header("range", "bytes=1-1").send::<Restic>();
    assert_eq!((ranged.status, ranged.text().as_str()), (200, "one"));
    assert_eq!(send(&host, "PUT", "/config").status, 405);
    assert_eq!(send(&host, "DELETE", "/config").status, 200);
    assert_eq!(send(&host, "DELETE", "/config").status, 200);
}

#[test]
fn ranges() {
    let host = Host::new();
    let target = format!("/keys/{ABC}");
    post(&host, &target, b"abc");
    let get = |range: &str| {
        let reply = host.get(&target).header("range", range).send::<Restic>();
        let content_range = reply.header("content-range").map(str::to_owned);
        (reply.status, content_range.unwrap_or_default(), reply.text())
    };
    assert_eq!(get("bytes=0-"), (206, "bytes 0-2/3".into(), "abc".into()));
    assert_eq!(get("bytes=1-1"), (206, "bytes 1-1/3".into(), "b".into()));
    assert_eq!(get("bytes=1-9"), (206, "bytes 1-2/3".into(), "bc".into()));
    assert_eq!(get("bytes=-2"), (206, "bytes 1-2/3".into(), "bc".into()));
    assert_eq!(get("bytes=-9"), (206, "bytes 0-2/3".into(), "abc".into()));
    assert_eq!((get("bytes=3-").0, get("bytes=3-").1), (416, "bytes */3".into()));
    assert_eq!((get("bytes=2-1").0, get("bytes=2-1").1), (416, String::new()));
    assert_eq!(get("").0, 200);
    let guarded = host.get(&target).header("range", "bytes=1-1").header("if-range", "\"x\"");
    assert_eq!(guarded.send::<Restic>().status, 200);
}

#[test]
fn an_empty_blob_answers_every_range() {
    let host = Host::new();
    let target = format!("/keys/{EMPTY}");
    assert_eq!(post(&host, &target, b"").status, 200);
    let got = host.get(&target).header("range", "bytes=0-").send::<Restic>();
    assert_eq!((got.status, got.body.len(), got.header("content-range")), (200, 0, None));
}

#[test]
fn lists_name_blobs_and_nothing_else() {
    let host = Host::new();
    post(&host, &format!("/r/data/{ABC}"), b"abc");
    post(&host, &format!("/r/data/{EMPTY}"), b"");
    host.put("r/data/00/.DS_Store", b"x");
    host.put(&format!("r/data/ba/{ABC}.rest-server-temp123"), b"x");
    host.put(&format!("r/data/{ABC}"), b"not in a folder");
    host.put(&format!("r/data/00/{ABC}"), b"in another's folder");
    let v1 = send(&host, "GET", "/r/data/");
    assert_eq!(v1.header("content-type"), Some("application/vnd.x.restic.rest.v1"));
    assert_eq!(v1.text(), format!("[\"{ABC}\",\"{EMPTY}\"]"));
    let v2 = host.get("/r/data/").header("accept", V2).send::<Restic>();
    assert_eq!(v2.header("content-type"), Some(V2));
    let parsed: serde_json::Value = serde_json::from_slice(&v2.body).unwrap();
    assert_eq!(parsed, json!([{"name": ABC, "size": 3}, {"name": EMPTY, "size": 0}]));
    let other = host.get("/r/data/").header("accept", &format!("{V2};q=1")).send::<Restic>();
    assert_eq!(other.header("content-type"), Some("application/vnd.x.restic.rest.v1"));
    assert_eq!(send(&host, "HEAD", "/r/data/").status, 405);
}

#[test]
fn append_only_protects_all_but_locks() {
    let host = Host::new();
    for kind in ["data", "locks"] {
        post(&host, &format!("/{kind}/{ABC}"), b"abc");
    }
    post(&host, "/config", b"c");
    host.append_only(|key| key.starts_with("locks/"));
    let refused = send(&host, "DELETE", &format!("/data/{ABC}"));
    assert_eq!(refused.status, 403);
    assert!(refused.text().starts_with("Forbidden: "), "{}", refused.text());
    assert_eq!(send(&host, "DELETE", "/config").status, 403);
    assert_eq!(send(&host, "DELETE", &format!("/locks/{ABC}")).status, 200);
    assert_eq!(post(&host, &format!("/data/{ABC}"), b"abc").status, 200, "a retry may go on");
}

#[test]
fn users_stay_in_their_own_repositories() {
    let host = Host::new().settings(&json!({"private_repos": true}));
    let as_user =
        |user: &str, target: &str| host.post(target, b"").user(user).send::<Restic>().status;
    assert_eq!(as_user("alice", "/alice/?create=true"), 200);
    assert_eq!(as_user("alice", "/alice/laptop/?create=true"), 200);
    assert_eq!(as_user("alice", "/bob/?create=true"), 401);
    assert_eq!(as_user("alice", "/?create=true"), 401);
    assert_eq!(as_user("alice", "/alice2/?create=true"), 401);
    assert_eq!(post(&host, "/alice/?create=true", b"").status, 401, "nobody");
}

#[test]
fn a_full_store_says_so() {
    let host = Host::new();
    host.full();
    assert_eq!(post(&host, &format!("/data/{ABC}"), b"abc").status, 507);
}

#[test]
fn paths_of_the_wrong_form_are_not_found() {
    let host = Host::new();
    for target in
        ["/data", "/a/b/c/", "//", "/%2e%2e/config", "/a%00b/config", "/x/y", "/.keepgate/config"]
    {
        assert_eq!(send(&host, "GET", target).status, 404, "{target}");
    }
    assert_eq!(post(&host, "/foo%2Fbar/config", b"c").status, 200);
    assert_eq!(host.keys(), ["foo/bar/config"]);
}
