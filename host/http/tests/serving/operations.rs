//! What operators see: shutdowns, the admin pages, logs.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keepgate_auth::{Access, Htpasswd, Method};
use keepgate_http::{
    AccessLog, AccessLogEntry, Admin, Gateway, ListenerConfig, Metrics, Server, Shutdown, Site,
    Timeouts,
};
use prometheus::Registry;
use tokio::sync::mpsc;

use crate::support::{
    Client, Native, Running, config, reply, soon, source, start, start_with, stock,
};

#[tokio::test]
async fn a_shutdown_lets_transfers_finish_and_closes_the_rest() {
    let server = start().await;
    let mut idle = server.connect().await;
    idle.send(b"GET /source/3 HTTP/1.1\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    let mut fresh = server.connect().await;
    let mut download = server.connect().await;
    download.send(b"GET /source/50000000 HTTP/1.1\r\n\r\n").await;
    let head = download.head().await;
    let mut upload = server.connect().await;
    upload.send(b"POST /sink HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello").await;
    while !server.counters().contains("keepgate_http_received_bytes_total{mount=\"/\"} 5") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let address = server.tcp();
    server.shutdown.begin();
    assert!(idle.is_closed().await && fresh.is_closed().await);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!server.task.is_finished());
    assert_eq!(head.header("content-length"), Some("50000000"));
    assert_eq!(download.rest().await.0.len(), 50_000_000);
    upload.send(b"hello").await;
    let response = upload.response().await;
    assert_eq!(response.text(), "10 of Some(10)");
    assert_eq!(response.header("connection"), Some("close"));
    soon(server.task).await.unwrap();
}

async fn hanging(timeouts: Timeouts) -> (Running, Client<tokio::net::TcpStream>) {
    let server = start_with(Access::Open, ListenerConfig { timeouts, ..config() }).await;
    let mut client = server.connect().await;
    client.send(b"POST /sink HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello").await;
    while !server.counters().contains("requests_in_flight{mount=\"/\"} 1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (server, client)
}

#[tokio::test]
async fn a_second_signal_or_the_end_of_the_grace_period_cuts_connections() {
    let (server, mut client) = hanging(Timeouts::default()).await;
    server.shutdown.begin();
    assert!(!server.task.is_finished());
    server.shutdown.cut();
    soon(server.task).await.unwrap();
    assert!(client.is_closed().await);

    let grace = Some(Duration::from_millis(100));
    let (server, mut client) = hanging(Timeouts { grace, ..Timeouts::default() }).await;
    server.shutdown.begin();
    soon(server.task).await.unwrap();
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn admin_pages_show_health_metrics_and_status() {
    let registry = Registry::new();
    let _metrics = Metrics::new(&registry).unwrap();
    let reasons = Arc::new(Mutex::new(vec!["the plugin of /restic is missing".to_owned()]));
    let readiness = {
        let reasons = reasons.clone();
        move || reasons.lock().unwrap().clone()
    };
    let admin = Admin::new(registry, readiness, || serde_json::json!({ "mounts": [] }));
    let server = Server::bind(config()).await.unwrap();
    let address = server.to_string();
    let shutdown = Shutdown::new();
    let ask = async |path: &str| {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut client = Client::over(stream);
        client.send(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await;
        client.response().await
    };
    let serve = server.serve(Arc::new(admin), &shutdown);
    let check = async {
        assert_eq!(ask("/live").await.text(), "ok\n");
        let unready = ask("/ready").await;
        assert_eq!(unready.status, 503);
        assert_eq!(unready.text(), "the plugin of /restic is missing\n");
        reasons.lock().unwrap().clear();
        assert_eq!(ask("/ready").await.status, 200);
        let metrics = ask("/metrics").await;
        assert!(metrics.text().contains("keepgate_http_connections 0"));
        assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
        let status = ask("/status").await;
        assert_eq!(status.text(), r#"{"mounts":[]}"#);
        assert_eq!(status.header("content-type"), Some("application/json"));
        assert_eq!(ask("/").await.status, 404);
        shutdown.begin();
    };
    soon(async { tokio::join!(serve, check) }).await;
}

/// Text logged on this test's thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_log_names_users_and_never_passwords() {
    let lines = Lines::default();
    let subscriber = {
        let lines = lines.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish()
    };
    let _guard = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    std::fs::write(&path, "a:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\nmallory:$apr1$hush$hush\n")
        .unwrap();
    let users = Htpasswd::load(&path, Default::default()).unwrap();
    let server = start_with(Access::Methods(vec![Method::Htpasswd(users)]), config()).await;
    // "mal\nlory:hunter2"
    let request = "GET /show HTTP/1.1\r\nAuthorization: Basic bWFsCmxvcnk6aHVudGVyMg==\r\n\r\n";
    assert_eq!(server.ask(request).await.status, 401);
    // "a:myPassword"
    let request = "GET /broken HTTP/1.1\r\nAuthorization: Basic YTpteVBhc3N3b3Jk\r\n\r\n";
    assert_eq!(server.ask(request).await.status, 500);
    server.end().await;

    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let expected = r#"login failed peer=127.0.0.1 user="mal\nlory" mount=/"#;
    assert!(log.contains(expected), "{log}");
    assert!(log.contains("WARN") && log.contains("line=2") && log.contains("$apr1$"), "{log}");
    assert!(log.contains("/srv/secret is broken") && log.contains("plugin=native"), "{log}");
    for secret in ["hunter2", "myPassword", "hush", "aHVudGVyMg"] {
        assert!(!log.contains(secret), "{log}");
    }
}

struct Sent(mpsc::UnboundedSender<AccessLogEntry>);

impl AccessLog for Sent {
    fn ended(&self, entry: &AccessLogEntry) {
        self.0.send(entry.clone()).unwrap();
    }
}

#[tokio::test]
async fn requests_are_logged_when_they_end() {
    let (sender, mut entries) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let handler = Native::at("/", |request| async move {
        match request.path.first().map(String::as_str) {
            Some("hang") => std::future::pending().await,
            Some("large") => reply(200, &[], source(100_000_000, Some(100_000_000))),
            _ => stock(request).await,
        }
    });
    let mounts: Vec<(Arc<dyn keepgate_http::Handler>, _)> = vec![(handler, Arc::new(Access::Open))];
    let site = Arc::new(arc_swap::ArcSwap::from_pointee(Site::new(mounts, &metrics).unwrap()));
    let gateway = Gateway::new(site, metrics, Timeouts::default());
    let gateway = gateway.with_access_log(Arc::new(Sent(sender)));
    let server = Server::bind(config()).await.unwrap();
    let address = server.to_string();
    let shutdown = Shutdown::new();
    let connect = async || Client::over(tokio::net::TcpStream::connect(&address).await.unwrap());
    let serve = server.serve(Arc::new(gateway), &shutdown);
    let check = async {
        let mut client = connect().await;
        let request = "GET /source/70000?q=1 HTTP/1.1\r\nUser-Agent: restic/0.18\r\n\r\n";
        client.send(request.as_bytes()).await;
        assert_eq!(client.response().await.body.len(), 70_000);
        let entry = entries.recv().await.unwrap();
        assert_eq!((entry.status.unwrap().as_u16(), entry.sent), (200, 70_000));
        assert_eq!(entry.target, "/source/70000?q=1");
        assert_eq!(entry.user_agent.unwrap(), "restic/0.18");
        assert_eq!(entry.peer.to_string(), "127.0.0.1");

        let mut client = connect().await;
        client.send(b"GET /large HTTP/1.1\r\n\r\n").await;
        client.head().await;
        drop(client);
        let entry = entries.recv().await.unwrap();
        assert!(entry.status.is_some() && entry.sent < 100_000_000);

        let mut client = connect().await;
        client.send(b"GET /hang HTTP/1.1\r\n\r\n").await;
        let gone = tokio::time::timeout(Duration::from_millis(100), client.head()).await;
        assert!(gone.is_err());
        drop(client);
        shutdown.begin();
        shutdown.cut();
        assert_eq!(entries.recv().await.unwrap().status, None);
    };
    soon(async { tokio::join!(serve, check) }).await;
}
