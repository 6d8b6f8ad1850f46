//! `jobs`: the mount's own jobs, and the progress of the one that runs. The queue is in `keepgate_jobs`;
//! `job_runner` brings jobs from the queue to the plugins that run them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use keepgate_jobs::{
    BACKOFF, Filter, Jobs, JobsError, NewJob, Progress, Reporter, StartError, State as JobState,
    User,
};

use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::{Capability, Request};
use super::grants::Grant;
use super::types::{BodyHandle, types};
use crate::contract::{ImportError, time, timestamp};
use crate::guest_state::GuestState;
use crate::host_allocation::OverAllocated;
use keepgate_core::{Failure, Principal};
use keepgate_store::{Body, BodyError};

pub(crate) use bindings::keepgate::plugin::jobs;
pub(crate) use bindings::{Worker, WorkerPre};

crate::contract::bindings! {
    // With what plugins that run jobs export.
    world: "worker",
    imports: {
        "keepgate:plugin/jobs.report": trappable,
        "keepgate:plugin/jobs.start-on-mismatch": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: { "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types },
}

/// The queue that keeps a mount's jobs.
#[derive(Clone, Debug)]
pub struct JobQueue(pub Arc<Jobs>);

impl Grant for JobQueue {}

/// The field of a plugin's description, with the kinds of job that it runs.
pub const REQUESTS: &str = "jobs";

/// The job that a call runs.
#[derive(Debug)]
pub(crate) struct RunningJob {
    pub(crate) id: String,
    pub(crate) reporter: Reporter,
}

impl RunningJob {
    /// The same body, reporting what has been read of it as the job's progress: the plugin waits during this and cannot
    /// report anything itself.
    pub(crate) fn follow(&self, body: Body) -> Body {
        let (length, mut done, reporter) = (body.length(), 0, self.reporter.clone());
        let chunks = body.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                done += chunk.len() as u64;
                let phase = reporter.latest().phase;
                reporter.report(Progress { done, total: length, phase });
            }
        });
        Body::from_stream(length, chunks)
    }
}

/// See the module.
pub(crate) struct JobsCapability;

impl Capability for JobsCapability {
    fn interface(&self) -> &'static str {
        "jobs"
    }

    fn purpose(&self) -> &'static str {
        "jobs"
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("jobs.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        jobs::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    // Nothing to check: a plugin that runs jobs serves its requests also if the gateway has no queue.
    fn request(&self) -> Option<Request> {
        Some(Request { field: REQUESTS, label: "runs jobs", names: |said| &said.jobs })
    }

    fn lacks_grant(&self, _function: &str, failure: &str) -> bool {
        failure == "unsupported"
    }
}

/// The most jobs that one `list` returns, whatever the guest asks for.
const MAX_JOBS: u32 = 1000;

impl GuestState {
    fn queue(&self) -> Result<Arc<Jobs>, ImportError> {
        let jobs = self.mount.grants.get::<JobQueue>().map(|queue| queue.0.clone());
        let why = || Failure::Unsupported(format!("the mount {} has no jobs", self.mount.path));
        jobs.ok_or_else(|| why().into())
    }

    /// A job of this mount. Jobs of other mounts are not found.
    async fn own_job(&mut self, id: &str) -> Result<keepgate_jobs::Job, ImportError> {
        let job = self.queue()?.get(id).await?;
        let own = job.filter(|job| job.mount == self.mount.path);
        own.ok_or_else(|| Failure::NotFound.into())
    }

    /// Fails for a kind of job that the plugin's description does not list: the job could only fail later,
    /// when nobody is there to notice.
    fn runs(&self, kind: &str) -> Result<(), ImportError> {
        if self.mount.requests.names(REQUESTS).iter().any(|known| known == kind) {
            return Ok(());
        }
        let kinds = self.mount.requests.names(REQUESTS);
        let why = format!("the plugin runs no job {kind:?}; its description lists {kinds:?}");
        Err(Failure::Invalid(why).into())
    }

    /// A job of this mount. Fails for kinds that the plugin does not run.
    fn new_job(
        &self,
        kind: String,
        input: Vec<u8>,
        options: jobs::Options,
    ) -> Result<NewJob, ImportError> {
        self.runs(&kind)?;
        options.finally.as_deref().map_or(Ok(()), |kind| self.runs(kind))?;
        Ok(NewJob {
            mount: self.mount.path.clone(),
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
        })
    }

    /// Who starts a job, as operators see it.
    fn origin(&self) -> String {
        match (self.call.get::<RunningJob>(), &self.principal) {
            (Some(job), _) => format!("job {}", job.id),
            (None, Some(principal)) => format!("user {}", principal.name),
            (None, None) => "request".to_owned(),
        }
    }
}

impl jobs::Host for GuestState {
    async fn start(
        &mut self,
        kind: String,
        input: Vec<u8>,
        options: jobs::Options,
    ) -> Result<String, ImportError> {
        self.note("jobs.start", |_| format!("{kind} {}", options.key));
        let queue = self.queue()?;
        let new = self.new_job(kind, input, options)?;
        Ok(queue.start(new).await?)
    }

    fn start_on_mismatch(
        &mut self,
        data: Resource<BodyHandle>,
        kind: String,
        input: Vec<u8>,
        options: jobs::Options,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("jobs.start-on-mismatch", |_| format!("{kind} {}", options.key));
        let (body, layers) = self.take(data).map_err(ImportError::Trap)?;
        let new = self.new_job(kind, input, options)?;
        new.check()?;
        let queue = self.queue().ok();
        self.give(starting_on_mismatch(body, queue, new), layers).map_err(ImportError::Trap)
    }

    async fn get(&mut self, id: String) -> Result<jobs::Job, ImportError> {
        self.note("jobs.get", |_| id.clone());
        Ok(self.own_job(&id).await?.into())
    }

    async fn wait(
        &mut self,
        id: String,
        leaves: jobs::State,
        milliseconds: u64,
    ) -> Result<jobs::Job, ImportError> {
        self.note("jobs.wait", |_| format!("{id} {milliseconds}"));
        self.own_job(&id).await?;
        let limit = Duration::from_millis(milliseconds);
        let job = self.queue()?.wait(&id, leaves.into(), limit).await?;
        Ok(job.ok_or(Failure::NotFound)?.into())
    }

    async fn list(&mut self, kind: String, max: u32) -> Result<Vec<jobs::Job>, ImportError> {
        self.note("jobs.list", |_| format!("{kind} {max}"));
        let filter =
            Filter { mount: Some(self.mount.path.clone()), kind: Some(kind), ..Filter::default() };
        let max = usize::try_from(max.min(MAX_JOBS)).unwrap_or(0);
        // What the host holds of the list is charged to the call before it is read, until the guest has it.
        let (_counted, mut admits) = self.allocation.counting();
        let admits = move |job: &keepgate_jobs::Job| admits(size_of_job(job));
        let found = self.queue()?.list_while(filter, max, admits).await?;
        if self.allocation.is_over() {
            return Err(ImportError::Trap(OverAllocated.into()));
        }
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn cancel(&mut self, id: String) -> Result<bool, ImportError> {
        self.note("jobs.cancel", |_| id.clone());
        self.own_job(&id).await?;
        Ok(self.queue()?.cancel(&id).await?.unwrap_or(false))
    }

    async fn withdraw(&mut self, id: String) -> Result<bool, ImportError> {
        self.note("jobs.withdraw", |_| id.clone());
        self.own_job(&id).await?;
        Ok(self.queue()?.withdraw(&id).await?.unwrap_or(false))
    }

    fn report(&mut self, progress: jobs::Progress) -> Result<(), ImportError> {
        self.note("jobs.report", |_| progress.phase.clone());
        let Some(job) = self.call.get::<RunningJob>() else {
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

/// What a job takes in memory, in bytes.
fn size_of_job(job: &keepgate_jobs::Job) -> u64 {
    let claims = job.user.iter().flat_map(|user| &user.claims);
    let claims: usize = claims.map(|(name, value)| name.len() + value.len()).sum();
    let texts = [&job.kind, &job.key, &job.origin, &job.message].map(String::len);
    let texts: usize = texts.iter().sum();
    (size_of::<keepgate_jobs::Job>() + job.input.len() + job.output.len() + claims + texts) as u64
}

/// The same body. A mismatch of its bytes starts a job, also if the reader is gone right after it.
fn starting_on_mismatch(body: Body, queue: Option<Arc<Jobs>>, new: NewJob) -> Body {
    let length = body.length();
    let mut job = Some((queue, new));
    let chunks = body.inspect(move |chunk| {
        let Err(BodyError::Mismatch { expected, actual }) = chunk else { return };
        let Some((queue, new)) = job.take() else { return };
        let (mount, kind, key) = (new.mount.clone(), new.kind.clone(), new.key.clone());
        tracing::error!(mount, expected, actual, kind, key, "stored bytes are damaged");
        let Some(queue) = queue else { return };
        tokio::spawn(async move {
            if let Err(error) = queue.start(new).await {
                tracing::error!(%error, mount, kind, key, "job was not started");
            }
        });
    });
    Body::from_stream(length, chunks)
}

impl From<StartError> for ImportError {
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

impl From<JobsError> for ImportError {
    fn from(error: JobsError) -> Self {
        tracing::error!(%error, "job queue failed");
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
