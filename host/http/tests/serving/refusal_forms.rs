//! A mount whose plugin declares a form for failures answers everything in it that the host refuses itself. Other
//! mounts, and paths without one, stay with text.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use keepgate_auth::{Access, Certificates, Htpasswd, Method};
use keepgate_core::{CallError, Handler, RefusalForm, Reply, Request};
use keepgate_http::{RateLimitBy, SiteMount};
use serde_json::{Value, json};

use crate::rate_limits::once_a_day;
use crate::support::{Native, Response, Running, config, hasty, start_gateway, stock};

/// A handler with a form.
struct Formed(Arc<Native>, RefusalForm);

impl Handler for Formed {
    fn path(&self) -> &str {
        self.0.path()
    }

    fn plugin(&self) -> &str {
        "formed"
    }

    fn refusal_form(&self) -> Option<&RefusalForm> {
        Some(&self.1)
    }

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        match request.path.first().map(String::as_str) {
            Some("misconfigured") => {
                Box::pin(async { Err(CallError::Misconfigured("/srv/secret".to_owned())) })
            }
            _ => self.0.call(request),
        }
    }
}

/// `/formed`, `/locked`, `/certified` and `/limited` have a form, `/plain` has none; `/locked` admits nobody without a
/// password, `/certified` nobody without a certificate, and `/limited` one request.
async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".htpasswd");
    std::fs::write(&path, "").unwrap();
    let users = Htpasswd::load(path, keepgate_auth::htpasswd::Options::default()).unwrap();
    let declaration = json!({
        "content_type": "application/json",
        "body": {"message": "{reason}", "error": "{message}", "id": "{request}"},
        "reasons": {"404": "no such thing"},
    });
    let formed = |path| -> Arc<dyn Handler> {
        let form = RefusalForm::parse(declaration.to_string().as_bytes()).unwrap();
        Arc::new(Formed(Native::at(path, stock), form))
    };
    let certificates = Certificates { any_key: true, ..Certificates::default() };
    let certified = Access::Methods(vec![Method::Certificates(Arc::new(certificates))]);
    let locked = Access::Methods(vec![Method::Htpasswd(users)]);
    let mut config = config();
    config.timeouts = hasty();
    let mount = |handler: Arc<dyn Handler>, access| SiteMount::from((handler, Arc::new(access)));
    let rate_limits = Some(once_a_day(RateLimitBy::Address));
    let mounts = vec![
        mount(formed("/formed"), Access::Open),
        mount(formed("/locked"), locked),
        mount(formed("/certified"), certified),
        SiteMount { rate_limits, ..mount(formed("/limited"), Access::Open) },
        mount(Native::at("/plain", stock), Access::Open),
    ];
    start_gateway(mounts, config, |gateway| gateway).await
}

/// Message and error of a response in the form.
#[track_caller]
fn told(response: &Response) -> (u16, String, String) {
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    let body: Value = serde_json::from_str(response.text()).unwrap();
    assert!(body.get("id").and_then(|id| id.as_str()).is_some_and(|id| !id.is_empty()), "{body}");
    let text = |name: &str| body.get(name).and_then(|text| text.as_str()).unwrap().to_owned();
    (response.status, text("message"), text("error"))
}

fn as_told(status: u16, message: &str, error: &str) -> (u16, String, String) {
    (status, message.to_owned(), error.to_owned())
}

#[tokio::test]
async fn what_the_host_refuses_has_the_form_of_the_mount() {
    let server = start().await;
    let anonymous = server.get("/locked/show").await;
    let expected = as_told(401, "Unauthorized", "credentials are missing or wrong");
    assert_eq!(told(&anonymous), expected);
    assert!(anonymous.header("www-authenticate").is_some());
    let certified = server.get("/certified/show").await;
    assert_eq!(told(&certified), as_told(403, "Forbidden", "not authorized"));
    assert!(certified.header("www-authenticate").is_none());
    let mut client = server.connect().await;
    client.send(b"HEAD /locked HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    let found = client.head().await;
    assert_eq!(found.status, 401);
    assert_eq!(found.header("content-type"), Some("application/json"));
    assert_eq!(client.rest().await.0, b"");

    let missing = server.get("/formed/none").await;
    assert_eq!(told(&missing), as_told(404, "no such thing", "not found"));
    let broken = server.get("/formed/broken").await;
    let expected = "internal error; the gateway's log says why";
    assert_eq!(told(&broken), as_told(500, "Internal Server Error", expected));
    let denied = server.get("/formed/refuse").await;
    assert_eq!(told(&denied), as_told(403, "Forbidden", "append-only"));
    // A client that stops sending.
    let stalled = "PUT /formed/sink HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf";
    let expected = "the client sent nothing for too long";
    assert_eq!(told(&server.ask(stalled).await), as_told(408, "Request Timeout", expected));
    // No mount is asked, but it is clear which one is meant.
    let (status, message, error) = told(&server.get("/formed/%zz").await);
    assert_eq!((status, &*message), (400, "Bad Request"));
    assert!(error.contains("percent sign"), "{error}");

    let misconfigured = server.get("/formed/misconfigured").await;
    let (status, _, error) = told(&misconfigured);
    assert!(status == 503 && error.starts_with("misconfigured: "), "{misconfigured:?}");
    assert_eq!(misconfigured.header("retry-after"), None);

    assert_eq!(server.get("/limited/show").await.status, 200);
    let limited = server.get("/limited/show").await;
    let (status, message, error) = told(&limited);
    assert_eq!((status, &*message), (429, "Too Many Requests"));
    assert!(error.starts_with("rate limit exceeded: "), "{error}");
    assert!(limited.header("retry-after").is_some());
    server.end().await;
}

#[tokio::test]
async fn without_a_form_refusals_are_text() {
    let server = start().await;
    for (path, status, text) in [
        ("/plain/none", 404, "Not Found\n"),
        ("/plain/refuse", 403, "Forbidden: append-only\n"),
        ("/nowhere", 404, "Not Found\n"),
    ] {
        let response = server.get(path).await;
        assert_eq!((response.status, response.text()), (status, text), "{path}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
    }
    for path in ["/plain/%zz", "/nowhere/%zz", "/formed%2f/%zz"] {
        let response = server.get(path).await;
        assert_eq!(response.status, 400, "{path}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
    }
    server.end().await;
}
