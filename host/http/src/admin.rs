//! Pages for operators, on a separate local listener: `/live`, `/ready`, `/metrics`, `/status`, and in
//! `jobs` the pages `/jobs` and `/schedules`.

mod client;
mod jobs;

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
use prometheus::{Registry, TEXT_FORMAT};
use serde_json::Value;

use crate::connection::Exchange;
use crate::metrics;
use crate::server::Application;

pub use client::{OperatorClient, OperatorError};
pub use jobs::{JobsPage, JobsQuery, Refusal};

/// Why the gateway is not ready; empty if it is.
type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;
type Status = Arc<dyn Fn() -> Value + Send + Sync>;

/// The operators' pages.
#[derive(Clone)]
pub struct Admin {
    pages: TowerToHyperService<Router>,
    sources: Sources,
}

#[derive(Clone)]
struct Sources {
    registry: Registry,
    readiness: Readiness,
    status: Status,
    jobs: Option<Arc<dyn JobsPage>>,
}

impl Admin {
    /// Pages that show these metrics, the reasons why the gateway is not ready (none means ready), and
    /// this status.
    pub fn new(
        registry: Registry,
        readiness: impl Fn() -> Vec<String> + Send + Sync + 'static,
        status: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        Self::of(Sources {
            registry,
            readiness: Arc::new(readiness),
            status: Arc::new(status),
            jobs: None,
        })
    }

    /// Adds pages of jobs, and a summary of jobs in the status.
    pub fn with_jobs(self, jobs: Arc<dyn JobsPage>) -> Self {
        Self::of(Sources { jobs: Some(jobs), ..self.sources })
    }

    fn of(sources: Sources) -> Self {
        let mut pages = Router::new()
            .route("/live", get(|| async { "ok\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics_page))
            .route("/status", get(status_page))
            .with_state(sources.clone());
        if let Some(jobs) = &sources.jobs {
            pages = pages.merge(jobs::pages(jobs.clone()));
        }
        Self { pages: TowerToHyperService::new(pages), sources }
    }
}

async fn ready(State(sources): State<Sources>) -> Response {
    let Some(reasons) = gather(move || (sources.readiness)()).await else { return failed() };
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text = reasons.iter().map(|reason| format!("{reason}\n")).collect::<String>();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics_page(State(sources): State<Sources>) -> Response {
    match metrics::encode(sources.registry).await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error, "metrics page failed");
            failed()
        }
    }
}

async fn status_page(State(sources): State<Sources>) -> Response {
    let read = sources.status.clone();
    let Some(mut status) = gather(move || read()).await else { return failed() };
    if let (Value::Object(status), Some(jobs)) = (&mut status, &sources.jobs) {
        status.insert("jobs".to_owned(), jobs.summary().await);
    }
    Json(status).into_response()
}

/// Collects what a page shows on a thread that may block, because disks are looked at. `None` if the
/// collecting panicked.
async fn gather<T: Send + 'static>(collect: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(collect).await.ok()
}

fn failed() -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
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
