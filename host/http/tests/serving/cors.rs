//! Cross-origin requests from browsers: preflights, and what a script may read of the response.

use std::sync::Arc;

use keepgate_auth::htpasswd::Options;
use keepgate_auth::{Access, Htpasswd, Method};
use keepgate_core::{CallError, Handler, Reply, Request};
use keepgate_http::{Cors, RecordLimits, Recorder, Site, SiteMount};
use keepgate_store::Body;

use crate::support::{Native, Response, Running, config, hasty, reply, start_gateway, stock};

const APP: &str = "https://app.example.org";
const OTHER: &str = "https://other.example.org";

/// Headers that only a mount with `cors` sends.
const OWN: &str = "access-control-";

/// The stock handler, and replies that have some of these headers already.
async fn answer(request: Request) -> Result<Reply, CallError> {
    match request.path.first().map(String::as_str) {
        Some("own") => {
            let headers = [("access-control-allow-origin", "https://own.example.org")];
            reply(200, &headers, Body::from_bytes("own"))
        }
        Some("varied") => reply(200, &[("vary", "accept, origin")], Body::empty()),
        Some("too-large") => Err(keepgate_core::Failure::TooLarge(7).into()),
        Some("busy") => Err(CallError::Busy(3)),
        _ => stock(request).await,
    }
}

fn mount(path: &str, access: Access, origins: &[&str]) -> SiteMount {
    let cors = (!origins.is_empty()).then(|| Cors::new(origins.iter().copied()).unwrap());
    let handler: Arc<dyn Handler> = Native::at(path, answer);
    SiteMount { handler, access: Arc::new(access), cors: cors.map(Arc::new), rate_limits: None }
}

/// `/app` and `/locked` allow two origins, `/any` allows all of them and `/none` does not know the setting. `/locked`
/// admits nobody without a password.
async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".htpasswd");
    std::fs::write(&path, "").unwrap();
    let users = Htpasswd::load(path, Options::default()).unwrap();
    let locked = Access::Methods(vec![Method::Htpasswd(users)]);
    let origins = ["http://localhost:3000", APP];
    let mounts = vec![
        mount("/app", Access::Open, &origins),
        mount("/locked", locked, &origins),
        mount("/any", Access::Open, &["*"]),
        mount("/none", Access::Open, &[]),
    ];
    let mut config = config();
    config.timeouts = hasty();
    start_gateway(mounts, config, |gateway| gateway).await
}

async fn ask(server: &Running, line: &str, headers: &[(&str, &str)]) -> Response {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    server.ask(&format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")).await
}

async fn preflight(server: &Running, path: &str, origin: &str) -> Response {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "PATCH"),
        ("Access-Control-Request-Headers", "authorization,upload-offset"),
    ];
    ask(server, &format!("OPTIONS {path}"), &headers).await
}

/// How often a header is there.
fn count(response: &Response, name: &str) -> usize {
    response.head.lines().filter(|line| line.starts_with(&format!("{name}: "))).count()
}

/// The script of an allowed origin may read this response.
#[track_caller]
fn assert_shared(response: &Response) {
    assert_eq!(response.header("access-control-allow-origin"), Some(APP), "{response:?}");
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{response:?}");
    let exposed = response.header("access-control-expose-headers").unwrap();
    let expected = "ETag, Content-Range, Accept-Ranges, Location, Link, Retry-After, \
                    Content-Disposition, Upload-Offset, Upload-Complete, Upload-Length";
    assert_eq!(exposed, expected);
    assert_eq!(response.header("vary"), Some("Origin"), "{response:?}");
    assert_eq!(count(response, "access-control-allow-origin"), 1, "{response:?}");
    assert_eq!(count(response, "vary"), 1, "{response:?}");
}

/// No script may read this response, and caches keep it from those that may.
#[track_caller]
fn assert_not_shared(response: &Response) {
    assert!(!response.head.contains(OWN), "{response:?}");
    assert_eq!(response.header("vary"), Some("Origin"), "{response:?}");
}

#[tokio::test]
async fn a_preflight_is_answered_before_authentication() {
    let server = start().await;
    for path in ["/app/show", "/locked/show", "/locked/%zz"] {
        let answer = preflight(&server, path, APP).await;
        assert_eq!((answer.status, answer.text()), (204, ""), "{path}");
        for (name, value) in [
            ("access-control-allow-origin", APP),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "PATCH"),
            ("access-control-allow-headers", "authorization,upload-offset"),
            ("access-control-max-age", "600"),
            ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ] {
            assert_eq!((answer.header(name), count(&answer, name)), (Some(value), 1), "{name}");
        }
        assert_eq!(answer.header("access-control-expose-headers"), None);
        assert_eq!(answer.header("content-length"), None);
    }
    let second = preflight(&server, "/app", "http://localhost:3000").await;
    let allowed = second.header("access-control-allow-origin");
    assert_eq!((second.status, allowed), (204, Some("http://localhost:3000")));
    server.end().await;
}

#[tokio::test]
async fn a_preflight_repeats_nothing_but_methods_and_names_of_headers() {
    let server = start().await;
    for (method, names, expected_method, expected_names) in [
        ("DELETE", "x-a, X-B", Some("DELETE"), Some("x-a, X-B")),
        ("a b", "x-a", None, Some("x-a")),
        ("GET", "x-a: 1", Some("GET"), None),
        ("GET", "x-a,,x-b", Some("GET"), None),
        ("GET", "*", Some("GET"), Some("*")),
    ] {
        let headers = [
            ("Origin", APP),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", names),
        ];
        let answer = ask(&server, "OPTIONS /app", &headers).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-methods"), expected_method, "{method}");
        assert_eq!(answer.header("access-control-allow-headers"), expected_names, "{names}");
    }
    let headers = [("Origin", APP), ("Access-Control-Request-Method", "PUT")];
    let bare = ask(&server, "OPTIONS /app", &headers).await;
    assert_eq!((bare.status, bare.header("access-control-allow-headers")), (204, None));
    server.end().await;
}

#[tokio::test]
async fn other_requests_with_options_reach_the_plugin() {
    let server = start().await;
    // A preflight of an origin that is not allowed is a request like any other.
    let other = preflight(&server, "/app/show", OTHER).await;
    assert!(other.status == 200 && other.text().starts_with("OPTIONS"), "{other:?}");
    assert_not_shared(&other);
    let other = preflight(&server, "/locked/show", OTHER).await;
    assert_eq!(other.status, 401);
    assert_not_shared(&other);
    // So is OPTIONS without what makes it a preflight.
    let plain = ask(&server, "OPTIONS /app/show", &[("Origin", APP)]).await;
    assert!(plain.text().starts_with("OPTIONS"), "{plain:?}");
    assert_shared(&plain);
    // And what looks like a preflight with another method.
    let headers = [("Origin", APP), ("Access-Control-Request-Method", "PUT")];
    let get = ask(&server, "GET /app/show", &headers).await;
    assert!(get.text().starts_with("GET"), "{get:?}");
    assert_shared(&get);
    server.end().await;
}

#[tokio::test]
async fn a_script_of_an_allowed_origin_may_read_every_response() {
    let server = start().await;
    for (path, status) in [
        ("/app/show", 200),
        ("/app/nothing", 204),
        ("/app/refuse", 403),
        ("/app/missing", 404),
        ("/app/too-large", 413),
        ("/app/busy", 503),
        ("/app/broken", 500),
        ("/app/%zz", 400),
        ("/locked/show", 401),
    ] {
        let response = ask(&server, &format!("GET {path}"), &[("Origin", APP)]).await;
        assert_eq!(response.status, status, "{path}");
        assert_shared(&response);
    }
    let stalled = [("Origin", APP), ("Content-Length", "9")];
    let stalled = ask(&server, "PUT /app/sink", &stalled).await;
    assert_eq!(stalled.status, 408);
    assert_shared(&stalled);
    let mut client = server.connect().await;
    client.send(format!("HEAD /app/length HTTP/1.1\r\nOrigin: {APP}\r\n\r\n").as_bytes()).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1234")));
    assert_shared(&head);
    server.end().await;
}

#[tokio::test]
async fn scripts_of_other_origins_may_read_nothing() {
    let server = start().await;
    let others = [
        OTHER,
        "null",
        "",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://app.example.org.evil.example",
        "https://APP.example.org",
        "https://app.example.org/",
    ];
    for path in ["/app/show", "/app/missing", "/locked/show"] {
        let line = format!("GET {path}");
        assert_not_shared(&ask(&server, &line, &[]).await);
        for origin in others {
            assert_not_shared(&ask(&server, &line, &[("Origin", origin)]).await);
        }
    }
    server.end().await;
}

#[tokio::test]
async fn any_origin_may_be_allowed_but_without_credentials() {
    let server = start().await;
    for origin in [APP, OTHER, "null"] {
        let response = ask(&server, "GET /any/show", &[("Origin", origin)]).await;
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        assert!(response.header("access-control-expose-headers").is_some());
        let answer = preflight(&server, "/any", origin).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("*")));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    assert_not_shared(&ask(&server, "GET /any/show", &[]).await);
    server.end().await;
}

#[tokio::test]
async fn a_mount_without_the_setting_is_as_before() {
    let server = start().await;
    for response in [
        ask(&server, "GET /none/show", &[("Origin", APP)]).await,
        ask(&server, "GET /none/missing", &[("Origin", APP)]).await,
        ask(&server, "GET /none/%zz", &[("Origin", APP)]).await,
        ask(&server, "GET /nowhere", &[("Origin", APP)]).await,
        preflight(&server, "/nowhere", APP).await,
        preflight(&server, "/none/show", APP).await,
    ] {
        assert_ne!(response.status, 204);
        assert!(!response.head.contains(OWN), "{response:?}");
        assert_eq!(response.header("vary"), None, "{response:?}");
    }
    // What a plugin says of its own accord is passed on.
    let own = ask(&server, "GET /none/own", &[("Origin", APP)]).await;
    let allowed = own.header("access-control-allow-origin");
    assert_eq!((allowed, own.header("vary")), (Some("https://own.example.org"), None));
    server.end().await;
}

#[tokio::test]
async fn the_plugins_own_headers_win() {
    let server = start().await;
    let own = ask(&server, "GET /app/own", &[("Origin", APP)]).await;
    assert_eq!(own.text(), "own");
    let lines: Vec<&str> = own.head.lines().filter(|line| line.starts_with(OWN)).collect();
    assert_eq!(lines, ["access-control-allow-origin: https://own.example.org"]);
    assert_eq!(own.header("vary"), Some("Origin"));
    let varied = ask(&server, "GET /app/varied", &[("Origin", APP)]).await;
    assert_eq!((varied.header("vary"), count(&varied, "vary")), (Some("accept, origin"), 1));
    assert_eq!(varied.header("access-control-allow-origin"), Some(APP));
    server.end().await;
}

#[tokio::test]
async fn a_swap_of_the_site_applies_at_once() {
    let server = start().await;
    let mut client = server.connect().await;
    let request = format!("GET /app/show HTTP/1.1\r\nHost: test\r\nOrigin: {APP}\r\n\r\n");
    client.send(request.as_bytes()).await;
    assert_shared(&client.response().await);
    // On a connection that is already open.
    let without = Site::new([mount("/app", Access::Open, &[OTHER])], &server.metrics).unwrap();
    server.site.store(Arc::new(without));
    client.send(request.as_bytes()).await;
    assert_not_shared(&client.response().await);
    server.end().await;
}

#[tokio::test]
async fn a_recording_holds_what_the_plugin_answered() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("recording");
    let recorder = Recorder::open(&folder, RecordLimits::default()).unwrap();
    let recorded = recorder.clone();
    let mounts = vec![mount("/app", Access::Open, &[APP])];
    let server = start_gateway(mounts, config(), |gateway| gateway.with_recorder(recorded)).await;
    assert_eq!(preflight(&server, "/app/varied", APP).await.status, 204);
    assert_eq!(ask(&server, "GET /app/headers", &[("Origin", APP)]).await.status, 200);
    server.end().await;
    // Writes what is left.
    drop(recorder);
    let text = std::fs::read_to_string(folder.join("00000001-GET.toml")).unwrap();
    assert!(text.contains("x-a"), "{text}");
    assert!(!text.contains(OWN) && !text.contains("vary"), "{text}");
}
