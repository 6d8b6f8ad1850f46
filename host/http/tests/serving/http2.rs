//! HTTP/2 over TLS, with hyper's client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keepgate_auth::Access;
use keepgate_core::Handler;
use keepgate_http::{ListenerConfig, RateLimitBy, SiteMount, Timeouts, Tls};

use crate::rate_limits::once_a_day;
use crate::support::{
    LONG, Native, Running, Trust, certificate, config, soon, start_gateway, start_tls, stock,
};

type Sending = BoxBody<Bytes, Infallible>;

struct Http2 {
    send: SendRequest<Sending>,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
}

async fn connect(server: &Running, trust: &Trust, window: u32) -> Http2 {
    let stream = trust.connect(server.tcp(), "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(16 * 1024 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    Http2 { send, connection: tokio::spawn(connection) }
}

fn request(method: &str, path: &str, body: Sending) -> Request<Sending> {
    let uri = format!("https://localhost{path}");
    Request::builder().method(method).uri(uri).body(body).unwrap()
}

fn empty() -> Sending {
    Empty::new().boxed()
}

/// A body in chunks of 1 MiB, without an announced length.
fn upload(bytes: usize) -> Sending {
    let chunk = Bytes::from(vec![b'u'; 1024 * 1024]);
    let chunks = futures_util::stream::iter(0..bytes / chunk.len());
    let frames = chunks.map(move |_| Ok(Frame::data(chunk.clone())));
    BodyExt::boxed(StreamBody::new(frames))
}

impl Http2 {
    async fn ask(&self, request: Request<Sending>) -> hyper::Result<Response<Incoming>> {
        let mut send = self.send.clone();
        soon(send.ready()).await?;
        soon(send.send_request(request)).await
    }

    async fn get(&self, path: &str) -> (u16, Bytes) {
        let response = self.ask(request("GET", path, empty())).await.unwrap();
        let status = response.status().as_u16();
        (status, soon(response.into_body().collect()).await.unwrap().to_bytes())
    }
}

#[tokio::test]
async fn concurrent_transfers_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let client = connect(&server, &trust, 1024 * 1024).await;
    let downloads = (1..=5).map(|number| {
        let client = &client;
        async move {
            let bytes = number * 3_000_000;
            let (status, body) = client.get(&format!("/source/{bytes}")).await;
            assert_eq!((status, body.len()), (200, bytes));
        }
    });
    let uploads = (1..=5).map(|number| {
        let client = &client;
        async move {
            let bytes = number * 3 * 1024 * 1024;
            let sending = request("POST", "/sink", upload(bytes));
            let response = client.ask(sending).await.unwrap();
            let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
            assert_eq!(body, format!("{bytes} of None"));
        }
    });
    let all = async {
        tokio::join!(
            futures_util::future::join_all(downloads),
            futures_util::future::join_all(uploads)
        )
    };
    soon(all).await;

    let shown = client.get("/show/a%2Fb/?x=1").await.1;
    let shown = std::str::from_utf8(&shown).unwrap();
    assert!(shown.starts_with(r#"GET ["show", "a/b"] true [("x", "1")] None"#), "{shown}");
    assert!(shown.contains(r#"("host", "localhost")"#), "{shown}");
    server.end().await;
}

#[tokio::test]
async fn heads_lengths_and_broken_replies() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let client = connect(&server, &trust, 1024 * 1024).await;
    let head = client.ask(request("HEAD", "/length", empty())).await.unwrap();
    assert_eq!(head.headers()["content-length"], "1234");
    let known = client.ask(request("POST", "/sink", Full::from("hello").boxed())).await.unwrap();
    let length = known.headers()["content-length"].clone();
    let body = known.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((body.as_ref(), length.to_str().unwrap()), (b"5 of Some(5)".as_slice(), "12"));

    for path in ["/short/100000", "/long/100000", "/break/100000"] {
        // A reset discards what is still queued, which may include the head.
        if let Ok(response) = client.ask(request("GET", path, empty())).await {
            assert!(soon(response.into_body().collect()).await.is_err(), "{path}");
        }
    }
    // Other requests of the connection are not affected.
    assert_eq!(client.get("/source/3").await, (200, Bytes::from("xxx")));
    server.end().await;
}

#[tokio::test]
async fn refused_uploads_leave_the_connection_usable() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let client = connect(&server, &trust, 1024 * 1024).await;
    // In total far more than the windows: refused bytes must be released to them.
    for _ in 0..10 {
        let refusals = (0..4).map(|_| {
            let client = &client;
            async move {
                let sending = request("POST", "/refuse", upload(64 * 1024 * 1024));
                let response = client.ask(sending).await.unwrap();
                assert_eq!(response.status(), 403);
                let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
                assert_eq!(body, "Forbidden: append-only\n");
            }
        });
        soon(futures_util::future::join_all(refusals)).await;
    }
    let sending = request("POST", "/sink", upload(8 * 1024 * 1024));
    let response = client.ask(sending).await.unwrap();
    assert_eq!(response.status(), 200);
    server.end().await;
}

#[tokio::test]
async fn a_request_whose_client_accepts_no_data_is_cut_alone() {
    let folder = tempfile::tempdir().unwrap();
    let timeouts = Timeouts { download_stall: Duration::from_millis(300), ..Timeouts::default() };
    let (server, _, trust) = start_tls(folder.path(), timeouts).await;
    let client = connect(&server, &trust, 65_535).await;
    let stalled = client.ask(request("GET", "/source/10000000", empty())).await.unwrap();
    while server.counters().contains("requests_in_flight{mount=\"/\"} 1") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.get("/source/3").await, (200, Bytes::from("xxx")));
    assert!(soon(stalled.into_body().collect()).await.is_err());
    server.end().await;
}

#[tokio::test]
async fn a_stalled_upload_gets_a_408() {
    let folder = tempfile::tempdir().unwrap();
    let timeouts = Timeouts { upload_stall: Duration::from_millis(300), ..Timeouts::default() };
    let (server, _, trust) = start_tls(folder.path(), timeouts).await;
    let client = connect(&server, &trust, 1024 * 1024).await;
    let endless =
        StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let response = client.ask(request("POST", "/sink", BodyExt::boxed(endless))).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(client.get("/source/3").await, (200, Bytes::from("xxx")));
    server.end().await;
}

#[tokio::test]
async fn a_shutdown_closes_gracefully_and_lets_transfers_finish() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _, trust) = start_tls(folder.path(), Timeouts::default()).await;
    let idle = connect(&server, &trust, 1024 * 1024).await;
    assert_eq!(idle.get("/source/3").await.0, 200);
    let client = connect(&server, &trust, 1024 * 1024).await;
    let download = client.ask(request("GET", "/source/20000000", empty())).await.unwrap();
    server.shutdown.begin();
    // Ends without an error, while the other connection is still busy.
    soon(idle.connection).await.unwrap().unwrap();
    assert!(!server.task.is_finished());
    let body = tokio::time::timeout(LONG, download.into_body().collect()).await.unwrap();
    assert_eq!(body.unwrap().to_bytes().len(), 20_000_000);
    soon(client.connection).await.unwrap().unwrap();
    soon(server.task).await.unwrap();
    drop(Arc::new(trust));
}

#[tokio::test]
async fn a_request_beyond_a_rate_limit_ends_its_stream_and_not_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(folder.path(), "server");
    let tls = Some(Tls::load(files).unwrap());
    let handler: Arc<dyn Handler> = Native::at("/limited", stock);
    let open = Arc::new(Access::Open);
    let mounts = vec![
        SiteMount {
            rate_limits: Some(once_a_day(RateLimitBy::Address)),
            ..SiteMount::from((handler, open.clone()))
        },
        SiteMount::from((Native::at("/", stock) as Arc<dyn Handler>, open)),
    ];
    let server = start_gateway(mounts, ListenerConfig { tls, ..config() }, |gateway| gateway).await;
    let client = connect(&server, &Trust(trusted), 1024 * 1024).await;
    assert_eq!(client.get("/limited/show").await.0, 200);
    let refused = client.ask(request("POST", "/limited/sink", upload(8 << 20))).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(client.get("/show").await.0, 200);
    server.end().await;
}
