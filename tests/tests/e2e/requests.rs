//! Requests for the gateway's own files, which no other server of the protocol has. All other paths,
//! methods and refusals are cases of `tests/conformance`.

use keepgate_tests::gateway::Setup;
use keepgate_tests::tree;

/// SHA-256 of "abc", which every `POST` here sends.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A method, a path as sent over the wire, and the status. `ID` stands for [`ABC`].
const PATHS: &[(&str, &str, u16)] = &[
    ("GET", "/.keepgate/config", 404),
    ("POST", "/.keepgate/config", 404),
    ("POST", "/.keepgate/?create=true", 404),
    ("POST", "/r/.keepgate/?create=true", 404),
    ("POST", "/.keepgate/data/ID", 404),
    ("POST", "/%2ekeepgate/config", 404),
    ("POST", "/.%6beepgate/?create=true", 404),
    ("GET", "/.keepgate/data/", 404),
    ("DELETE", "/.keepgate/config", 404),
    ("GET", "/metrics", 404),
    ("GET", "/status", 404),
    ("GET", "/live", 404),
    ("DELETE", "/../store/r/config", 404),
];

#[test]
fn the_gateways_own_files_are_not_a_repository() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    assert_eq!(client.post("/r/config", b"config").status, 200);
    let mut wrong = Vec::new();
    for (method, path, expected) in PATHS {
        let body: &[u8] = if *method == "POST" { b"abc" } else { b"" };
        let reply = client.send(method, &path.replace("ID", ABC), &[], body);
        if reply.status != *expected {
            let said = reply.text();
            wrong.push(format!("{method} {path}: {} and not {expected}: {said}", reply.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(tree::files(&setup.store()), [std::path::Path::new("r/config")]);
    let top: Vec<_> = std::fs::read_dir(setup.store()).unwrap().collect();
    assert_eq!(top.len(), 1, "{top:?}");
    gateway.stop();
}

/// What the host refuses before calling a plugin looks like a plugin's refusal.
#[test]
fn the_hosts_own_refusals_have_the_same_form() {
    let gateway = Setup::restic().start();
    let reply = gateway.endpoint().get("/%zz");
    assert_eq!(reply.status, 400);
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("server"), None);
    assert!(reply.text().starts_with("Bad Request: "), "{}", reply.text());
    gateway.stop();
}
