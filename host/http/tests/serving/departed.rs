//! Clients that close their side, or leave, right after their request: what they asked for still happens,
//! and one that waits gets its answer.

use std::sync::Arc;

use keepgate_auth::Access;
use keepgate_http::{Address, ListenerConfig, LocalAddress, Timeouts, Tls};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::abuse::{Raw, in_flight, post, reset};
use crate::support::{
    Client, Native, Running, Trust, certificate, config, soon, source, start_mounts, text,
};

const POST: &str = "POST /work HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";

/// A gateway whose handler says how far it is and goes on when it may.
struct Work {
    server: Running,
    events: mpsc::UnboundedReceiver<&'static str>,
    may_continue: Arc<Semaphore>,
}

/// Says whether the work was finished.
struct Progress(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

impl Work {
    async fn start(config: ListenerConfig) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let may_continue = Arc::new(Semaphore::new(0));
        let permits = may_continue.clone();
        let handler = Native::at("/", move |mut request| {
            let (sender, permits) = (sender.clone(), permits.clone());
            async move {
                if request.path.first().is_some_and(|path| path == "large") {
                    let bytes = 20_000_000;
                    return crate::support::reply(200, &[], source(bytes, Some(bytes)));
                }
                let mut progress = Progress(sender.clone(), "dropped");
                let mut bytes = 0;
                while let Some(chunk) = request.body.chunk().await {
                    bytes += chunk.map_err(keepgate_core::Failure::from)?.len();
                }
                sender.send("begun").unwrap();
                permits.acquire().await.unwrap().forget();
                progress.1 = "finished";
                text(format!("{bytes} bytes"))
            }
        });
        let server = start_mounts(vec![(handler, Arc::new(Access::Open))], config).await;
        Self { server, events, may_continue }
    }

    async fn start_tls(folder: &std::path::Path) -> (Self, Trust) {
        let (files, certificate) = certificate(folder, "server");
        let tls = Some(Tls::load(files).unwrap());
        (Self::start(ListenerConfig { tls, ..config() }).await, Trust(certificate))
    }

    async fn next(&mut self) -> &'static str {
        soon(self.events.recv()).await.unwrap()
    }

    async fn no_connections(&self) {
        let gone = async {
            while !self.server.counters().contains("keepgate_http_connections 0") {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        soon(gone).await;
    }

    /// The request has arrived and its client has closed its side: it is worked on and answered.
    async fn answers<S: AsyncRead + AsyncWrite + Unpin>(&mut self, mut client: Client<S>) {
        assert_eq!(self.next().await, "begun");
        // Not a measurement: whatever the end of the connection would do has happened by then.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        self.may_continue.add_permits(1);
        assert_eq!(self.next().await, "finished");
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "5 bytes"));
        assert!(client.is_closed().await);
        self.no_connections().await;
    }
}

/// Sends the request and the end of the client's side together.
async fn half_closed<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Client<S> {
    let mut client = Client::over(stream);
    client.send(POST.as_bytes()).await;
    client.stream.shutdown().await.unwrap();
    client
}

#[tokio::test]
async fn a_half_closed_tcp_connection_gets_its_answer() {
    let mut work = Work::start(config()).await;
    let client = half_closed(TcpStream::connect(work.server.tcp()).await.unwrap()).await;
    work.answers(client).await;
    work.server.end().await;
}

#[tokio::test]
async fn a_half_closed_unix_socket_gets_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    let mut work = Work::start(ListenerConfig::new(address)).await;
    assert!(matches!(work.server.address, LocalAddress::Unix(_)));
    let client = half_closed(UnixStream::connect(path).await.unwrap()).await;
    work.answers(client).await;
    work.server.end().await;
}

#[tokio::test]
async fn a_half_closed_tls_connection_gets_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (mut work, trust) = Work::start_tls(folder.path()).await;
    // With close_notify, and then a FIN.
    let stream = trust.connect(work.server.tcp(), "http/1.1").await.unwrap();
    work.answers(half_closed(stream).await).await;
    // A FIN alone, which may be an attacker's: the request itself was whole.
    let stream = trust.connect(work.server.tcp(), "http/1.1").await.unwrap();
    let mut client = Client::over(stream);
    client.send(POST.as_bytes()).await;
    client.stream.get_mut().0.shutdown().await.unwrap();
    assert_eq!(work.next().await, "begun");
    work.may_continue.add_permits(1);
    assert_eq!(client.response().await.text(), "5 bytes");
    work.server.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_right_after_its_request_does_not_stop_the_work() {
    let mut work = Work::start(config()).await;
    for abruptly in [false, true] {
        let mut client = work.server.connect().await;
        client.send(POST.as_bytes()).await;
        if abruptly {
            client.stream.set_zero_linger().unwrap();
            assert_eq!(work.next().await, "begun");
        }
        drop(client);
        if !abruptly {
            assert_eq!(work.next().await, "begun");
        }
        work.may_continue.add_permits(1);
        assert_eq!(work.next().await, "finished");
        work.no_connections().await;
    }
    work.server.end().await;
}

#[tokio::test]
async fn a_slow_reader_that_has_closed_its_side_gets_the_whole_response() {
    let folder = tempfile::tempdir().unwrap();
    let (work, trust) = Work::start_tls(folder.path()).await;
    let plain = Work::start(config()).await;
    let clients: [Box<dyn Stream>; 3] = [
        Box::new(TcpStream::connect(plain.server.tcp()).await.unwrap()),
        Box::new(trust.connect(work.server.tcp(), "http/1.1").await.unwrap()),
        Box::new(trust.connect(work.server.tcp(), "http/1.1").await.unwrap()),
    ];
    for stream in clients {
        let mut client = Client::over(stream);
        client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").await;
        client.stream.shutdown().await.unwrap();
        // The server fills the socket's buffers and waits.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let head = client.head().await;
        assert_eq!(head.header("content-length"), Some("20000000"));
        let (body, end) = client.rest().await;
        assert_eq!(body.len(), 20_000_000);
        end.unwrap();
    }
    work.server.end().await;
    plain.server.end().await;
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[tokio::test]
async fn the_end_of_an_http2_connection_does_not_stop_its_work_but_a_reset_stream_does() {
    let folder = tempfile::tempdir().unwrap();
    let (mut work, trust) = Work::start_tls(folder.path()).await;
    let request = [post(1, "/work"), crate::abuse::data(1, b"hello")].concat();

    let mut raw = Raw::connect(&work.server, &trust).await;
    raw.send(&request).await;
    drop(raw);
    assert_eq!(work.next().await, "begun");
    work.no_connections().await;
    // It still counts as a request, and a shutdown waits for it.
    in_flight(&work.server, 1).await;
    work.server.shutdown.begin();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!work.server.task.is_finished());
    work.may_continue.add_permits(1);
    assert_eq!(work.next().await, "finished");
    soon(work.server.task).await.unwrap();

    let (mut work, trust) = Work::start_tls(folder.path()).await;
    let mut raw = Raw::connect(&work.server, &trust).await;
    raw.send(&request).await;
    assert_eq!(work.next().await, "begun");
    raw.send(&reset(1)).await;
    assert_eq!(work.next().await, "dropped");
    // What is left when a shutdown cuts connections is dropped too.
    let mut raw = Raw::connect(&work.server, &trust).await;
    raw.send(&request).await;
    drop(raw);
    assert_eq!(work.next().await, "begun");
    work.no_connections().await;
    work.server.shutdown.begin();
    work.server.shutdown.cut();
    assert_eq!(work.next().await, "dropped");
    soon(work.server.task).await.unwrap();
}

#[tokio::test]
async fn requests_of_clients_that_have_left_count_as_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (files, certificate) = certificate(folder.path(), "server");
    let tls = Some(Tls::load(files).unwrap());
    let timeouts = Timeouts::default();
    let config = ListenerConfig { tls, max_connections: 1, timeouts, ..config() };
    let mut work = Work::start(config).await;
    let trust = Trust(certificate);
    let mut raw = Raw::connect(&work.server, &trust).await;
    raw.send(&[post(1, "/work"), crate::abuse::data(1, b"hello")].concat()).await;
    drop(raw);
    assert_eq!(work.next().await, "begun");
    work.no_connections().await;
    let mut next = Box::pin(trust.connect(work.server.tcp(), "http/1.1"));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(200), &mut next).await;
    assert!(waits.is_err());
    work.may_continue.add_permits(1);
    assert_eq!(work.next().await, "finished");
    drop(soon(next).await.unwrap());
    work.server.end().await;
}
