//! Heads: what is sent, what comes back, and what is wrong with a server that does not answer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use keepgate_store::Body;
use keepgate_upstream::{
    Destination, Exchanges as _, Login, Timeouts, Upstream, UpstreamError, UpstreamOptions,
};
use tokio::net::TcpListener;

use crate::server::{
    Connection, SHORT, Server, at_socket, get, options, request, text, unavailable,
};

#[tokio::test]
async fn a_request_is_sent_as_it_was_made_and_a_connection_is_used_again() {
    let server = Server::start(|mut connection| async move {
        for _ in 0..3 {
            let head = connection.head().await;
            connection.answer("200 OK", &head).await;
        }
    })
    .await;
    let options = UpstreamOptions {
        destination: Destination::Url {
            url: format!("http://{}/base/", server.address),
            host: Some("lxd".to_owned()),
        },
        ..server.options()
    };
    let upstream = Upstream::new(options).unwrap();
    for method in ["GET", "DELETE"] {
        let mut request = request(method, "/1.0/instances?project=a%20b");
        request.headers = vec![("X-LXD-name".to_owned(), "u2".to_owned())];
        let response = upstream.send(request).await.unwrap();
        assert_eq!(response.status, 200);
        let head = text(response.body).await.unwrap().to_lowercase();
        let first = format!("{} /base/1.0/instances?project=a%20b http/1.1", method.to_lowercase());
        assert_eq!(head.lines().next().unwrap(), first);
        assert!(head.contains("x-lxd-name: u2\r\n") && head.contains("host: lxd\r\n"), "{head}");
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    }
    let response = upstream.send(request("POST", "/x")).await.unwrap();
    let head = text(response.body).await.unwrap();
    assert!(head.contains("content-length: 0\r\n"), "{head}");
    assert_eq!(server.connections(), 1);
    assert_eq!((upstream.status().failing, upstream.status().requests), (None, 0));
}

#[tokio::test]
async fn any_status_is_an_answer_and_redirects_are_not_followed() {
    let server = Server::start(|mut connection| async move {
        loop {
            let head = connection.head().await;
            let Some(status) = head.split(['/', ' ']).nth(2) else { return };
            let more =
                "location: /elsewhere\r\nset-cookie: a=b\r\nconnection: x-hop\r\nx-hop: 1\r\n";
            let head = format!("HTTP/1.1 {status} X\r\n{more}content-length: 2\r\n\r\nok");
            connection.send(head).await;
        }
    })
    .await;
    let upstream = server.upstream();
    for status in [200, 201, 302, 307, 404, 500, 599] {
        let response = get(&upstream, &format!("/{status}")).await.unwrap();
        assert_eq!(response.status, status);
        let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["location", "set-cookie", "content-length"]);
        assert_eq!(text(response.body).await.unwrap(), "ok");
    }
    let why = unavailable(get(&upstream, "/101").await);
    assert!(why.contains("status 101"), "{why}");
}

#[tokio::test]
async fn what_the_operator_does_not_allow_is_not_sent() {
    let server = Server::start(Connection::silence).await;
    let options = UpstreamOptions {
        methods: vec!["GET".to_owned()],
        paths: vec!["/1.0/instances".to_owned()],
        ..server.options()
    };
    let upstream = Upstream::new(options).unwrap();
    for (method, target, why) in [
        ("POST", "/1.0/instances", "method \"POST\"; allowed: GET"),
        ("get", "/1.0/instances", "method \"get\""),
        ("GET", "/1.0/profiles", "this path"),
        ("GET", "/1.0/instancesx", "this path"),
        ("GET", "/", "this path"),
    ] {
        match upstream.send(request(method, target)).await {
            Err(UpstreamError::Denied(text)) => {
                assert!(text.contains("upstream \"lxd\"") && text.contains(why), "{text}");
            }
            other => panic!("{method} {target}: {other:?}"),
        }
    }
    for target in
        ["/1.0/instances/../profiles", "1.0", "http://other/1.0/instances", "//other/1.0/instances"]
    {
        let result = get(&upstream, target).await;
        assert!(matches!(result, Err(UpstreamError::Invalid(_))), "{target}: {result:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn secrets_are_added_by_the_host_and_read_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let server = Server::start(|mut connection| async move {
        loop {
            let head = connection.head().await;
            if head.is_empty() {
                return;
            }
            connection.answer("200 OK", &head).await;
        }
    })
    .await;
    let token = file("token", "one\n");
    let key = file("key", "k1");
    let bearer = UpstreamOptions {
        login: Some(Login::Bearer(token.clone())),
        header_files: vec![("X-API-Key".to_owned(), key)],
        ..server.options()
    };
    let upstream = Upstream::new(bearer.clone()).unwrap();
    let head = text(get(&upstream, "/").await.unwrap().body).await.unwrap();
    assert!(head.contains("authorization: Bearer one\r\n"), "{head}");
    assert!(head.contains("x-api-key: k1\r\n"), "{head}");
    fs::write(&token, "two").unwrap();
    let head = text(get(&upstream, "/").await.unwrap().body).await.unwrap();
    assert!(head.contains("authorization: Bearer two\r\n"), "{head}");
    for name in ["authorization", "Authorization", "x-api-key"] {
        let mut request = request("GET", "/");
        request.headers = vec![(name.to_owned(), "mine".to_owned())];
        let result = upstream.send(request).await;
        assert!(matches!(result, Err(UpstreamError::Denied(_))), "{name}: {result:?}");
    }
    fs::remove_file(&token).unwrap();
    let why = unavailable(get(&upstream, "/").await);
    assert!(why.contains("credentials") && !why.contains("token"), "{why}");
    assert!(upstream.status().failing.unwrap().contains("token"), "operators see the file");
    assert!(Upstream::new(bearer).unwrap_err().0.contains("token"));

    let password = file("password", "b:c\r\n");
    let basic = UpstreamOptions {
        login: Some(Login::Basic("ann".to_owned(), password)),
        ..server.options()
    };
    let upstream = Upstream::new(basic).unwrap();
    let head = text(get(&upstream, "/").await.unwrap().body).await.unwrap();
    assert!(head.contains("authorization: Basic YW5uOmI6Yw==\r\n"), "{head}");
}

#[tokio::test]
async fn a_socket_is_called_by_the_name_that_the_operator_gives_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unix.socket");
    let destination = Destination::Socket { path: path.clone(), host: Some("lxd".to_owned()) };
    let upstream = Upstream::new(UpstreamOptions { destination, ..options("http://x") }).unwrap();
    let why = unavailable(get(&upstream, "/1.0").await);
    assert_eq!(why, "upstream \"lxd\": its socket does not exist");
    at_socket(&path, |mut connection| async move {
        let head = connection.head().await;
        connection.answer("200 OK", &head).await;
    });
    let head = text(get(&upstream, "/1.0").await.unwrap().body).await.unwrap();
    assert!(head.starts_with("GET /1.0 HTTP/1.1\r\n") && head.contains("host: lxd\r\n"), "{head}");
    assert_eq!(upstream.probe().await.unwrap(), "connected");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    drop(folder);
}

#[tokio::test]
async fn a_system_that_is_away_is_named_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = Upstream::new(options(&format!("http://{address}"))).unwrap();
    assert_eq!(unavailable(get(&upstream, "/").await), "upstream \"lxd\": connection refused");
    assert_eq!(upstream.probe().await.unwrap_err(), "connection refused");
    let upstream = Upstream::new(options("http://name.invalid")).unwrap();
    let why = unavailable(get(&upstream, "/").await);
    assert_eq!(why, "upstream \"lxd\": its name cannot be resolved");
    assert!(
        upstream.probe().await.unwrap_err().contains("the name name.invalid cannot be resolved")
    );
}

#[tokio::test]
async fn what_is_not_http_is_said_to_be_not_http() {
    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.send("220 smtp.example ESMTP\r\n").await;
    })
    .await;
    let why = unavailable(get(&server.upstream(), "/").await);
    assert_eq!(why, "upstream \"lxd\": what it sent is not HTTP");

    let server = Server::start(|mut connection| async move {
        connection.head().await;
    })
    .await;
    let why = unavailable(get(&server.upstream(), "/").await);
    assert!(why.contains("closed the connection"), "{why}");

    let server = Server::start(|mut connection| async move {
        connection.head().await;
        connection.send(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(300_000))).await;
        connection.silence().await;
    })
    .await;
    let why = unavailable(get(&server.upstream(), "/").await);
    assert!(why.contains("head of its response is larger"), "{why}");
}

#[tokio::test]
async fn each_wait_has_a_limit() {
    // Accepts and says nothing; to a request, and to a handshake.
    let silent = Server::start(Connection::silence).await;
    let timeouts = Timeouts { answer: SHORT, ..silent.options().timeouts };
    let upstream = Upstream::new(UpstreamOptions { timeouts, ..silent.options() }).unwrap();
    let why = unavailable(get(&upstream, "/").await);
    assert_eq!(why, "upstream \"lxd\": no answer within 300ms");
    assert!(upstream.status().failing.is_some());

    let mut wish = request("GET", "/");
    wish.wishes.answer_within = Some(SHORT);
    let why = unavailable(silent.upstream().send(wish).await);
    assert_eq!(why, "upstream \"lxd\": no answer within 300ms");

    let timeouts = Timeouts { connect: SHORT, ..silent.options().timeouts };
    let encrypted = options(&format!("https://{}", silent.address));
    let upstream = Upstream::new(UpstreamOptions { timeouts, ..encrypted }).unwrap();
    let why = unavailable(get(&upstream, "/").await);
    assert_eq!(why, "upstream \"lxd\": it speaks no TLS within 300ms");

    // The answer's time begins when the body was sent.
    let silent = Server::start(|mut connection| async move {
        connection.head().await;
        connection.silence().await;
    })
    .await;
    let timeouts = Timeouts { silence: SHORT, ..silent.options().timeouts };
    let upstream = Upstream::new(UpstreamOptions { timeouts, ..silent.options() }).unwrap();
    let mut upload = request("POST", "/");
    let endless = futures_util::stream::repeat_with(|| Ok(vec![0; 65_536].into()));
    upload.body = Some(Body::from_stream(None, endless));
    let why = unavailable(upstream.send(upload).await);
    assert_eq!(why, "upstream \"lxd\": it took nothing of the request for 300ms");
}

#[tokio::test]
async fn a_check_tells_the_status_of_the_operators_path() {
    let server = Server::start(|mut connection| async move {
        let head = connection.head().await;
        let status = if head.contains("/1.0 ") { "200 OK" } else { "403 Forbidden" };
        connection.answer(status, "").await;
    })
    .await;
    let with = |check: &str| UpstreamOptions {
        check: Some(check.to_owned()),
        paths: vec!["/elsewhere".to_owned()],
        ..server.options()
    };
    let good = Upstream::new(with("/1.0")).unwrap();
    assert_eq!(good.probe().await.unwrap(), "connected; GET /1.0 answers 200");
    let bad = Upstream::new(with("/2.0")).unwrap();
    assert_eq!(bad.probe().await.unwrap_err(), "connected; GET /2.0 answers 403");
}
