//! Jobs on the admin listener.

use std::sync::Arc;

use async_trait::async_trait;
use keepgate_http::{JobsPage, JobsQuery, Refusal};
use keepgate_jobs::{Filter, Job, Jobs, JobsError, StartError, State};
use serde_json::{Value, json};

/// The default maximum of jobs in a list.
const MAX: usize = 100;

/// The jobs of this gateway.
pub(crate) struct Page(pub(crate) Arc<Jobs>);

type Answer = Result<Value, Refusal>;

#[async_trait]
impl JobsPage for Page {
    async fn summary(&self) -> Value {
        let jobs = async |state| {
            let filter = Filter { state: Some(state), ..Filter::default() };
            self.0.list(filter, usize::MAX).await.ok()
        };
        let (queued, running) = (jobs(State::Queued).await, jobs(State::Running).await);
        let delayed =
            |jobs: &Vec<Job>| jobs.iter().filter(|job| job.next_attempt.is_some()).count();
        json!({
            "queued": queued.as_ref().map(Vec::len),
            "delayed": queued.as_ref().map(delayed),
            "running": running.as_ref().map(Vec::len),
            "schedules": self.0.schedules().await,
        })
    }

    async fn list(&self, query: JobsQuery) -> Answer {
        let state = query.state.as_deref().map(state).transpose()?;
        let filter = Filter { mount: query.mount, kind: query.kind, state };
        let jobs = self.0.list(filter, query.max.unwrap_or(MAX)).await.map_err(broken)?;
        Ok(json!(jobs))
    }

    async fn show(&self, id: &str) -> Answer {
        let job = self.0.get(id).await.map_err(broken)?;
        Ok(json!(job.ok_or_else(|| unknown(id))?))
    }

    async fn cancel(&self, id: &str) -> Answer {
        match self.0.cancel(id).await.map_err(broken)? {
            None => Err(unknown(id)),
            Some(false) => {
                let job = self.0.get(id).await.map_err(broken)?;
                let state = job.map_or("over", |job| job.state.as_str());
                Err(refusal(409, format!("job {id} has already {state}")))
            }
            Some(true) => {
                tracing::info!(job = id, "job cancelled by an operator");
                self.show(id).await
            }
        }
    }

    async fn schedules(&self) -> Answer {
        Ok(json!(self.0.schedules().await))
    }

    async fn run(&self, schedule: &str) -> Answer {
        match self.0.run_now(schedule).await {
            Ok(id) => self.show(&id).await,
            Err(error @ StartError::UnknownSchedule(_)) => Err(refusal(404, error.to_string())),
            Err(StartError::Jobs(error)) => Err(broken(error)),
            Err(error) => Err(refusal(409, error.to_string())),
        }
    }
}

fn state(text: &str) -> Result<State, Refusal> {
    let all = [State::Queued, State::Running, State::Succeeded, State::Failed, State::Cancelled];
    all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names = all.map(State::as_str).join(", ");
        refusal(400, format!("unknown state {text:?}; the states are {names}"))
    })
}

fn unknown(id: &str) -> Refusal {
    refusal(404, format!("unknown job {id}; old jobs are removed after a while"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: JobsError) -> Refusal {
    tracing::error!(%error, "cannot read jobs");
    refusal(500, error.to_string())
}

fn refusal(status: u16, message: String) -> Refusal {
    Refusal { status, message }
}
