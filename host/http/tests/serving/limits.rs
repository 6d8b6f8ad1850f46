//! Silence and numbers: how long a connection may say nothing, and how many there may be.

use std::time::{Duration, Instant};

use keepgate_http::{Access, ListenerConfig, Timeouts};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{Client, certificate, config, hasty, soon, start_tls, start_with};

const PATIENT: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn slow_heads_are_cut() {
    let timeouts = Timeouts { idle: PATIENT, ..hasty() };
    let server = start_with(Access::Open, ListenerConfig { timeouts, ..config() }).await;
    // Nothing at all.
    assert!(server.connect().await.is_closed().await);
    // A byte from time to time does not help.
    let mut client = server.connect().await;
    client.send(b"GET /show HTTP/1.1\r\n").await;
    let (mut reader, mut writer) = client.stream.into_split();
    let drip = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if tokio::io::AsyncWriteExt::write_all(&mut writer, b"X: y\r\n").await.is_err() {
                return;
            }
        }
    });
    let mut rest = Vec::new();
    // A reset, where a drop was on its way as the server closed.
    let _ = soon(reader.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    soon(drip).await.unwrap();
    // The same for a second head, although silence before it is fine.
    let mut client = server.connect().await;
    client.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.body, b"xxx");
    tokio::time::sleep(Duration::from_millis(600)).await;
    client.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.body, b"xxx");
    client.send(b"GET ").await;
    assert!(client.is_closed().await);
    server.end().await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let timeouts = Timeouts { head: PATIENT, download_stall: PATIENT, ..hasty() };
    let folder = tempfile::tempdir().unwrap();
    let plain_config = ListenerConfig { timeouts: timeouts.clone(), ..config() };
    let plain = start_with(Access::Open, plain_config).await;
    let mut client = plain.connect().await;
    client.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.body, b"xxx");
    assert!(client.is_closed().await);
    plain.end().await;

    let (server, _, trust) = start_tls(folder.path(), timeouts).await;
    let mut client = Client::over(trust.connect(server.tcp(), "http/1.1").await.unwrap());
    client.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.body, b"xxx");
    // rustls calls an end without a goodbye an error.
    let (rest, end) = client.rest().await;
    end.unwrap();
    assert!(rest.is_empty());
    server.end().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let timeouts = Timeouts { head: PATIENT, idle: PATIENT, ..hasty() };
    let server = start_with(Access::Open, ListenerConfig { timeouts, ..config() }).await;
    let mut client = server.connect().await;
    client.send(b"GET /source/100000000 HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    // Sleeping is what the client does wrong.
    while server.counters().contains("keepgate_http_connections 1") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (body, _) = client.rest().await;
    assert!(body.len() < 100_000_000);
    server.end().await;
}

#[tokio::test]
async fn a_slow_client_is_not_cut() {
    let timeouts = Timeouts { head: PATIENT, idle: PATIENT, ..hasty() };
    let server = start_with(Access::Open, ListenerConfig { timeouts, ..config() }).await;
    let mut client = server.connect().await;
    client.send(b"GET /source/60000000 HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let mut buffer = vec![0; 4 * 1024 * 1024];
    let mut bytes = 0;
    let began = Instant::now();
    loop {
        match soon(client.stream.read(&mut buffer)).await.unwrap() {
            0 => break,
            read => bytes += read,
        }
        if bytes >= 60_000_000 - 65_536 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bytes >= 60_000_000 - 65_536 && began.elapsed() > Duration::from_millis(300));
    server.end().await;
}

#[tokio::test]
async fn further_connections_wait_for_room() {
    let server = start_with(Access::Open, ListenerConfig { max_connections: 2, ..config() }).await;
    let mut first = server.connect().await;
    first.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(first.response().await.status, 200);
    let mut second = server.connect().await;
    second.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(second.response().await.status, 200);
    let mut third = server.connect().await;
    third.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    let waits = tokio::time::timeout(Duration::from_millis(200), third.head()).await;
    assert!(waits.is_err());
    drop(first);
    assert_eq!(third.response().await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn handshakes_that_do_not_come_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (server, tls, trust) = start_tls(folder.path(), hasty()).await;
    let mut client = Client::over(TcpStream::connect(server.tcp()).await.unwrap());
    assert!(client.is_closed().await);
    // Half a handshake.
    let mut client = Client::over(TcpStream::connect(server.tcp()).await.unwrap());
    client.send(&[0x16, 3, 1, 2]).await;
    assert!(client.is_closed().await);
    // Plain HTTP is told what is wrong.
    let mut client = Client::over(TcpStream::connect(server.tcp()).await.unwrap());
    client.send(b"GET / HTTP/1.1\r\n\r\n").await;
    let head = client.head().await;
    let (text, _) = client.rest().await;
    assert_eq!(head.status, 400);
    assert!(String::from_utf8(text).unwrap().contains("https://"));

    // A new certificate is used by new connections; old ones go on.
    let mut old = Client::over(trust.connect(server.tcp(), "http/1.1").await.unwrap());
    let (new, certificate) = certificate(folder.path(), "new");
    std::fs::copy(new.certificate, &tls.files().certificate).unwrap();
    assert!(tls.reload().is_err());
    drop(trust.connect(server.tcp(), "http/1.1").await.unwrap());
    std::fs::copy(new.key, &tls.files().key).unwrap();
    tls.reload().unwrap();
    assert!(trust.connect(server.tcp(), "http/1.1").await.is_err());
    let new = crate::support::Trust(certificate);
    let mut new = Client::over(new.connect(server.tcp(), "http/1.1").await.unwrap());
    for client in [&mut old, &mut new] {
        client.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.response().await.body, b"xxx");
    }
    server.end().await;
}
