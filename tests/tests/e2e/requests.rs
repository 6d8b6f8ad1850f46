//! Requests that make no sense, or nearly: each has its status, none is a fault of the server,
//! and nothing is stored that should not be. A new case is a line in a table.

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tree;

use crate::rest_server::RestServer;

/// SHA-256 of "abc", which is what every `POST` here sends.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A method, a path as it goes over the wire, and the status. `ID` stands for [`ABC`].
const PATHS: &[(&str, &str, u16)] = &[
    // What is there.
    ("GET", "/r/config", 200),
    ("GET", "/r%2Fconfig", 200),
    ("GET", "/%72/config", 200),
    ("GET", "/r/config?whatever=1&x", 200),
    ("GET", "http://elsewhere.example/r/config", 200),
    ("GET", "/r/data/ID", 200),
    ("GET", "/r/data/?x", 200),
    // Dots, plain and encoded.
    ("GET", "/r/../r/config", 404),
    ("GET", "/../r/config", 404),
    ("GET", "/./r/config", 404),
    ("GET", "/r/./config", 404),
    ("GET", "/%2e%2e/config", 404),
    ("GET", "/%2E/config", 404),
    ("GET", "/r/%2e%2e%2fr/config", 404),
    ("GET", "/r%2F..%2Fr/config", 404),
    ("GET", "/r/data/../config", 404),
    ("GET", "/r/data/..%2f..%2f..%2fetc%2fpasswd", 404),
    ("POST", "/../x/?create=true", 404),
    ("POST", "/%2e%2e/?create=true", 404),
    ("POST", "/../config", 404),
    ("POST", "/x/%2e%2e/config", 404),
    ("DELETE", "/../store/r/config", 404),
    // Slashes.
    ("GET", "//", 404),
    ("GET", "//r/config", 404),
    ("GET", "/r//config", 404),
    ("GET", "/r/data//ID", 404),
    ("POST", "//?create=true", 404),
    ("POST", "/%2F/?create=true", 404),
    ("GET", "/r", 404),
    ("GET", "/r/data", 404),
    ("POST", "/r?create=true", 404),
    ("GET", "/r/config/", 404),
    ("GET", "/r/data/ID/", 404),
    ("GET", "/r/data/ba/ID", 404),
    // Bytes that are no names.
    ("GET", "/a%00b/config", 404),
    ("POST", "/a%00b/config", 404),
    ("POST", "/x%00/?create=true", 404),
    ("GET", "/r/data/%00", 404),
    ("GET", "/%", 400),
    ("GET", "/%4", 400),
    ("GET", "/%zz/config", 400),
    ("GET", "/r/%+1/config", 400),
    ("GET", "/%ff/config", 400),
    ("POST", "/%C0%AF/?create=true", 400),
    // Ids and types.
    ("GET", "/r/data/BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", 404),
    ("POST", "/r/data/BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", 404),
    ("POST", "/r/data/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a", 404),
    ("POST", "/r/data/IDa", 404),
    ("POST", "/r/data/g", 404),
    ("POST", "/r/data/ID.tmp", 404),
    ("POST", "/r/data/%20ID", 404),
    ("GET", "/r/unknown/ID", 404),
    ("POST", "/r/unknown/ID", 404),
    ("POST", "/r/Data/ID", 404),
    ("POST", "/r/config/ID", 404),
    ("GET", "/r/unknown/", 405),
    ("GET", "/r/a/b/", 404),
    ("POST", "/r/a/b/?create=true", 404),
    // What is the gateway's own.
    ("GET", "/.keepgate/config", 404),
    ("POST", "/.keepgate/config", 404),
    ("POST", "/.keepgate/?create=true", 404),
    ("POST", "/r/.keepgate/?create=true", 404),
    ("GET", "/.keepgate/data/", 404),
    ("DELETE", "/.keepgate/config", 404),
    ("GET", "/.htpasswd", 404),
    ("GET", "/metrics", 404),
    ("GET", "/status", 404),
    // Making a repository.
    ("POST", "/r/?create=true", 200),
    ("POST", "/r/?create=true&create=false", 200),
    ("POST", "/r/?x=1&create=true", 200),
    ("POST", "/r/", 400),
    ("POST", "/r/?create", 400),
    ("POST", "/r/?create=", 400),
    ("POST", "/r/?create=false", 400),
    ("POST", "/r/?create=TRUE", 400),
    ("POST", "/r/?create=1", 400),
    ("POST", "/r/?CREATE=true", 400),
    ("POST", "/r/?create=%74rue", 200),
    // What is not there, or there already.
    ("GET", "/none/config", 404),
    ("GET", "/none/data/", 404),
    ("GET", "/none/data/ID", 404),
    ("DELETE", "/none/data/ID", 200),
    ("DELETE", "/none/config", 200),
    ("POST", "/r/config", 403),
    ("POST", "/r/data/ID", 200),
    // Names that do not belong to what is sent.
    ("POST", "/r/data/0000000000000000000000000000000000000000000000000000000000000000", 400),
    ("POST", "/r/locks/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 400),
    // Targets that are no paths.
    ("OPTIONS", "*", 400),
    ("CONNECT", "elsewhere.example:443", 400),
];

/// Of these, those that restic's own server answers otherwise, and how. It also sends clients from
/// paths that are not clean, with `//`, `/./` or `/../`, to clean ones.
const OTHERWISE: &[(&str, &str, u16)] = &[
    // It takes any bytes for a name.
    ("GET", "/%ff/config", 404),
    ("POST", "/%C0%AF/?create=true", 200),
    // It has no folder of its own.
    ("POST", "/.keepgate/config", 500),
    ("POST", "/.keepgate/?create=true", 200),
    ("POST", "/r/.keepgate/?create=true", 200),
    ("GET", "/.keepgate/data/", 200),
    ("DELETE", "/.keepgate/config", 200),
    // It takes no blob twice, so that a client whose first answer got lost is stuck.
    ("POST", "/r/data/ID", 403),
    ("OPTIONS", "*", 200),
    ("CONNECT", "elsewhere.example:443", 404),
];

/// A method and path that are not for each other, and what `Allow` then says.
const METHODS: &[(&str, &[&str], &str)] = &[
    ("/r/", &["GET", "HEAD", "PUT", "DELETE", "OPTIONS"], "POST"),
    ("/r/data/", &["HEAD", "POST", "PUT", "DELETE", "PATCH"], "GET"),
    ("/r/config", &["PUT", "PATCH", "OPTIONS", "TRACE"], "HEAD, GET, POST, DELETE"),
    ("/r/data/ID", &["PUT", "PATCH", "OPTIONS", "BREW", "get"], "HEAD, GET, POST, DELETE"),
];

fn prepared() -> (Setup, Gateway) {
    let setup = Setup::restic();
    let gateway = setup.start();
    prepare(&gateway.endpoint());
    (setup, gateway)
}

fn prepare(client: &Endpoint) {
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    assert_eq!(client.post("/r/config", b"config").status, 200);
    assert_eq!(client.post(&format!("/r/data/{ABC}"), b"abc").status, 200);
}

fn send(client: &Endpoint, method: &str, path: &str) -> Reply {
    let body: &[u8] = if method == "POST" { b"abc" } else { b"" };
    client.send(method, &path.replace("ID", ABC), &[], body)
}

#[test]
fn each_path_has_its_status() {
    let (setup, gateway) = prepared();
    let client = gateway.endpoint();
    let mut wrong = Vec::new();
    for (method, path, expected) in PATHS {
        let reply = send(&client, method, path);
        if reply.status != *expected {
            let said = reply.text();
            wrong.push(format!("{method} {path}: {} and not {expected}: {said}", reply.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // All of that has left the store as it was.
    let stored: Vec<_> = tree::files(&setup.store())
        .into_iter()
        .filter(|file| !file.starts_with(".keepgate"))
        .collect();
    let blob = format!("r/data/ba/{ABC}");
    assert_eq!(stored, ["r/config".as_ref(), blob.as_ref()] as [&std::path::Path; 2]);
    let top: Vec<_> = std::fs::read_dir(setup.store()).unwrap().collect();
    assert_eq!(top.len(), 2, "{top:?}");
    gateway.stop();
}

/// So that a table of statuses is not only our own opinion.
#[test]
fn restics_own_server_answers_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let check = "the same statuses from restic's rest-server";
    let Some(original) = RestServer::original(folder.path(), check) else { return };
    let client = original.endpoint();
    prepare(&client);
    let mut wrong = Vec::new();
    for (method, path, ours) in PATHS {
        let listed = OTHERWISE.iter().find(|case| (case.0, case.1) == (*method, *path));
        let before_query = path.split('?').next().unwrap_or_default();
        let unclean = ["//", "/./", "/../"].iter().any(|part| before_query.contains(part));
        let unclean = unclean && !path.starts_with("http:");
        let expected = match listed {
            Some((.., status)) => *status,
            None if unclean => 307,
            None => *ours,
        };
        let status = send(&client, method, path).status;
        if status != expected {
            wrong.push(format!("{method} {path}: {status} and not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn methods_that_are_not_allowed() {
    let (_setup, gateway) = prepared();
    let client = gateway.endpoint();
    for (path, methods, allow) in METHODS {
        for method in *methods {
            let reply = send(&client, method, path);
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), Some(*allow), "{method} {path}");
        }
    }
    gateway.stop();
}

#[test]
fn refusals_have_one_form() {
    let (_setup, gateway) = prepared();
    let client = gateway.endpoint();
    for (method, path, status, text) in [
        ("GET", "/r/none", 404, "Not Found\n"),
        ("GET", "/%zz", 400, "Bad Request: "),
        ("POST", "/r/config", 403, "Forbidden"),
        ("GET", "/r/", 405, "Method Not Allowed\n"),
    ] {
        let reply = send(&client, method, path);
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.text().starts_with(text), "{method} {path}: {}", reply.text());
        assert_eq!(reply.header("server"), None);
        assert!(reply.header("date").is_some());
    }
    gateway.stop();
}

#[test]
fn headers_about_the_body_do_not_change_it() {
    let (_setup, gateway) = prepared();
    let client = gateway.endpoint();
    for (number, headers) in [
        [("content-type", "binary/octet-stream")],
        [("content-type", "not a type")],
        [("content-encoding", "gzip")],
        [("content-encoding", "unheard-of")],
        [("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")],
        [("if-none-match", "*")],
        [("if-match", "\"x\"")],
        [("x-unheard-of", "\u{e4}\u{f6}")],
        [("expect", "100-continue")],
    ]
    .iter()
    .enumerate()
    {
        let blob = Blob::new(number as u64, 2000);
        let path = crate::path("/r/", &blob.id());
        let stored = client.send("POST", &path, headers, &blob.bytes());
        assert_eq!(stored.status, 200, "{headers:?}: {}", stored.text());
        assert_eq!(client.get(&path).body, blob.bytes(), "{headers:?}");
    }
    for (name, value) in [("accept-encoding", "gzip"), ("te", "trailers"), ("cookie", "a=b")] {
        let reply = client.send("GET", &format!("/r/data/{ABC}"), &[(name, value)], b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, "abc"), "{name}");
        assert_eq!(reply.header("content-encoding"), None);
    }
    gateway.stop();
}
