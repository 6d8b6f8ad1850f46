//! Responses: lengths, HEAD, and bodies that break off, which no client may mistake for complete.

use keepgate_auth::Access;

use crate::support::{Client, config, start, start_with};

#[tokio::test]
async fn lengths_come_from_the_body() {
    let server = start().await;
    let known = server.get("/source/200000").await;
    assert_eq!((known.status, known.body.len()), (200, 200_000));
    assert_eq!(known.header("transfer-encoding"), None);

    let mut client = server.connect().await;
    client.send(b"GET /stream/100000 HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    let (chunks, end) = client.rest().await;
    end.unwrap();
    assert!(chunks.starts_with(b"10000\r\nxxx") && chunks.ends_with(b"xxx\r\n0\r\n\r\n"));

    let nothing = server.get("/nothing").await;
    assert_eq!((nothing.status, nothing.header("content-length")), (204, None));
    let nothing = server.ask("HEAD /nothing HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!((nothing.status, nothing.header("content-length")), (204, None));
    // A header that contradicts the body is ignored.
    assert_eq!(server.get("/length").await.header("content-length"), Some("0"));
    server.end().await;
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let server = start().await;
    let mut client = server.connect().await;
    for (path, length) in [("/length", "1234"), ("/source/5000000", "5000000"), ("/refuse", "23")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).await;
        assert_eq!(client.head().await.header("content-length"), Some(length), "{path}");
    }
    // No byte of a body precedes the next response.
    client.send(b"GET /source/3 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.body, b"xxx");
    server.end().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_complete() {
    let server = start().await;
    let fetch = async |path: &str| {
        let mut client = server.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).await;
        let head = client.head().await;
        (head, client.rest().await)
    };
    // Large enough that the head is sent before the body fails.
    let (head, (body, _)) = fetch("/short/1000000").await;
    assert_eq!(head.header("content-length"), Some("1000001"));
    assert!(body.len() <= 1_000_000);
    let (head, (body, _)) = fetch("/long/1000000").await;
    assert_eq!(head.header("content-length"), Some("999999"));
    assert!(body.len() < 999_999);
    let (head, (body, _)) = fetch("/break/1000000").await;
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    assert!(!body.ends_with(b"0\r\n\r\n"));
    // Without chunks a clean end would look like the end of the body, so it must be a reset.
    let mut client = server.connect().await;
    client.send(b"GET /break/100000 HTTP/1.0\r\n\r\n").await;
    let (_, end) = client.rest().await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    client = server.connect().await;
    client.send(b"GET /stream/100000 HTTP/1.0\r\n\r\n").await;
    let (whole, end) = client.rest().await;
    assert!(end.is_ok() && whole.len() > 100_000);
    server.end().await;
}

#[tokio::test]
async fn plugin_headers_are_passed_on_except_hop_by_hop_ones() {
    let server = start().await;
    let mut client = server.connect().await;
    client.send(b"GET /headers HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let response = client.response().await;
    assert!(response.head.contains("x-a: 1\nx-a: 2\n"), "{response:?}");
    assert_eq!(response.header("connection"), None);
    assert_eq!(response.header("transfer-encoding"), None);
    assert!(response.header("date").is_some() && response.header("server").is_none());
    // The plugin's "close" does not apply to this connection.
    client.send(b"GET /broken HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let broken = client.response().await;
    assert_eq!((broken.status, broken.text()), (500, "Internal Server Error\n"));
    client.send(b"GET /missing HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let missing = client.response().await;
    assert_eq!((missing.status, missing.text()), (404, "Not Found\n"));
    // An open mount sends no challenge, because a password would not help.
    client.send(b"GET /keep-out HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.header("www-authenticate"), None);
    server.end().await;
}

#[tokio::test]
async fn serves_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keepgate.sock");
    let mut config = config();
    config.address = format!("unix:{}", path.display()).parse().unwrap();
    let server = start_with(Access::Open, config).await;
    assert_eq!(server.address.to_string(), path.display().to_string());
    let mut client = Client::over(tokio::net::UnixStream::connect(&path).await.unwrap());
    client.send(b"GET /source/300000 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.body.len(), 300_000);
    server.end().await;
    assert!(!path.exists());
}
