//! A response that breaks off and is read on.

use std::sync::{Arc, Mutex};

use keepgate_store::BodyError;
use keepgate_upstream::{Exchanges as _, Limits, Upstream, UpstreamOptions};

use crate::server::{Connection, Server, get, request, text};

const DATA: &str = "0123456789abcdefghij";

/// Sends the part that a request asks for, but at most `most` bytes of it, then breaks off.
async fn part(connection: &mut Connection, head: &str, headers: &str, most: usize) {
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let (status, from, to) = match range.and_then(|range| range.split_once('-')) {
        Some((from, to)) => ("206 Partial Content", from.parse().unwrap(), to.parse().unwrap()),
        None => ("200 OK", 0, DATA.len() - 1),
    };
    let length = to + 1 - from;
    let about = match status {
        "200 OK" => String::new(),
        _ => format!("content-range: bytes {from}-{to}/{}\r\n", DATA.len()),
    };
    let sent = &DATA[from..=to][..length.min(most)];
    connection
        .send(format!(
            "HTTP/1.1 {status}\r\n{headers}{about}content-length: {length}\r\n\r\n{sent}"
        ))
        .await;
}

/// A server whose connections each break off after a few bytes; and the heads that it got.
async fn breaking(headers: &'static str, most: usize) -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let server = Server::start(move |mut connection| {
        let kept = Arc::clone(&kept);
        async move {
            let head = connection.head().await;
            part(&mut connection, &head, headers, most).await;
            kept.lock().unwrap().push(head);
        }
    })
    .await;
    (server, heads)
}

#[tokio::test]
async fn a_response_with_a_validator_is_read_on_at_the_same_byte() {
    for (headers, condition) in [
        ("etag: \"v1\"\r\n", "if-range: \"v1\"\r\n"),
        (
            "last-modified: Mon, 30 Nov 2026 00:00:00 GMT\r\n",
            "if-range: Mon, 30 Nov 2026 00:00:00 GMT\r\n",
        ),
    ] {
        let (server, heads) = breaking(headers, 7).await;
        let response = get(&server.upstream(), "/export").await.unwrap();
        assert_eq!(response.body.length(), Some(20));
        assert_eq!(text(response.body).await.unwrap(), DATA);
        let heads = heads.lock().unwrap();
        assert_eq!(heads.len(), 3);
        for (head, range) in heads[1..].iter().zip(["bytes=7-19", "bytes=14-19"]) {
            assert!(
                head.contains(&format!("range: {range}\r\n")) && head.contains(condition),
                "{head}"
            );
        }
    }
}

#[tokio::test]
async fn what_the_plugin_says_does_not_change_needs_no_validator() {
    let (server, heads) = breaking("", 15).await;
    let mut export = request("GET", "/export");
    export.wishes.resume = true;
    let response = server.upstream().send(export).await.unwrap();
    assert_eq!(text(response.body).await.unwrap(), DATA);
    assert!(!heads.lock().unwrap()[1].contains("if-range"));
    // And without that, it is not read on.
    match text(get(&server.upstream(), "/export").await.unwrap().body).await {
        Err(BodyError::Unavailable(why)) => assert!(why.contains("after 15 of 20 bytes"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(heads.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_part_that_was_asked_for_is_read_on_to_its_own_end() {
    let (server, heads) = breaking("etag: \"v1\"\r\n", 4).await;
    let mut slice = request("GET", "/export");
    slice.headers = vec![("range".to_owned(), "bytes=5-14".to_owned())];
    let response = server.upstream().send(slice).await.unwrap();
    assert_eq!((response.status, response.body.length()), (206, Some(10)));
    assert_eq!(text(response.body).await.unwrap(), DATA[5..=14]);
    let heads = heads.lock().unwrap();
    assert!(
        heads[1].contains("range: bytes=9-14\r\n") && heads[2].contains("range: bytes=13-14\r\n")
    );
    assert_eq!(heads[1].matches("range: bytes").count(), 1, "{}", heads[1]);
}

#[tokio::test]
async fn a_response_is_not_read_on_for_ever() {
    let (server, heads) = breaking("etag: \"v1\"\r\n", 2).await;
    let options =
        UpstreamOptions { limits: Limits { resumes: 3, ..Limits::default() }, ..server.options() };
    let upstream = Upstream::new(options).unwrap();
    match text(get(&upstream, "/export").await.unwrap().body).await {
        Err(BodyError::Unavailable(why)) => assert!(why.contains("after 8 of 20 bytes"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(heads.lock().unwrap().len(), 4);
    assert_eq!(upstream.status().requests, 0);
}

#[tokio::test]
async fn other_bytes_are_never_taken_for_the_rest() {
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\netag: \"v2\"\r\ncontent-length: 20\r\n\r\nklmnopqrstuvwxyz0123",
            "has changed",
        ),
        (
            "HTTP/1.1 206 P\r\ncontent-range: bytes 0-12/20\r\ncontent-length: 13\r\n\r\n0123456789abc",
            "not 7-19",
        ),
        (
            "HTTP/1.1 206 P\r\ncontent-range: bytes 7-19/21\r\ncontent-length: 13\r\n\r\n789abcdefghij",
            "20 bytes and has 21",
        ),
        ("HTTP/1.1 206 P\r\ncontent-length: 13\r\n\r\n789abcdefghij", "which part"),
        (
            "HTTP/1.1 206 P\r\netag: \"v2\"\r\ncontent-range: bytes 7-19/20\r\ncontent-length: 13\r\n\r\n789abcdefghij",
            "changed",
        ),
        ("HTTP/1.1 416 R\r\ncontent-length: 0\r\n\r\n", "416"),
    ] {
        let server = Server::start(move |mut connection| async move {
            let head = connection.head().await;
            if connection.number == 0 {
                part(&mut connection, &head, "etag: \"v1\"\r\n", 7).await;
            } else {
                connection.send(answer).await;
            }
        })
        .await;
        match text(get(&server.upstream(), "/export").await.unwrap().body).await {
            Err(BodyError::Unavailable(text)) => {
                assert!(text.contains("after 7 of 20 bytes") && text.contains(why), "{text}");
            }
            other => panic!("{answer}: {other:?}"),
        }
        assert_eq!(server.connections(), 2, "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_is_being_started_is_waited_for() {
    let server = Server::start(move |mut connection| async move {
        let head = connection.head().await;
        match connection.number {
            0 => part(&mut connection, &head, "etag: \"v1\"\r\n", 7).await,
            1 => {}
            2 => connection.answer("503 Starting", "").await,
            _ => part(&mut connection, &head, "etag: \"v1\"\r\n", 20).await,
        }
    })
    .await;
    assert_eq!(text(get(&server.upstream(), "/export").await.unwrap().body).await.unwrap(), DATA);
    assert_eq!(server.connections(), 4);
}
