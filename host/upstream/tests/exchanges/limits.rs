//! Turns, sizes and silence.

use keepgate_store::BodyError;
use keepgate_upstream::{
    Exchanges as _, Limits, Timeouts, Upstream, UpstreamError, UpstreamOptions,
};

use crate::server::{SHORT, Server, get, request, text};

#[tokio::test]
async fn a_request_keeps_its_turn_until_its_response_was_read() {
    let server = Server::start(|mut connection| async move {
        loop {
            if connection.head().await.is_empty() {
                return;
            }
            connection.answer("200 OK", "hello").await;
        }
    })
    .await;
    let options = UpstreamOptions {
        limits: Limits { requests: 1, ..Limits::default() },
        timeouts: Timeouts { turn: SHORT, ..server.options().timeouts },
        ..server.options()
    };
    let upstream = Upstream::new(options).unwrap();
    let first = get(&upstream, "/").await.unwrap();
    assert_eq!(upstream.status().requests, 1);
    match get(&upstream, "/").await {
        Err(UpstreamError::Busy(why)) => {
            assert!(why.contains("upstream \"lxd\": 1 requests"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let waiting = get(&upstream, "/");
    let (first, second) = tokio::join!(text(first.body), waiting);
    assert_eq!(first.unwrap(), "hello");
    drop(second.unwrap());
    assert!(get(&upstream, "/").await.is_ok(), "a body that is dropped frees its turn");
}

#[tokio::test]
async fn a_body_ends_at_its_limit() {
    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        loop {
            connection.send("5\r\nhello\r\n").await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let limited =
        |body| UpstreamOptions { limits: Limits { body, ..Limits::default() }, ..server.options() };
    for (limit, wish, expected) in
        [(Some(20), None, 20), (Some(20), Some(50), 20), (None, Some(7), 7)]
    {
        let upstream = Upstream::new(limited(limit)).unwrap();
        let mut request = request("GET", "/");
        request.wishes.max_body = wish;
        let response = upstream.send(request).await.unwrap();
        match text(response.body).await {
            Err(BodyError::TooLarge { limit }) => assert_eq!(limit, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_left() {
    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        connection.silence().await;
    })
    .await;
    let timeouts = Timeouts { silence: SHORT, ..server.options().timeouts };
    let upstream = Upstream::new(UpstreamOptions { timeouts, ..server.options() }).unwrap();
    let response = get(&upstream, "/").await.unwrap();
    match text(response.body).await {
        Err(BodyError::Unavailable(why)) => assert_eq!(
            why,
            "upstream \"lxd\": the response broke off after 5 of 10 bytes: it sent nothing for 300ms"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_let_nothing_happen_are_rejected() {
    let options = || crate::server::options("http://h");
    let wrong = |options: UpstreamOptions| Upstream::new(options).unwrap_err().0;
    let limits = Limits::default();
    assert!(
        wrong(UpstreamOptions { limits: Limits { requests: 0, ..limits }, ..options() })
            .contains("requests")
    );
    assert!(
        wrong(UpstreamOptions { limits: Limits { head: 100, ..limits }, ..options() })
            .contains("max_head")
    );
    let timeouts = Timeouts { answer: std::time::Duration::ZERO, ..Timeouts::default() };
    assert!(wrong(UpstreamOptions { timeouts, ..options() }).contains("zero"));
    assert!(
        wrong(UpstreamOptions { paths: vec!["1.0".to_owned()], ..options() })
            .contains("path \"1.0\"")
    );
    assert!(
        wrong(UpstreamOptions { check: Some("/../".to_owned()), ..options() }).contains("check")
    );
    assert!(
        wrong(UpstreamOptions { methods: vec!["get".to_owned()], ..options() }).contains("GET")
    );
    let header_files = vec![("Host".to_owned(), "/dev/null".into())];
    assert!(wrong(UpstreamOptions { header_files, ..options() }).contains("made by the gateway"));
}
