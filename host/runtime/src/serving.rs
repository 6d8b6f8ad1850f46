//! A plugin at a mount: a call's turn, its instance, and what becomes of both. The way of a call from
//! outside is in [`mount`](crate::mount).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use keepgate_jobs::{Job, Reporter};
use keepgate_store::Body;

use crate::call::{CallError, Failure, Reply, Request};
use crate::contract::bindings::PluginPre;
use crate::contract::bindings::worker::WorkerPre;
use crate::contract::{exported, http};
use crate::faults::{Aside, Record};
use crate::held::bytes_with;
use crate::imports::http::Started;
use crate::imports::types::BodyHandle;
use crate::instance::{Bounds, Instance, JobInstance, broken};
use crate::load::{Plugin, World};
use crate::metrics::{Counts, Metrics};
use crate::mount::MountSpec;
use crate::reply;
use crate::state::{Grants, State};
use crate::voice::shortened;
use crate::wasi_http;

/// How long a call waits for its turn where all calls that a mount allows are under way.
const TURN: Duration = Duration::from_secs(10);
/// Calls that a warm instance serves before it is replaced: what a guest leaks goes with it.
const MAX_SERVED: u32 = 10_000;
/// Time for a plugin to say what it thinks of a job's input.
const QUESTION: Duration = Duration::from_secs(5);
/// The longest such answer, in bytes.
const MAX_ANSWER: usize = 4096;
/// A reply of more bytes than this, all at hand, keeps its turn until they are sent: slow clients
/// must not pile such replies up.
const SMALL_REPLY: usize = 64 << 10;

/// A plugin at a mount.
pub(crate) struct Serving {
    pub(crate) plugin: Arc<Plugin>,
    grants: Arc<Grants>,
    bounds: Bounds,
    calls: Arc<Semaphore>,
    limit: usize,
    job_time: Duration,
    warm: Option<Mutex<Vec<Instance>>>,
    record: Record,
    metrics: Arc<Metrics>,
}

impl Serving {
    pub(crate) fn new(spec: &MountSpec, plugin: Arc<Plugin>, metrics: Arc<Metrics>) -> Self {
        let settings = serde_json::Value::Object(spec.settings.clone()).to_string();
        let environment = match &plugin.world {
            // Settings that make no environment have been refused.
            World::Service(_) => wasi_http::environment(&spec.settings).unwrap_or_default(),
            World::Plugin(..) => Vec::new(),
        };
        Self {
            grants: Arc::new(Grants {
                mount: spec.path.clone(),
                plugin: spec.plugin.clone(),
                settings,
                stores: spec.stores.clone(),
                services: spec.services.clone(),
                moved: metrics.moved.with_label_values(&[&*spec.path, &*spec.plugin]),
                metrics: metrics.own.clone(),
                kinds: plugin.description.jobs.clone(),
                environment,
                voice: metrics.voice(&spec.path, &spec.plugin),
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
            record: Record::new(spec.limits.faults, &spec.path, &spec.plugin),
            plugin,
            metrics,
        }
    }

    /// What the plugin has done here since the gateway began.
    pub(crate) fn counts(&self) -> Counts {
        self.metrics.counts(&self.grants.mount, &self.grants.plugin)
    }

    /// Linear memory of the largest warm instance, in bytes.
    pub(crate) fn warm_memory(&self) -> u64 {
        let instances = self.warm.as_ref();
        let instances = instances.map(|warm| warm.lock().unwrap_or_else(PoisonError::into_inner));
        instances.and_then(|all| all.iter().map(Instance::memory).max()).unwrap_or(0)
    }

    /// How it is put aside, if it is.
    pub(crate) fn aside(&self) -> Option<Aside> {
        self.record.aside()
    }

    /// One request, from its turn to its end, counted.
    pub(crate) async fn run(
        self: Arc<Self>,
        request: Request,
        reply_start: oneshot::Sender<Started>,
    ) -> Result<Option<Reply>, CallError> {
        let done = match self.record.admit() {
            Ok(admitted) => {
                let done = self.in_turn(request, reply_start).await;
                admitted.ended(&done);
                done
            }
            Err(pause) => Err(CallError::Aside(pause)),
        };
        self.count(&done);
        done
    }

    async fn in_turn(
        &self,
        request: Request,
        reply_start: oneshot::Sender<Started>,
    ) -> Result<Option<Reply>, CallError> {
        let turn = match self.calls.clone().try_acquire_owned() {
            Ok(turn) => Some(turn),
            Err(_) => {
                let waiting = self.calls.clone().acquire_owned();
                tokio::time::timeout(TURN, waiting).await.ok().and_then(Result::ok)
            }
        };
        let turn = turn.ok_or(CallError::Busy(self.limit))?;
        let reply = self.serve(request, reply_start).await?;
        Ok(reply.map(|reply| Reply { body: keep_turn(reply.body, turn), ..reply }))
    }

    pub(crate) fn count<T>(&self, done: &Result<T, CallError>) {
        let outcome = match done {
            Ok(_) => "ok",
            // Whoever called says it in the log, with the request or job that it belongs to.
            Err(error) => error.reason(),
        };
        let labels = [self.grants.mount.as_str(), self.grants.plugin.as_str(), outcome];
        self.metrics.calls.with_label_values(&labels).inc();
    }

    pub(crate) async fn check_job(&self, kind: &str, input: &[u8]) -> Result<String, String> {
        let plugin = &self.plugin;
        if !plugin.description.jobs.iter().any(|known| known == kind) {
            return Err(format!(
                "the plugin {} runs no job {kind:?}; it runs {:?}",
                plugin.name, plugin.description.jobs
            ));
        }
        let asked = async {
            let runner = self.runner();
            let runner = runner.ok_or_else(|| CallError::NotServing("no runner".to_owned()))?;
            let bounds = Bounds { time: QUESTION, ..self.bounds };
            let instance = JobInstance::new(runner, self.grants.clone(), bounds).await?;
            instance.check(kind, input).await
        };
        let said = asked.await;
        said.map_err(|error| format!("the plugin broke down in `check`: {error}"))?
            .map_err(|why| shortened(why, MAX_ANSWER))
    }

    /// A job has an instance of its own, and more time than a request. It runs also while the plugin
    /// is put aside: the queue has attempts and pauses of its own, and a backup at night must not
    /// fail for what requests did.
    pub(crate) async fn run_job(&self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        let Some(runner) = self.runner() else {
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
        let pre = match &self.plugin.world {
            World::Plugin(pre, _) => pre,
            World::Service(pre) => {
                let grants = self.grants.clone();
                wasi_http::serve(pre, grants, self.bounds, request, reply_start).await?;
                return Ok(None);
            }
        };
        let mut instance = self.instance(pre).await?;
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

    fn runner(&self) -> Option<&WorkerPre<State>> {
        match &self.plugin.world {
            World::Plugin(_, runner) => runner.as_ref(),
            World::Service(_) => None,
        }
    }

    async fn instance(&self, pre: &PluginPre<State>) -> Result<Instance, CallError> {
        let warm = self
            .warm
            .as_ref()
            .and_then(|warm| warm.lock().unwrap_or_else(PoisonError::into_inner).pop());
        match warm {
            Some(instance) => Ok(instance),
            None => Instance::new(pre, self.grants.clone(), self.bounds).await,
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
    state.request = Some(request.id.clone());
    let body = state
        .table
        .push(BodyHandle::new(request.body))
        .map_err(|error| broken(state, &error.into()))?;
    Ok(exported::Request {
        method: request.method,
        base: request.base,
        target: request.target,
        address: request.address.map(|address| address.to_string()),
        id: request.id,
        path: request.path,
        trailing_slash: request.trailing_slash,
        query: request.query,
        headers: request.headers,
        principal: request.principal.map(Into::into),
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

/// Keeps the turn of a call with a reply that is large and at hand.
fn keep_turn(mut body: Body, turn: OwnedSemaphorePermit) -> Body {
    match body.take_at_hand(usize::MAX) {
        Some(bytes) if bytes.len() > SMALL_REPLY => Body::from_bytes(bytes_with(bytes, turn)),
        Some(bytes) => Body::from_bytes(bytes),
        None => body,
    }
}
