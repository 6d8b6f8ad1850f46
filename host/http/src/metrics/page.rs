//! Metrics for Prometheus at a path beside the mounts, for operators who have only one port. The admin
//! listener has them as well.

use std::fmt;

use futures_util::future::BoxFuture;
use keepgate_core::{CallError, Failure, Handler, Reply, Request};
use keepgate_store::Body;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

/// A handler that serves a registry to authenticated clients. It takes only its exact path: requests
/// below `/metrics` go to the next shorter mount, so that a folder may be called `metrics`.
#[derive(Debug)]
pub struct MetricsPage {
    path: String,
    registry: Registry,
    reader: Option<String>,
}

impl MetricsPage {
    /// The metrics of this registry, at a path such as `/metrics`.
    pub fn new(path: impl Into<String>, registry: Registry) -> Self {
        Self { path: path.into(), registry, reader: None }
    }

    /// Restricts it to this user. Everyone else gets a 401, including anonymous clients.
    pub fn only_for(mut self, user: impl Into<String>) -> Self {
        self.reader = Some(user.into());
        self
    }

    async fn answer(&self, request: Request) -> Result<Reply, CallError> {
        let user = request.principal.as_ref().map(|principal| principal.name.as_str());
        if self.reader.is_some() && user != self.reader.as_deref() {
            return Ok(refusal(401, "Unauthorized\n", None));
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            let allow = ("allow".to_owned(), "GET, HEAD".to_owned());
            return Ok(refusal(405, "Method Not Allowed\n", Some(allow)));
        }
        let text = encode(self.registry.clone()).await.map_err(Failure::Internal)?;
        let content_type = ("content-type".to_owned(), TEXT_FORMAT.to_owned());
        Ok(Reply { status: 200, headers: vec![content_type], body: Body::from_bytes(text) })
    }
}

/// The metrics as Prometheus reads them; otherwise what went wrong, for the log. They are collected on a
/// thread that may block, because disks are looked at.
pub(crate) async fn encode(registry: Registry) -> Result<String, String> {
    let encode = move || TextEncoder::new().encode_to_string(&registry.gather());
    // Both fail only if an invalid metric was registered, which is a bug.
    let failed = |error: &dyn fmt::Display| format!("cannot encode the metrics: {error}");
    let text = tokio::task::spawn_blocking(encode).await.map_err(|error| failed(&error))?;
    text.map_err(|error| failed(&error))
}

fn refusal(status: u16, text: &'static str, header: Option<(String, String)>) -> Reply {
    let plain = ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned());
    let nosniff = ("x-content-type-options".to_owned(), "nosniff".to_owned());
    let headers = [plain, nosniff].into_iter().chain(header).collect();
    Reply { status, headers, body: Body::from_bytes(text) }
}

impl Handler for MetricsPage {
    fn path(&self) -> &str {
        &self.path
    }

    fn plugin(&self) -> &str {
        "metrics"
    }

    fn takes(&self, below: &[String], trailing_slash: bool) -> bool {
        below.is_empty() && trailing_slash == (self.path == "/")
    }

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move { self.answer(request).await })
    }
}
