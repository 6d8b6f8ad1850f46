//! Pages for operators, on a listener of their own that the world does not reach: `/live`,
//! `/ready`, `/metrics`, `/status`.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use serde_json::Value;

use crate::connection::Exchange;
use crate::server::Application;

/// Why the gateway is not ready; empty where it is.
type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;
type Status = Arc<dyn Fn() -> Value + Send + Sync>;

/// The operators' pages.
#[derive(Clone)]
pub struct Admin {
    pages: TowerToHyperService<Router>,
}

#[derive(Clone)]
struct Sources {
    registry: Registry,
    readiness: Readiness,
    status: Status,
}

impl Admin {
    /// Pages that show these metrics, these reasons for not being ready (none: ready), and this
    /// status.
    pub fn new(
        registry: Registry,
        readiness: impl Fn() -> Vec<String> + Send + Sync + 'static,
        status: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        let sources =
            Sources { registry, readiness: Arc::new(readiness), status: Arc::new(status) };
        let pages = Router::new()
            .route("/live", get(|| async { "ok\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/status", get(status_page))
            .with_state(sources);
        Self { pages: TowerToHyperService::new(pages) }
    }
}

async fn ready(State(sources): State<Sources>) -> Response {
    let reasons = (sources.readiness)();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text = reasons.iter().map(|reason| format!("{reason}\n")).collect::<String>();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(sources): State<Sources>) -> Response {
    match TextEncoder::new().encode_to_string(&sources.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "writing the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn status_page(State(sources): State<Sources>) -> Response {
    Json((sources.status)()).into_response()
}

impl Application for Admin {
    type Body = axum::body::Body;

    async fn respond(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        _exchange: Arc<Exchange>,
    ) -> Response {
        let answer = self.pages.call(request);
        match answer.await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
