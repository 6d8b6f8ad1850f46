//! Jobs and schedules on the operators' listener: what there is, and the few things that an operator
//! does with it. What a job is, is the business of whoever implements [`JobsPage`].
//!
//! The listener asks nobody who they are: it takes only connections of this machine. A web page that
//! is open in a browser there is not an operator, so that whatever changes something refuses requests
//! that say they come from a page.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

/// Which jobs are asked for; all where nothing is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// Of this mount.
    pub mount: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this state, in lower case.
    pub state: Option<String>,
    /// At most so many, the newest; 100 where nothing is said.
    pub max: Option<usize>,
}

/// Why an operator does not get what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, from 400 on.
    pub status: u16,
    /// In words.
    pub message: String,
}

type Answer = Result<Value, Refusal>;

/// What operators may ask of jobs; answers are JSON.
#[async_trait]
pub trait JobsPage: Send + Sync + 'static {
    /// In numbers, with the schedules, for the status.
    async fn summary(&self) -> Value;
    /// An array of jobs, newest first.
    async fn list(&self, query: JobsQuery) -> Answer;
    /// One job.
    async fn show(&self, id: &str) -> Answer;
    /// Ends a job; the job as it is then.
    async fn cancel(&self, id: &str) -> Answer;
    /// An array of schedules.
    async fn schedules(&self) -> Answer;
    /// Starts the job of a schedule now; the job.
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
    match by_operator(&headers) {
        Ok(()) => answer(jobs.cancel(&id).await),
        refused => answer(refused.map(|()| Value::Null)),
    }
}

async fn run(State(jobs): State<Jobs>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    match by_operator(&headers) {
        Ok(()) => answer(jobs.run(&name).await),
        refused => answer(refused.map(|()| Value::Null)),
    }
}

/// Browsers send `Origin` with whatever a page posts.
fn by_operator(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        let message = "this is for operators, not for web pages".to_owned();
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
