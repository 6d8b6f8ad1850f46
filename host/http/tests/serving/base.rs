//! What a handler learns about the origin of a request: the mount's URL as the client sees it, the target
//! as sent, the client's address, and an id.

use std::collections::HashSet;
use std::sync::Arc;

use keepgate_auth::Access;
use keepgate_http::{Handler, ListenerConfig};
use tokio::net::UnixStream;

use crate::support::{Client, Native, Running, config, start_mounts, text};

async fn start(config: ListenerConfig) -> Running {
    let mount = |path| -> (Arc<dyn Handler>, Arc<Access>) {
        let handler = Native::at(path, |request| async move {
            text(format!(
                "{}\n{}\n{:?}\n{}",
                request.base, request.target, request.address, request.id
            ))
        });
        (handler, Arc::new(Access::Open))
    };
    start_mounts(vec![mount("/"), mount("/a b/c")], config).await
}

/// Base and target.
async fn base_and_target(server: &Running, request: &str) -> (String, String) {
    let response = server.ask(request).await;
    assert_eq!(response.status, 200, "{request}");
    let mut lines = response.text().lines();
    let mut line = || lines.next().unwrap().to_owned();
    let (base, target, address) = (line(), line(), line());
    assert_eq!(address, "Some(127.0.0.1)");
    (base, target)
}

#[tokio::test]
async fn the_base_names_the_host_that_the_client_addressed() {
    let server = start(config()).await;
    for (request, base, target) in [
        ("GET /x?y=%2f HTTP/1.1\r\nHost: backup:8000\r\n", "http://backup:8000", "/x?y=%2f"),
        (
            "GET /a%20b/c/d%2Fe HTTP/1.1\r\nHost: [::1]\r\n",
            "http://[::1]/a%20b/c",
            "/a%20b/c/d%2Fe",
        ),
        (
            "GET http://a.example/a%20b/c HTTP/1.1\r\nHost: b\r\n",
            "http://a.example/a%20b/c",
            "/a%20b/c",
        ),
        ("GET http://a.example HTTP/1.1\r\nHost: b\r\n", "http://a.example", "/"),
        // Only the host counts, not what a client claims in forwarding headers.
        (
            "GET / HTTP/1.1\r\nHost: b\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-For: 192.0.2.1\r\nForwarded: host=evil\r\n",
            "http://b",
            "/",
        ),
        ("GET / HTTP/1.0\r\n", "", "/"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "", "/"),
        ("GET / HTTP/1.1\r\nHost: u@b\r\n", "", "/"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n", "", "/"),
    ] {
        let found = base_and_target(&server, &format!("{request}Connection: close\r\n\r\n")).await;
        assert_eq!(found, (base.to_owned(), target.to_owned()), "{request}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_configured_public_url_is_the_base() {
    let public_url = Some("https://x.example/backups/".parse().unwrap());
    let server = start(ListenerConfig { public_url, ..config() }).await;
    let close = "Connection: close\r\n\r\n";
    for host in ["Host: 10.0.0.1:8000\r\n", "Host: a\r\nHost: b\r\n", ""] {
        let (base, _) = base_and_target(&server, &format!("GET / HTTP/1.0\r\n{host}{close}")).await;
        assert_eq!(base, "https://x.example/backups");
        let (base, _) =
            base_and_target(&server, &format!("GET /a%20b/c/ HTTP/1.0\r\n{host}{close}")).await;
        assert_eq!(base, "https://x.example/backups/a%20b/c");
    }
    server.end().await;
}

#[tokio::test]
async fn requests_have_an_id_and_over_unix_sockets_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = format!("unix:{}", path.display()).parse().unwrap();
    let server = start(ListenerConfig { address, ..config() }).await;
    let mut client = Client::over(UnixStream::connect(&path).await.unwrap());
    let mut ids = HashSet::new();
    for _ in 0..100 {
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let response = client.response().await;
        let lines: Vec<&str> = response.text().lines().collect();
        assert_eq!(lines[..3], ["http://localhost", "/", "None"]);
        assert!(!lines[3].is_empty() && ids.insert(lines[3].to_owned()), "{lines:?}");
    }
    server.end().await;
}
