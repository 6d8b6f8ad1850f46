//! Uploads: complete, cut off, stalled, and refused while the client is still sending.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keepgate_auth::Access;
use keepgate_core::Reply;
use keepgate_http::ListenerConfig;
use keepgate_store::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{Native, config, hasty, soon, start, start_mounts, start_with, text};

const BIG: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn uploads_with_and_without_a_length() {
    let server = start().await;
    let mut client = server.connect().await;
    client.send(b"POST /sink HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.text(), "5 of Some(5)");
    client
        .send(b"POST /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "5 of None");
    client.send(b"POST /sink HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "0 of Some(0)");
    client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.text(), "hello");
    let counters = server.counters();
    assert!(counters.contains("received_bytes_total{mount=\"/\"} 15\n"), "{counters}");
    server.end().await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_guard_so() {
    let server = start().await;
    for request in [
        "POST /sink HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello",
        "POST /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "POST /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(request.as_bytes()).await;
        client.stream.shutdown().await.unwrap();
        let response = client.response().await;
        assert_eq!(response.status, 400, "{request:?}");
        let text = "Bad Request: the body ended before its announced length\n";
        assert_eq!(response.text(), text);
        assert!(client.is_closed().await);
    }
    server.end().await;
}

#[tokio::test]
async fn a_client_that_stops_sending_is_guard_so() {
    let config = ListenerConfig { timeouts: hasty(), ..config() };
    let server = start_with(Access::Open, config).await;
    let mut client = server.connect().await;
    client.send(b"POST /sink HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (408, "Request Timeout\n"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    server.end().await;
}

/// Sends a large body and reads the response only afterwards, as simple clients do. If the server closed
/// early, they would see an error instead.
async fn refused(stream: TcpStream, path: &str, pause: Option<Duration>) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let head = format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {BIG}\r\n\r\n");
    writer.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![0; 1024 * 1024];
    for _ in 0..BIG / chunk.len() {
        soon(writer.write_all(&chunk)).await.expect("the server takes the rest");
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    // The connection stays usable.
    writer.write_all(b"GET /show HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut replies = String::new();
    soon(reader.read_to_string(&mut replies)).await.unwrap();
    replies
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = start().await;
    for pause in [None, Some(Duration::from_millis(10))] {
        for (path, expected) in [("/refuse", "HTTP/1.1 403 "), ("/missing", "HTTP/1.1 404 ")] {
            let stream = TcpStream::connect(server.tcp()).await.unwrap();
            let replies = refused(stream, path, pause).await;
            assert!(replies.starts_with(expected), "{replies}");
            assert!(replies.contains("HTTP/1.1 200 OK"), "{replies}");
        }
    }
    server.end().await;
}

#[tokio::test]
async fn continue_is_sent_only_if_the_body_is_read() {
    let server = start().await;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut client = server.connect().await;
    client.send(head("/sink").as_bytes()).await;
    assert_eq!(client.head().await.status, 100);
    client.send(b"hello").await;
    assert_eq!(client.response().await.text(), "5 of Some(5)");
    // On the same connection.
    client.send(head("/refuse").as_bytes()).await;
    let refused = client.response().await;
    assert_eq!(refused.status, 403);
    // The server cannot know whether the body follows anyway.
    assert_eq!(refused.header("connection"), Some("close"));
    let began = Instant::now();
    client.stream.shutdown().await.unwrap();
    assert!(client.is_closed().await);
    let mut fastest = began.elapsed();
    // The server lingers for three seconds, but not for a client that has left. A busy machine may
    // delay one of these, hardly all.
    for _ in 0..5 {
        if fastest < Duration::from_secs(2) {
            break;
        }
        let mut client = server.connect().await;
        client.send(head("/refuse").as_bytes()).await;
        assert_eq!(client.response().await.status, 403);
        let began = Instant::now();
        client.stream.shutdown().await.unwrap();
        assert!(client.is_closed().await);
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < Duration::from_secs(2), "{fastest:?}");
    server.end().await;
}

#[tokio::test]
async fn clients_that_keep_sending_still_read_the_response() {
    let server = start().await;
    let body = "x".repeat(8 * 1024 * 1024);
    let expecting = format!(
        "POST /refuse HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let endless_head = format!("GET /show HTTP/1.1\r\nX: {body}");
    for (request, status) in [(expecting, 403), (endless_head, 431)] {
        let mut client = server.connect().await;
        client.send(request.as_bytes()).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.response().await.status, status);
        let (rest, end) = client.rest().await;
        assert!(rest.is_empty() && end.is_ok(), "{end:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn transfers_stop_when_the_client_has_left() {
    let (events, mut seen) = mpsc::unbounded_channel::<&str>();
    struct OnDrop(mpsc::UnboundedSender<&'static str>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let handler = Native::at("/", move |mut request| {
        let events = events.clone();
        async move {
            match request.path.first().map_or("", String::as_str) {
                "upload" => {
                    let _guard = OnDrop(events.clone());
                    events.send("begun").unwrap();
                    while let Some(Ok(_)) = request.body.chunk().await {}
                }
                _ => {
                    let guard = OnDrop(events.clone());
                    events.send("begun").unwrap();
                    let chunks = futures_util::stream::unfold(guard, |guard| async {
                        Some((Ok(vec![0; 65536].into()), guard))
                    });
                    let body = Body::from_stream(None, chunks);
                    return Ok(Reply { status: 200, headers: Vec::new(), body });
                }
            }
            text("")
        }
    });
    let server = start_mounts(vec![(handler, Arc::new(Access::Open))], config()).await;
    for request in [
        "POST /upload HTTP/1.1\r\nContent-Length: 100\r\n\r\nhello",
        "GET /download HTTP/1.1\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(request.as_bytes()).await;
        assert_eq!(soon(seen.recv()).await, Some("begun"), "{request}");
        drop(client);
        assert_eq!(soon(seen.recv()).await, Some("dropped"), "{request}");
    }
    server.end().await;
}

#[tokio::test]
async fn interim_responses_come_before_the_body_is_there() {
    let server = start().await;
    let mut client = server.connect().await;
    // Twice on one connection, and with a client that waits for 100 as well.
    for expect in ["", "Expect: 100-continue\r\n", ""] {
        let head = format!("POST /inform HTTP/1.1\r\nContent-Length: 5\r\n{expect}\r\n");
        client.send(head.as_bytes()).await;
        let mut interim = client.head().await;
        if interim.status == 100 {
            interim = client.head().await;
        } else if !expect.is_empty() {
            assert_eq!(client.head().await.status, 100);
        }
        assert_eq!(interim.status, 104, "{interim:?}");
        assert_eq!(interim.header("location"), Some("/later"));
        assert_eq!(interim.header("content-length"), None);
        client.send(b"hello").await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "5"));
    }
    // A client of HTTP/1.0 would take it for the response.
    client.send(b"POST /inform HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_whole_with_interim_responses_between() {
    let server = start().await;
    let mut client = server.connect().await;
    let large = "GET /source/3000000 HTTP/1.1\r\n\r\n";
    let informed = "POST /inform HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    client.send([large, informed, large, informed].concat().as_bytes()).await;
    for _ in 0..2 {
        let response = client.response().await;
        assert_eq!((response.status, response.body.len()), (200, 3_000_000));
        assert!(response.body.iter().all(|byte| *byte == b'x'));
        let mut response = client.response().await;
        // It may have been dropped, because the response is there at once.
        if response.status == 104 {
            response = client.response().await;
        }
        assert_eq!((response.status, response.text()), (200, "5"));
    }
    server.end().await;
}
