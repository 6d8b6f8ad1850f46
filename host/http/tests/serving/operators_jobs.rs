//! Jobs on the operators' listener, through the client that the command line uses.

use std::sync::Arc;

use async_trait::async_trait;
use keepgate_http::{
    Admin, JobsPage, JobsQuery, ListenerConfig, OperatorClient, OperatorError, Refusal, Server,
    Shutdown,
};
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, config};

/// Answers with the request.
struct Echo;

type Answer = Result<Value, Refusal>;

#[async_trait]
impl JobsPage for Echo {
    async fn summary(&self) -> Value {
        json!({ "queued": 1 })
    }

    async fn list(&self, query: JobsQuery) -> Answer {
        Ok(json!([query.mount, query.kind, query.state, query.max]))
    }

    async fn show(&self, id: &str) -> Answer {
        match id {
            "gone" => Err(Refusal { status: 404, message: "no job gone".to_owned() }),
            id => Ok(json!({ "show": id })),
        }
    }

    async fn cancel(&self, id: &str) -> Answer {
        Ok(json!({ "cancel": id }))
    }

    async fn schedules(&self) -> Answer {
        Ok(json!(["hourly"]))
    }

    async fn run(&self, schedule: &str) -> Answer {
        Ok(json!({ "run": schedule }))
    }
}

async fn start(config: ListenerConfig) -> (String, Shutdown) {
    let server = Server::bind(config).await.unwrap();
    let address = server.to_string();
    let admin = Admin::new(Registry::new(), Vec::new, || json!({ "mounts": [] }));
    let admin = Arc::new(admin.with_jobs(Arc::new(Echo)));
    let shutdown = Shutdown::new();
    let served = shutdown.clone();
    tokio::spawn(async move { server.serve(admin, &served).await });
    (address, shutdown)
}

#[tokio::test]
async fn operators_are_served_over_tcp_and_unix_sockets() {
    let dir = TempDir::new().unwrap();
    let socket = format!("unix:{}", dir.path().join("admin.sock").display());
    let unix = ListenerConfig::new(socket.parse().unwrap());
    let (tcp, _tcp) = start(config()).await;
    let (_, _unix) = start(unix).await;
    for address in [tcp, socket] {
        let client = OperatorClient::new(address.parse().unwrap());
        let listed = client.get("/jobs?mount=%2Fa&state=failed&max=3").await.unwrap();
        assert_eq!(listed, json!(["/a", null, "failed", 3]));
        assert_eq!(client.get("/jobs/a%2Fb").await.unwrap(), json!({ "show": "a/b" }));
        assert_eq!(client.get("/schedules").await.unwrap(), json!(["hourly"]));
        let ran = client.post("/schedules/every%20day/run").await.unwrap();
        assert_eq!(ran, json!({ "run": "every day" }));
        assert_eq!(client.post("/jobs/7/cancel").await.unwrap(), json!({ "cancel": "7" }));
        let status = client.get("/status").await.unwrap();
        assert_eq!(status, json!({ "mounts": [], "jobs": { "queued": 1 } }));

        let refused = client.get("/jobs/gone").await.unwrap_err();
        assert_eq!(refused.to_string(), "no job gone");
        // A GET changes nothing.
        let refused = client.get("/jobs/7/cancel").await.unwrap_err();
        assert!(matches!(refused, OperatorError::Refused { status: 405, .. }), "{refused}");
        let refused = client.get("/jobs?colour=green").await.unwrap_err();
        assert!(matches!(refused, OperatorError::Refused { status: 400, .. }), "{refused}");
    }
}

#[tokio::test]
async fn requests_from_web_pages_are_refused() {
    let (address, _shutdown) = start(config()).await;
    for (target, origin, expected) in [
        ("/jobs/7/cancel", "Origin: https://example.org\r\n", 403),
        ("/schedules/hourly/run", "Origin: null\r\n", 403),
        ("/schedules/hourly/run", "", 200),
    ] {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut client = Client::over(stream);
        let head = format!("POST {target} HTTP/1.1\r\n{origin}Content-Length: 0\r\n\r\n");
        client.send(head.as_bytes()).await;
        assert_eq!(client.response().await.status, expected, "{target} {origin}");
    }
}

#[tokio::test]
async fn a_missing_gateway_differs_from_a_broken_one() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("admin.sock");
    let client = OperatorClient::new(format!("unix:{}", socket.display()).parse().unwrap());
    let said = client.get("/jobs").await.unwrap_err();
    assert!(matches!(said, OperatorError::NotRunning { .. }), "{said}");
    assert!(said.to_string().contains("admin.sock"), "{said}");

    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let said = client.get("/jobs").await.unwrap_err();
    assert!(matches!(said, OperatorError::Broken { .. }), "{said}");
}
