//! `jobs`: the mount's own jobs, and how far the one is that runs.

use std::sync::Arc;
use std::time::Duration;

use keepgate_jobs::{
    BACKOFF, Filter, Jobs, JobsError, NewJob, Progress, StartError, State as JobState, User,
};

use crate::call::{Failure, Principal};
use crate::contract::{Refusal, jobs, time, timestamp, types};
use crate::state::State;

/// The most jobs that one `list` hands to a guest, whatever it asks for.
const MAX_JOBS: u32 = 1000;

impl State {
    fn queue(&self) -> Result<Arc<Jobs>, Refusal> {
        let jobs = self.grants.services.jobs.clone();
        let why = || Failure::Unsupported(format!("the mount {} has no jobs", self.grants.mount));
        jobs.ok_or_else(|| why().into())
    }

    /// A job of this mount; others are as if they were not there.
    async fn own_job(&mut self, id: &str) -> Result<keepgate_jobs::Job, Refusal> {
        let job = self.queue()?.get(id).await?;
        let own = job.filter(|job| job.mount == self.grants.mount);
        own.ok_or_else(|| Failure::NotFound.into())
    }

    /// Fails for a kind of job that the plugin does not say that it runs: such a job could only fail,
    /// later, when nobody hears of it.
    fn runs(&self, kind: &str) -> Result<(), Refusal> {
        if self.grants.kinds.iter().any(|known| known == kind) {
            return Ok(());
        }
        let kinds = &self.grants.kinds;
        let why = format!("the plugin runs no job {kind:?}; its description names {kinds:?}");
        Err(Failure::Invalid(why).into())
    }

    /// Who starts a job, for operators.
    fn origin(&self) -> String {
        match (&self.job, &self.principal) {
            (Some(job), _) => format!("job {}", job.id),
            (None, Some(principal)) => format!("user {}", principal.name),
            (None, None) => "request".to_owned(),
        }
    }
}

impl jobs::Host for State {
    async fn start(
        &mut self,
        kind: String,
        input: Vec<u8>,
        options: jobs::Options,
    ) -> Result<String, Refusal> {
        self.note("jobs.start", |_| format!("{kind} {}", options.key));
        let queue = self.queue()?;
        self.runs(&kind)?;
        options.finally.as_deref().map_or(Ok(()), |kind| self.runs(kind))?;
        let new = NewJob {
            mount: self.grants.mount.clone(),
            kind,
            key: options.key,
            origin: self.origin(),
            schedule: None,
            user: self.principal.clone().map(to_user),
            input,
            attempts: options.attempts,
            backoff: options.backoff.map_or(BACKOFF, Duration::from_millis),
            not_before: options.not_before.map(time),
            finally: options.finally,
            when_busy: match options.when_busy {
                jobs::WhenBusy::Queue => keepgate_jobs::WhenBusy::Queue,
                jobs::WhenBusy::Join => keepgate_jobs::WhenBusy::Join,
                jobs::WhenBusy::JoinQueued => keepgate_jobs::WhenBusy::JoinQueued,
                jobs::WhenBusy::Refuse => keepgate_jobs::WhenBusy::Refuse,
            },
        };
        Ok(queue.start(new).await?)
    }

    async fn get(&mut self, id: String) -> Result<jobs::Job, Refusal> {
        self.note("jobs.get", |_| id.clone());
        Ok(self.own_job(&id).await?.into())
    }

    async fn wait(
        &mut self,
        id: String,
        leaves: jobs::State,
        milliseconds: u64,
    ) -> Result<jobs::Job, Refusal> {
        self.note("jobs.wait", |_| format!("{id} {milliseconds}"));
        self.own_job(&id).await?;
        let limit = Duration::from_millis(milliseconds);
        let job = self.queue()?.wait(&id, leaves.into(), limit).await?;
        Ok(job.ok_or(Failure::NotFound)?.into())
    }

    async fn list(&mut self, kind: String, max: u32) -> Result<Vec<jobs::Job>, Refusal> {
        self.note("jobs.list", |_| format!("{kind} {max}"));
        let filter = Filter {
            mount: Some(self.grants.mount.clone()),
            kind: Some(kind),
            ..Filter::default()
        };
        let max = usize::try_from(max.min(MAX_JOBS)).unwrap_or(0);
        let found = self.queue()?.list(filter, max).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn cancel(&mut self, id: String) -> Result<bool, Refusal> {
        self.note("jobs.cancel", |_| id.clone());
        self.own_job(&id).await?;
        Ok(self.queue()?.cancel(&id).await?.unwrap_or(false))
    }

    async fn withdraw(&mut self, id: String) -> Result<bool, Refusal> {
        self.note("jobs.withdraw", |_| id.clone());
        self.own_job(&id).await?;
        Ok(self.queue()?.withdraw(&id).await?.unwrap_or(false))
    }

    fn report(&mut self, progress: jobs::Progress) -> Result<(), Refusal> {
        self.note("jobs.report", |_| progress.phase.clone());
        let Some(job) = &self.job else {
            return Err(Failure::Invalid("this call runs no job".to_owned()).into());
        };
        job.reporter.report(Progress {
            done: progress.done,
            total: progress.total,
            phase: progress.phase,
        });
        Ok(())
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        let failure = match error {
            StartError::Busy { .. } | StartError::TooMany { .. } => {
                Failure::Busy(error.to_string())
            }
            StartError::Invalid(why) => Failure::Invalid(why),
            StartError::Jobs(error) => return error.into(),
            error => Failure::Internal(error.to_string()),
        };
        failure.into()
    }
}

impl From<JobsError> for Refusal {
    fn from(error: JobsError) -> Self {
        tracing::error!(%error, "the jobs' file failed");
        Failure::Internal(error.to_string()).into()
    }
}

impl From<jobs::State> for JobState {
    fn from(state: jobs::State) -> Self {
        match state {
            jobs::State::Queued => Self::Queued,
            jobs::State::Running => Self::Running,
            jobs::State::Succeeded => Self::Succeeded,
            jobs::State::Failed => Self::Failed,
            jobs::State::Cancelled => Self::Cancelled,
        }
    }
}

impl From<JobState> for jobs::State {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

/// A job keeps the user whose request started it in its own type: the queue knows no calls.
fn to_user(principal: Principal) -> User {
    let Principal { name, method, claims } = principal;
    User { name, method: method.into_owned(), claims }
}

pub(crate) fn to_principal(user: User) -> Principal {
    let User { name, method, claims } = user;
    Principal { name, method: method.into(), claims }
}

impl From<Principal> for types::Principal {
    fn from(principal: Principal) -> Self {
        let Principal { name, method, claims } = principal;
        Self { name, method: method.into_owned(), claims }
    }
}

impl From<keepgate_jobs::Job> for jobs::Job {
    fn from(job: keepgate_jobs::Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            key: job.key,
            origin: job.origin,
            principal: job.user.map(|user| to_principal(user).into()),
            input: job.input,
            state: job.state.into(),
            attempt: job.attempt,
            attempts: job.attempts,
            next: job.next_attempt.map(timestamp),
            progress: jobs::Progress {
                done: job.progress.done,
                total: job.progress.total,
                phase: job.progress.phase,
            },
            created: timestamp(job.created),
            started: job.started.map(timestamp),
            ended: job.ended.map(timestamp),
            message: job.message,
            output: job.output,
        }
    }
}
