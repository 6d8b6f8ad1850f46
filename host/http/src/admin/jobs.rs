//! Jobs and schedules on the operators' listener: list, show, cancel and run them. This module knows
//! nothing about jobs themselves; [`JobsPage`] does.
//!
//! The listener does not authenticate: it accepts only local connections. A web page in a local browser
//! could still send requests, so every page that changes something refuses requests with an `Origin`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

/// Which jobs to list; an empty query lists all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// Only those of this mount.
    pub mount: Option<String>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those in this state, in lower case.
    pub state: Option<String>,
    /// At most this many, newest first; 100 by default.
    pub max: Option<usize>,
}

/// Why an operator's request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 400 or above.
    pub status: u16,
    /// What was refused, and why.
    pub message: String,
}

type Answer = Result<Value, Refusal>;

/// What operators can do with jobs; answers are JSON.
#[async_trait]
pub trait JobsPage: Send + Sync + 'static {
    /// Counts and schedules, for the status.
    async fn summary(&self) -> Value;
    /// An array of jobs, newest first.
    async fn list(&self, query: JobsQuery) -> Answer;
    /// One job.
    async fn show(&self, id: &str) -> Answer;
    /// Cancels a job and returns it.
    async fn cancel(&self, id: &str) -> Answer;
    /// An array of schedules.
    async fn schedules(&self) -> Answer;
    /// Starts the job of a schedule now and returns it.
    async fn run(&self, schedule: &str) -> Answer;
}

type Jobs = Arc<dyn JobsPage>;

pub(super) fn pages(jobs: Jobs) -> Router {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{id}", get(show))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/schedules", get(schedules))
        .route("/schedules/{name}/run", post(run))
        .with_state(jobs)
}

async fn list(State(jobs): State<Jobs>, Query(query): Query<JobsQuery>) -> Response {
    answer(jobs.list(query).await)
}

async fn show(State(jobs): State<Jobs>, Path(id): Path<String>) -> Response {
    answer(jobs.show(&id).await)
}

async fn schedules(State(jobs): State<Jobs>) -> Response {
    answer(jobs.schedules().await)
}

async fn cancel(State(jobs): State<Jobs>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match refuse_web_pages(&headers) {
        Ok(()) => answer(jobs.cancel(&id).await),
        refused => answer(refused.map(|()| Value::Null)),
    }
}

async fn run(State(jobs): State<Jobs>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    match refuse_web_pages(&headers) {
        Ok(()) => answer(jobs.run(&name).await),
        refused => answer(refused.map(|()| Value::Null)),
    }
}

/// Browsers send `Origin` with every POST of a page.
fn refuse_web_pages(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        let message = "requests from web pages are not allowed".to_owned();
        return Err(Refusal { status: 403, message });
    }
    Ok(())
}

fn answer(answer: Answer) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(Refusal { status, message }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(json!({ "message": message }))).into_response()
        }
    }
}
