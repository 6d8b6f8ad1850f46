//! Paths, methods and named segments, and the replies if nothing fits.

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
fn a_405_names_the_methods_and_head_is_made_from_get() {
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
fn refusals_have_the_form_of_the_surface() {
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
fn a_surface_decides_about_odd_segments() {
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

/// A surface whose segments have a form, and that does not have OPTIONS.
struct Formed;

impl Plugin for Formed {
    type Settings = serde_json::Value;

    fn describe() -> Description {
        Description::new("formed", "1")
    }

    fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
        Router::new()
            .segment("hash", crate::is_sha256)
            .without_options()
            .route("/files/{hash}", at().get(told))
            .route("/files/{name}/{hash}", at().get(told))
            .handle(request, ())
    }
}

#[test]
fn a_segment_of_another_form_is_not_found_whatever_the_method() {
    let ask = |method: &str, path: &str| Host::new().request(method, path).send::<Formed>();
    let hash = "0".repeat(64);
    for (path, status) in [
        (format!("/files/{hash}"), 200),
        (format!("/files/a/{hash}"), 200),
        ("/files/0".to_owned(), 404),
        (format!("/files/{hash}/a"), 404),
    ] {
        assert_eq!(ask("GET", &path).status, status, "{path}");
        let refused = if status == 200 { 405 } else { 404 };
        assert_eq!(ask("PUT", &path).status, refused, "{path}");
        assert_eq!(ask("OPTIONS", &path).status, refused, "{path}");
    }
}
