//! A mount: a path prefix with its plugin, settings, grants and limits; and the call, from
//! request to reply.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use keepgate_jobs::{Job, Reporter};
use keepgate_store::{Body, BodyError};

use crate::call::{CallError, Failure, Reply, Request};
use crate::contract::{exported, http};
use crate::grant::{Grant, Services};
use crate::imports::http::Started;
use crate::imports::types::BodyHandle;
use crate::instance::{Bounds, Instance, JobInstance};
use crate::load::Plugin;
use crate::metrics::{Counts, Metrics};
use crate::reply;
use crate::state::Grants;

/// How long a call waits for its turn where all calls that a mount allows are under way.
const TURN: Duration = Duration::from_secs(10);
/// Calls that a warm instance serves before it is replaced: what a guest leaks goes with it.
const MAX_SERVED: u32 = 10_000;

/// Time for a plugin to say what it thinks of a job's input.
const QUESTION: Duration = Duration::from_secs(5);

/// What the operator says of a mount.
#[derive(Debug)]
pub struct MountSpec {
    /// `/`, or a path that begins with `/` and does not end with it.
    pub path: String,
    /// The plugin's file name without `.wasm`.
    pub plugin: String,
    /// Handed to the plugin as JSON.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// By the names under which the plugin opens them; with the mount's policy around them.
    pub stores: BTreeMap<String, Arc<dyn Grant>>,
    /// What it grants besides.
    pub services: Services,
    /// What a call may use.
    pub limits: Limits,
    /// Instances serve many requests, one at a time, instead of one.
    pub warm: bool,
}

/// What a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance, in bytes.
    pub memory: u64,
    /// Time that it spends computing.
    pub cpu: Duration,
    /// Time from the request to the end of the plugin's work. A body that the host sends after
    /// that is not part of it.
    pub time: Duration,
    /// Time of one attempt of a job.
    pub job_time: Duration,
    /// Calls at once.
    pub calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu: Duration::from_secs(1),
            time: Duration::from_secs(3600),
            job_time: Duration::from_secs(24 * 3600),
            calls: 256,
        }
    }
}

/// A path prefix and what serves it.
#[derive(Debug)]
pub struct Mount {
    spec: Arc<MountSpec>,
    /// Or why nothing does.
    serving: Result<Arc<Serving>, String>,
}

/// A plugin at a mount.
pub(crate) struct Serving {
    pub(crate) plugin: Arc<Plugin>,
    grants: Arc<Grants>,
    bounds: Bounds,
    calls: Arc<Semaphore>,
    limit: usize,
    job_time: Duration,
    warm: Option<Mutex<Vec<Instance>>>,
    metrics: Arc<Metrics>,
}

impl Mount {
    pub(crate) fn new(spec: Arc<MountSpec>, serving: Result<Arc<Serving>, String>) -> Self {
        Self { spec, serving }
    }

    /// Where it is mounted: `/`, or `/restic` without a trailing slash.
    pub fn path(&self) -> &str {
        &self.spec.path
    }

    /// The name of its plugin.
    pub fn plugin(&self) -> &str {
        &self.spec.plugin
    }

    /// What the operator said.
    pub fn spec(&self) -> &Arc<MountSpec> {
        &self.spec
    }

    /// The plugin that serves it, or why none does.
    pub fn serving(&self) -> Result<&Arc<Plugin>, &str> {
        match &self.serving {
            Ok(serving) => Ok(&serving.plugin),
            Err(why) => Err(why),
        }
    }

    /// What its plugin has done here since the gateway began, in numbers.
    pub fn counts(&self) -> Counts {
        match &self.serving {
            Ok(serving) => serving.metrics.counts(self.path(), self.plugin()),
            Err(_) => Counts::default(),
        }
    }

    /// Linear memory of the largest warm instance that waits for its next call, in bytes; 0 where
    /// there is none.
    pub fn warm_memory(&self) -> u64 {
        let warm = self.serving.as_ref().ok().and_then(|serving| serving.warm.as_ref());
        let instances = warm.map(|warm| warm.lock().unwrap_or_else(PoisonError::into_inner));
        instances.and_then(|all| all.iter().map(Instance::memory).max()).unwrap_or(0)
    }

    /// Calls the plugin. Dropping the future, or the body of the reply, stops the plugin; a
    /// commit that a store has begun finishes all the same.
    pub async fn call(&self, request: Request) -> Result<Reply, CallError> {
        let serving = self.serving.clone().map_err(CallError::NotServing)?;
        let (reply_start, mut started) = oneshot::channel();
        let mut guest: Guest = Box::pin(serving.run(request, reply_start));
        // The guest starts a streamed reply while it is polled, so one look after each poll is
        // enough.
        let first = std::future::poll_fn(|context| match guest.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(First::Done(done)),
            Poll::Pending => match started.try_recv() {
                Ok(started) => Poll::Ready(First::Started(started)),
                Err(_) => Poll::Pending,
            },
        });
        match first.await {
            First::Started(started) => streamed(started, Some(guest)),
            First::Done(done) => match done? {
                Some(reply) => Ok(reply),
                None => match started.try_recv() {
                    Ok(started) => streamed(started, None),
                    Err(_) => Err(CallError::BadReply(
                        "it says `streamed` and never started the writer".to_owned(),
                    )),
                },
            },
        }
    }
}

impl Mount {
    /// The key that the plugin gives to a job of this kind with this input; or what is wrong with
    /// it, in words. None where nothing serves the mount.
    pub async fn check_job(&self, kind: &str, input: &[u8]) -> Option<Result<String, String>> {
        let serving = self.serving.as_ref().ok()?;
        Some(serving.check_job(kind, input).await)
    }

    /// Runs one attempt of a job. Dropping the future stops the plugin.
    pub(crate) async fn run_job(&self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        let serving = self.serving.clone().map_err(CallError::NotServing)?;
        let done = serving.run_job(job, reporter).await;
        serving.count(&done);
        done
    }
}

/// The guest's work for one request; none where the reply was streamed.
type Guest = Pin<Box<dyn Future<Output = Result<Option<Reply>, CallError>> + Send>>;

enum First {
    Started(Started),
    Done(Result<Option<Reply>, CallError>),
}

impl Serving {
    pub(crate) fn new(spec: &MountSpec, plugin: Arc<Plugin>, metrics: Arc<Metrics>) -> Self {
        let settings = serde_json::Value::Object(spec.settings.clone()).to_string();
        Self {
            grants: Arc::new(Grants {
                mount: spec.path.clone(),
                plugin: spec.plugin.clone(),
                settings,
                stores: spec.stores.clone(),
                services: spec.services.clone(),
                moved: metrics.moved.with_label_values(&[&*spec.path, &*spec.plugin]),
                counters: metrics.counters.clone(),
            }),
            bounds: Bounds {
                memory: spec.limits.memory,
                cpu: spec.limits.cpu,
                time: spec.limits.time,
            },
            calls: Arc::new(Semaphore::new(spec.limits.calls)),
            limit: spec.limits.calls,
            job_time: spec.limits.job_time,
            warm: spec.warm.then(Mutex::default),
            plugin,
            metrics,
        }
    }

    /// One request, from its turn to its end, counted.
    async fn run(
        self: Arc<Self>,
        request: Request,
        reply_start: oneshot::Sender<Started>,
    ) -> Result<Option<Reply>, CallError> {
        let turn = match self.calls.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                tokio::time::timeout(TURN, self.calls.acquire()).await.ok().and_then(Result::ok)
            }
        };
        let done = match turn {
            Some(_permit) => self.serve(request, reply_start).await,
            None => Err(CallError::Busy(self.limit)),
        };
        self.count(&done);
        done
    }

    fn count<T>(&self, done: &Result<T, CallError>) {
        let outcome = match done {
            Ok(_) => "ok",
            // Whoever called says it in the log, with the request or job that it belongs to.
            Err(error) => error.reason(),
        };
        let labels = [self.grants.mount.as_str(), self.grants.plugin.as_str(), outcome];
        self.metrics.calls.with_label_values(&labels).inc();
    }

    async fn check_job(&self, kind: &str, input: &[u8]) -> Result<String, String> {
        let plugin = &self.plugin;
        if !plugin.description.jobs.iter().any(|known| known == kind) {
            return Err(format!(
                "the plugin {} runs no job {kind:?}; it runs {:?}",
                plugin.name, plugin.description.jobs
            ));
        }
        let asked = async {
            let runner = plugin.runner.as_ref();
            let runner = runner.ok_or_else(|| CallError::NotServing("no runner".to_owned()))?;
            let bounds = Bounds { time: QUESTION, ..self.bounds };
            let instance = JobInstance::new(runner, self.grants.clone(), bounds).await?;
            instance.check(kind, input).await
        };
        asked.await.map_err(|error| format!("the plugin broke down in `check`: {error}"))?
    }

    /// A job has an instance of its own, and more time than a request.
    async fn run_job(&self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        let Some(runner) = &self.plugin.runner else {
            let plugin = &self.plugin.name;
            return Err(Failure::Unsupported(format!("the plugin {plugin} runs no jobs")).into());
        };
        let bounds = Bounds { time: self.job_time, ..self.bounds };
        let instance = JobInstance::new(runner, self.grants.clone(), bounds).await?;
        instance.run(job, reporter).await
    }

    async fn serve(
        &self,
        request: Request,
        reply_start: oneshot::Sender<Started>,
    ) -> Result<Option<Reply>, CallError> {
        let mut instance = self.instance().await?;
        let request = into_guest(&mut instance, request)?;
        let reply = match instance.handle(&request, reply_start).await {
            Ok(exported::Reply::Full((head, content))) => {
                let body = take_body(&mut instance, content)?;
                reply::check(head, body).map(Some)
            }
            Ok(exported::Reply::Streamed) => Ok(None),
            Err(failure @ CallError::Failure(_)) => Err(failure),
            // Who broke down serves nobody again.
            Err(error) => return Err(error),
        };
        self.keep(instance);
        reply
    }

    async fn instance(&self) -> Result<Instance, CallError> {
        let warm = self
            .warm
            .as_ref()
            .and_then(|warm| warm.lock().unwrap_or_else(PoisonError::into_inner).pop());
        match warm {
            Some(instance) => Ok(instance),
            None => Instance::new(&self.plugin.pre, self.grants.clone(), self.bounds).await,
        }
    }

    /// Keeps an instance that served well for the next request, where the mount asks for it.
    fn keep(&self, mut instance: Instance) {
        if let Some(warm) = &self.warm
            && instance.served < MAX_SERVED
            && instance.store.data_mut().end()
        {
            warm.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        }
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

fn into_guest(instance: &mut Instance, request: Request) -> Result<exported::Request, CallError> {
    let state = instance.store.data_mut();
    state.principal.clone_from(&request.principal);
    let body = state
        .table
        .push(BodyHandle::new(request.body))
        .map_err(|error| CallError::Trapped(error.to_string()))?;
    Ok(exported::Request {
        method: request.method,
        path: request.path,
        trailing_slash: request.trailing_slash,
        query: request.query,
        headers: request.headers,
        principal: request.principal.map(|principal| http::Principal {
            name: principal.name,
            method: principal.method.to_owned(),
            claims: principal.claims,
        }),
        body,
    })
}

fn take_body(instance: &mut Instance, content: http::Content) -> Result<Body, CallError> {
    Ok(match content {
        http::Content::Empty => Body::empty(),
        http::Content::Bytes(bytes) => {
            instance.store.data().grants.moved.inc_by(bytes.len() as u64);
            Body::from_bytes(bytes)
        }
        http::Content::Body(handle) => instance
            .store
            .data_mut()
            .table
            .delete(handle)
            .map_err(|error| CallError::Trapped(error.to_string()))?
            .into_body(),
    })
}

fn streamed(started: Started, guest: Option<Guest>) -> Result<Reply, CallError> {
    let pieces = Pieces { pieces: started.pieces, guest };
    reply::check(started.head, Body::from_stream(None, pieces))
}

/// The pieces of a streamed reply. Polling it runs the guest; dropping it stops the guest.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    guest: Option<Guest>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(guest) = &mut self.guest {
            match guest.as_mut().poll(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(None)) => self.guest = None,
                Poll::Ready(done) => {
                    self.guest = None;
                    self.pieces.close();
                    let why = match done {
                        Err(error) => error.to_string(),
                        // A plugin that makes replies of its failures does so in the middle of
                        // a list, too. An end here would make a short list look whole.
                        Ok(_) => "the plugin answered otherwise after it had begun".to_owned(),
                    };
                    return Poll::Ready(Some(Err(BodyError::Failed(why))));
                }
            }
        }
        match self.pieces.poll_recv(context) {
            Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            // The writer is gone; what remains is the guest's way to its end.
            Poll::Ready(None) if self.guest.is_some() => Poll::Pending,
            other => other.map(|_| None),
        }
    }
}
