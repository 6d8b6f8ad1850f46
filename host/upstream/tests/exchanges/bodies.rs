//! Bodies in both directions: whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use keepgate_upstream::{Exchanges as _, UpstreamError};
use tokio::sync::mpsc;

use crate::server::{Server, get, request, text, unavailable};

fn chunks(length: Option<u64>, chunks: Vec<Result<&'static str, BodyError>>) -> Body {
    let chunks = chunks.into_iter().map(|chunk| chunk.map(Bytes::from));
    Body::from_stream(length, stream::iter(chunks))
}

/// A server that tells what it got after a head, when the connection ends or a response is due.
async fn recorder() -> (Server, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let server = Server::start(move |mut connection| {
        let sender = sender.clone();
        async move {
            let head = connection.head().await;
            let body = connection.rest().await;
            let body = String::from_utf8(body).unwrap();
            sender.send(format!("{head}{body}")).unwrap();
        }
    })
    .await;
    (server, receiver)
}

#[tokio::test]
async fn an_announced_length_is_announced_and_an_unknown_one_is_chunked() {
    let server = Server::start(|mut connection| async move {
        loop {
            let head = connection.head().await;
            if head.is_empty() {
                return;
            }
            let announced = head.contains("content-length: 5\r\n");
            let length = if announced { 5 } else { "5\r\nhello\r\n0\r\n\r\n".len() };
            let body = String::from_utf8(connection.read(length).await).unwrap();
            connection.answer("200 OK", &format!("{head}{body}")).await;
        }
    })
    .await;
    let upstream = server.upstream();
    for (body, tail) in [
        (chunks(Some(5), vec![Ok("he"), Ok("llo")]), "\r\n\r\nhello"),
        (Body::from_bytes("hello"), "\r\n\r\nhello"),
        (chunks(None, vec![Ok("hello")]), "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut request = request("PUT", "/");
        request.body = Some(body);
        let echo = text(upstream.send(request).await.unwrap().body).await.unwrap();
        assert!(echo.ends_with(tail), "{echo}");
        assert_eq!(echo.contains("transfer-encoding: chunked"), tail.contains("0\r\n"), "{echo}");
    }
}

#[tokio::test]
async fn a_request_whose_body_fails_is_aborted_and_never_whole() {
    for (length, body) in [
        (Some(5), vec![Ok("he"), Err(BodyError::Truncated)]),
        (Some(5), vec![Ok("he")]),
        (None, vec![Ok("hello"), Err(BodyError::TimedOut)]),
        // All bytes were there, but the source found them wrong.
        (Some(5), vec![Ok("he"), Ok("llo"), Err(BodyError::Truncated)]),
        (Some(5), vec![Ok("hello"), Ok("!")]),
    ] {
        let (server, mut got) = recorder().await;
        let what = format!("{length:?} {body:?}");
        let mut request = request("PUT", "/");
        request.body = Some(chunks(length, body));
        let result = server.upstream().send(request).await;
        assert!(matches!(result, Err(UpstreamError::Body(_))), "{what}: {result:?}");
        let got = got.recv().await.unwrap();
        assert!(!got.ends_with("hello") && !got.ends_with("0\r\n\r\n"), "{what}: {got}");
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_is_aborted() {
    let (server, mut got) = recorder().await;
    let upstream = server.upstream();
    let (started, mut begun) = mpsc::unbounded_channel();
    let slow = stream::once(async move {
        started.send(()).unwrap();
        Ok(Bytes::from_static(b"he"))
    });
    // The rest would come, if somebody waited for it.
    let rest = stream::once(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(Bytes::from_static(b"llo"))
    });
    let mut request = request("PUT", "/");
    request.body = Some(Body::from_stream(Some(5), slow.chain(rest)));
    let sending = tokio::spawn(async move { upstream.send(request).await });
    begun.recv().await.unwrap();
    sending.abort();
    let got = got.recv().await.unwrap();
    assert!(!got.ends_with("hello"), "{got}");
}

#[tokio::test]
async fn an_upload_waits_for_an_upstream_that_is_slow() {
    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.silence().await;
    })
    .await;
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let endless = stream::repeat_with(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from(vec![0; 65_536]))
    });
    let mut request = request("POST", "/");
    request.body = Some(Body::from_stream(None, endless));
    let upstream = server.upstream();
    let sending = tokio::spawn(async move { upstream.send(request).await });
    let mut before = usize::MAX;
    while made.load(Ordering::SeqCst) != before || before == 0 {
        before = made.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What the two ends of a loopback connection hold, and hyper's buffer.
    assert!(before < 400, "{before} chunks of 64 KiB are in memory");
    sending.abort();
}

#[tokio::test]
async fn a_response_ends_without_an_error_only_if_it_is_whole() {
    for (answer, whole) in [
        ("content-length: 5\r\n\r\nhello", true),
        ("content-length: 6\r\n\r\nhello", false),
        ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true),
        ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", false),
    ] {
        let server = Server::start(move |mut connection| async move {
            connection.head().await;
            connection.send(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        })
        .await;
        let upstream = server.upstream();
        let response = get(&upstream, "/").await.unwrap();
        match text(response.body).await {
            Ok(text) => assert!(whole && text == "hello", "{answer}"),
            Err(BodyError::Unavailable(why)) => {
                assert!(!whole, "{answer}: {why}");
                assert!(
                    why.starts_with("upstream \"lxd\": the response broke off after 5"),
                    "{why}"
                );
            }
            other => panic!("{answer}: {other:?}"),
        }
        assert_eq!(upstream.status().requests, 0, "its turn is free again");
    }
}

#[tokio::test]
async fn an_early_answer_is_an_answer() {
    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.answer("413 Too Large", "no").await;
        connection.silence().await;
    })
    .await;
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; 65_536])));
    let mut request = request("POST", "/");
    request.body = Some(Body::from_stream(None, endless));
    let response = server.upstream().send(request).await.unwrap();
    assert_eq!(response.status, 413);
    assert_eq!(text(response.body).await.unwrap(), "no");
}

#[tokio::test]
async fn a_stale_connection_is_replaced_where_that_is_harmless() {
    // Each connection answers once and is closed when it is used again, after the request was read.
    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.answer("200 OK", "first").await;
        connection.head().await;
    })
    .await;
    let upstream = server.upstream();
    for method in ["GET", "HEAD", "DELETE", "PUT"] {
        let mut again = request(method, "/");
        again.body = (method == "PUT").then(|| Body::from_bytes("x"));
        let response = upstream.send(again).await.unwrap();
        assert_eq!(response.status, 200, "{method}");
        // A body of PUT is read as a head here, and so the connection may be closed already.
        let _ = text(response.body).await;
    }
    let before = server.connections();
    let why = unavailable(upstream.send(request("POST", "/")).await);
    assert!(why.contains("closed the connection"), "{why}");
    assert_eq!(server.connections(), before, "it is not sent a second time");
    // The first answer on a new connection is not one that a server forgot.
    let server = Server::start(|mut connection| async move {
        connection.head().await;
    })
    .await;
    unavailable(get(&server.upstream(), "/").await);
    assert_eq!(server.connections(), 1);
}
