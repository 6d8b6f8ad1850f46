//! Metrics for Prometheus at a path of a site, beside mounts. Operators have them on the admin
//! listener as well; this is for those who have one port only.

use futures_util::future::BoxFuture;
use keepgate_core::{CallError, Failure, Reply, Request};
use keepgate_store::Body;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use keepgate_core::Handler;

/// A handler that shows a registry to whoever its site lets in. It takes its very path only:
/// below `/metrics` the next shorter mount answers, so that a folder may be called `metrics`.
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

    /// Shown to the user of this name only. Everybody else has a 401, nobody in particular too.
    pub fn only_for(mut self, user: impl Into<String>) -> Self {
        self.reader = Some(user.into());
        self
    }

    fn answer(&self, request: &Request) -> Result<Reply, CallError> {
        let user = request.principal.as_ref().map(|principal| principal.name.as_str());
        if self.reader.is_some() && user != self.reader.as_deref() {
            return Ok(refusal(401, "Unauthorized\n", None));
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            let allow = ("allow".to_owned(), "GET, HEAD".to_owned());
            return Ok(refusal(405, "Method Not Allowed\n", Some(allow)));
        }
        // An error here is a bug of whoever registered a metric.
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| Failure::Internal(format!("writing the metrics: {error}")))?;
        let content_type = ("content-type".to_owned(), TEXT_FORMAT.to_owned());
        Ok(Reply { status: 200, headers: vec![content_type], body: Body::from_bytes(text) })
    }
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
        Box::pin(async move { self.answer(&request) })
    }
}
