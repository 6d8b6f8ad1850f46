//! Metrics beside mounts, like rest-server's `--prometheus`.

use std::sync::Arc;

use keepgate_auth::{Access, Method};
use keepgate_http::{Handler, MetricsPage};
use prometheus::{IntCounter, Registry};

use crate::support::{Native, Running, config, start_mounts, stock, text};

fn registry() -> Registry {
    let registry = Registry::new();
    let counter = IntCounter::new("blobs_total", "Blobs.").unwrap();
    counter.inc_by(7);
    registry.register(Box::new(counter)).unwrap();
    registry
}

fn by_header() -> Access {
    Access::Methods(vec![Method::ProxyHeader("X-User".parse().unwrap())])
}

async fn start(page: MetricsPage, access: Access) -> Running {
    let below = Native::at("/", |request| async move {
        match request.path.first().map(String::as_str) {
            Some("metrics") => text(format!("{:?} {}", request.path, request.trailing_slash)),
            _ => stock(request).await,
        }
    });
    let mounts: Vec<(Arc<dyn Handler>, _)> =
        vec![(Arc::new(page), Arc::new(access)), (below, Arc::new(Access::Open))];
    start_mounts(mounts, config()).await
}

#[tokio::test]
async fn the_page_is_at_its_very_path() {
    let server = start(MetricsPage::new("/metrics", registry()), Access::Open).await;
    for path in ["/metrics", "/metrics?name[]=x", "/%6detrics"] {
        let page = server.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4"));
        assert!(page.text().contains("\nblobs_total 7\n"), "{}", page.text());
    }
    let mut client = server.connect().await;
    client.send(b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
    let head = client.head().await;
    let length = server.get("/metrics").await.body.len().to_string();
    assert_eq!((head.status, head.header("content-length")), (200, Some(length.as_str())));
    // Paths below belong to the mount at `/`.
    assert_eq!(server.get("/metrics/").await.text(), r#"["metrics"] true"#);
    assert_eq!(server.get("/metrics/config").await.text(), r#"["metrics", "config"] false"#);
    assert_eq!(server.get("/metricsx").await.status, 404);
    for method in ["POST", "DELETE", "PUT", "OPTIONS"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        let refused = server.ask(&request).await;
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    }
    server.end().await;
}

#[tokio::test]
async fn the_page_is_behind_its_access() {
    let ask = async |server: &Running, user: Option<&str>| {
        let user = user.map(|user| format!("X-User: {user}\r\n")).unwrap_or_default();
        let response = server.ask(&format!("GET /metrics HTTP/1.1\r\n{user}\r\n")).await;
        assert!(response.status == 200 || !response.text().contains("blobs_total"));
        response.status
    };
    let everybody = start(MetricsPage::new("/metrics", registry()), by_header()).await;
    assert_eq!(ask(&everybody, None).await, 401);
    assert_eq!(ask(&everybody, Some("alice")).await, 200);
    everybody.end().await;

    let page = || MetricsPage::new("/metrics", registry()).only_for("metrics");
    let one = start(page(), by_header()).await;
    assert_eq!(ask(&one, None).await, 401);
    assert_eq!(ask(&one, Some("alice")).await, 401);
    assert_eq!(ask(&one, Some("Metrics")).await, 401);
    assert_eq!(ask(&one, Some("metrics")).await, 200);
    one.end().await;

    // On an open mount there is no user, so a page for one user is closed.
    let nobody = start(page(), Access::Open).await;
    assert_eq!(ask(&nobody, Some("metrics")).await, 401);
    nobody.end().await;
}

#[tokio::test]
async fn numbers_of_the_process_can_be_among_them() {
    let registry = registry();
    let collector = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(collector)).unwrap();
    let server = start(MetricsPage::new("/metrics", registry), Access::Open).await;
    let page = server.get("/metrics").await;
    for name in ["process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"] {
        assert!(page.text().contains(&format!("\n{name} ")), "{}", page.text());
    }
    server.end().await;
}
