//! Paths, methods and names; what a plugin says where nothing fits.

use super::*;
use crate::testing::{Host, TestReply};
use crate::{Description, Plugin};

struct Paths;

fn told(call: Call<()>) -> Result<Reply, Failure> {
    let params: Vec<_> =
        call.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(Reply::ok().text(params.join(" ")))
}

fn number(call: Call<()>) -> Result<Reply, Failure> {
    let number: u8 = call.param("number")?;
    Ok(Reply::ok().text(number.to_string()))
}

fn missing(call: Call<()>) -> Result<Reply, Failure> {
    call.param::<String>("none").map(|text| Reply::ok().text(text))
}

impl Plugin for Paths {
    type Settings = serde_json::Value;

    fn describe() -> Description {
        Description::new("paths", "1")
    }

    fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
        Router::new()
            .route("/", at().get(told))
            .route("/files/{*path}", at().get(told).put(told))
            .route("/numbers/{number}", at().get(number))
            .route("/list/", at().get(told).post(told))
            .route("/missing", at().get(missing))
            .route("/{first}/{second}", at().get(told).delete(told))
            .handle(request, ())
    }
}

fn ask(method: &str, path: &str) -> TestReply {
    Host::new().request(method, path).send::<Paths>()
}

#[test]
fn the_first_path_that_fits_answers() {
    for (path, expected) in [
        ("/", Some("")),
        ("/files/a", Some("path=a")),
        ("/files/a/b%20c", Some("path=a/b c")),
        ("/files", None),
        ("/files/", None),
        ("/files/a/", None),
        ("/files/a/../b", None),
        ("/files/a%2Fb", None),
        ("/numbers/7", Some("7")),
        ("/numbers/300", None),
        ("/list/", Some("")),
        ("/list", None),
        ("/a/b", Some("first=a second=b")),
        ("/a/b/c", None),
        ("/a/.", None),
    ] {
        let reply = ask("GET", path);
        match expected {
            Some(text) => {
                assert_eq!((reply.status, reply.text().as_str()), (200, text), "{path}");
            }
            None => assert_eq!(reply.status, 404, "{path}"),
        }
    }
    assert_eq!(ask("GET", "/missing").status, 500);
}

#[test]
fn methods_are_told_and_head_comes_of_get() {
    let reply = ask("HEAD", "/files/a");
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("6")));
    assert!(reply.body.is_empty());
    for (method, path, status, allow) in [
        ("DELETE", "/files/a", 405, "GET, HEAD, PUT"),
        ("OPTIONS", "/files/a", 204, "GET, HEAD, PUT"),
        ("BREW", "/a/b", 405, "GET, HEAD, DELETE"),
        ("POST", "/list/", 200, ""),
    ] {
        let reply = ask(method, path);
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.header("allow").unwrap_or(""), allow, "{method} {path}");
    }
}

/// A surface whose refusals are JSON.
struct Strict;

impl Plugin for Strict {
    type Settings = serde_json::Value;

    fn describe() -> Description {
        Description::new("strict", "1")
    }

    fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
        Router::new()
            .odd_segments(|segment| Failure::Invalid(format!("no name: {segment:?}")))
            .route("/plain", at().get(told))
            .route("/{name}", at().get(told).put(told))
            .route("/files/{*path}", at().get(told))
            .handle(request, ())
    }

    fn refuse(failure: &Failure) -> Option<Reply> {
        Reply::new(failure.status()).json(&failure.message()).ok()
    }
}

#[test]
fn what_is_refused_has_the_form_of_the_surface() {
    let ask = |method: &str, path: &str| Host::new().request(method, path).send::<Strict>();
    let reply = ask("DELETE", "/a");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, PUT")));
    assert_eq!(reply.text(), "\"this path takes GET, HEAD, PUT\"");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let options = ask("OPTIONS", "/a");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, PUT")));
    let nowhere = ask("GET", "/a/b/c");
    assert_eq!((nowhere.status, nowhere.text().as_str()), (404, "\"not found\""));
}

#[test]
fn a_surface_says_what_odd_segments_are() {
    let ask = |path: &str| Host::new().get(path).send::<Strict>();
    for (path, segment) in [
        ("/a%2Fb", "a/b"),
        ("/..", ".."),
        ("/a%00", "a\0"),
        ("/files/a/../b", ".."),
        ("/files//a", ""),
    ] {
        let reply = ask(path);
        let expected = serde_json::to_string(&format!("no name: {segment:?}")).unwrap();
        assert_eq!((reply.status, reply.text()), (400, expected), "{path}");
    }
    assert_eq!(ask("/..%2F/x").status, 404, "no path has this form");
    assert_eq!(ask("/plain").text(), "");
}
