//! Heads of requests: what a plugin sees, and what is refused before.

use std::sync::Arc;

use keepgate_auth::{Access, Method};
use keepgate_http::{Handler, Site};

use crate::support::{Native, config, start, start_mounts, start_with, text};

#[tokio::test]
async fn unusual_paths_reach_the_plugin_unchanged() {
    let server = start().await;
    let shown = async |path: &str| {
        let response = server.get(path).await;
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.text().lines().next().unwrap().to_owned()
    };
    assert_eq!(shown("/show").await, r#"GET ["show"] false [] None"#);
    assert_eq!(shown("/show/").await, r#"GET ["show"] true [] None"#);
    assert_eq!(shown("/show/../a/./b").await, r#"GET ["show", "..", "a", ".", "b"] false [] None"#);
    assert_eq!(shown("/show/%2e%2e/x").await, r#"GET ["show", "..", "x"] false [] None"#);
    assert_eq!(shown("/show//x//").await, r#"GET ["show", "", "x", ""] true [] None"#);
    assert_eq!(shown("/show/a%2fb%00c").await, r#"GET ["show", "a/b\0c"] false [] None"#);
    assert_eq!(
        shown("/%73how?create=true&x=+%26").await,
        r#"GET ["show"] false [("create", "true"), ("x", " &")] None"#
    );
    assert_eq!(shown("http://elsewhere/show").await, r#"GET ["show"] false [] None"#);
    server.end().await;
}

#[tokio::test]
async fn undecodable_paths_are_refused_and_the_connection_stays_usable() {
    let server = start().await;
    let mut client = server.connect().await;
    for (path, text) in [("/%zz", "two hex digits"), ("/a/%", "two hex digits"), ("/%ff", "UTF-8")]
    {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).await;
        let response = client.response().await;
        assert_eq!(response.status, 400);
        assert!(response.text().starts_with("Bad Request: ") && response.text().contains(text));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    client.send(b"GET /show HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn invalid_http_is_refused() {
    let server = start().await;
    for request in
        ["GET /\0 HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n", "GET / HTTP/1.1\r\na b: c\r\n\r\n"]
    {
        assert_eq!(server.ask(request).await.status, 400, "{request:?}");
    }
    let connect = server.ask("CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\n\r\n").await;
    assert_eq!(connect.status, 400);
    server.end().await;
}

#[tokio::test]
async fn too_large_heads_get_a_431() {
    let server = start().await;
    let big = format!("GET /show HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(300_000));
    assert_eq!(server.ask(&big).await.status, 431);
    let many = format!("GET /show HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    assert_eq!(server.ask(&many).await.status, 431);
    let fits = format!("GET /show HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    assert_eq!(server.ask(&fits).await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn credentials_and_connection_headers_are_not_passed_on() {
    let server = start().await;
    let response = server
        .ask(
            "GET http://real.example:81/show HTTP/1.1\r\nHost: other\r\nAuthorization: Basic eDp5\r\n\
             Proxy-Authorization: Basic eDp5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Bad: \u{e9}\r\nX-Two: a\r\nX-two: b\r\n\r\n",
        )
        .await;
    let headers = response.text().lines().nth(1).unwrap().to_owned();
    let expected =
        r#"[("host", "real.example:81"), ("x-bad", "é"), ("x-two", "a"), ("x-two", "b")]"#;
    assert_eq!(headers, expected);

    let mut client = server.connect().await;
    client.send(b"GET /show HTTP/1.1\r\nHost: t\r\nX-Latin: \xe9\r\n\r\n").await;
    let response = client.response().await;
    assert!(response.text().ends_with(r#"[("host", "t")]"#), "{response:?}");
    server.end().await;
}

#[tokio::test]
async fn a_plugin_that_judges_credentials_gets_them() {
    let server = start_with(Access::Methods(vec![Method::Plugin]), config()).await;
    for (sent, expected) in [
        (
            "Authorization: Bearer abc\r\nProxy-Authorization: x\r\n",
            r#"("authorization", "Bearer abc")"#,
        ),
        ("", ""),
    ] {
        let response = server.ask(&format!("GET /show HTTP/1.1\r\n{sent}\r\n")).await;
        let headers = response.text().lines().nth(1).unwrap_or_default().to_owned();
        assert_eq!((response.status, headers), (200, format!("[{expected}]")));
    }
    server.end().await;
}

#[tokio::test]
async fn the_longest_prefix_answers_and_a_swap_applies_at_once() {
    let named =
        |path: &'static str, name: &'static str| -> (Arc<dyn Handler>, Arc<Access>) {
            let handler = Native::at(path, move |request| async move {
                text(format!("{name} {:?}", request.path))
            });
            (handler, Arc::new(Access::Open))
        };
    let server = start_mounts(vec![named("/a", "one"), named("/a/b", "two")], config()).await;
    let body = async |path: &str| {
        let response = server.get(path).await;
        (response.status, response.text().to_owned())
    };
    assert_eq!(body("/a/x").await, (200, r#"one ["x"]"#.to_owned()));
    assert_eq!(body("/a/b/x").await, (200, r#"two ["x"]"#.to_owned()));
    assert_eq!(body("/a/bx").await, (200, r#"one ["bx"]"#.to_owned()));
    assert_eq!(body("/b").await, (404, "Not Found\n".to_owned()));

    // On a connection that is already open.
    let mut client = server.connect().await;
    let request = b"GET /a/b/x HTTP/1.1\r\nHost: t\r\n\r\n";
    client.send(request).await;
    assert_eq!(client.response().await.text(), r#"two ["x"]"#);
    server.site.store(Arc::new(Site::new([named("/a", "new")], &server.metrics).unwrap()));
    client.send(request).await;
    assert_eq!(client.response().await.text(), r#"new ["b", "x"]"#);

    let counters = server.counters();
    let series = r#"requests_total{method="GET",mount="/a/b",status="2xx"} 2"#;
    assert!(counters.contains(series), "{counters}");
    let series = r#"requests_total{method="GET",mount="",status="4xx"} 1"#;
    assert!(counters.contains(series), "{counters}");
    server.end().await;
}
