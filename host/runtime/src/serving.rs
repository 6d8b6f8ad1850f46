//! A plugin at a mount: the queue of its calls, their instances, and what happens to an instance after a
//! call. [`mount`](crate::mount) calls it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use keepgate_jobs::{Job, Reporter};
use keepgate_store::Body;

use crate::capability::http::http;
use crate::capability::jobs::{self, WorkerPre};
use crate::capability::types::BodyHandle;
use crate::circuit_breaker::{CircuitBreaker, Open};
use crate::guest::{GuestPre, exported};
use crate::guest_log::shortened;
use crate::guest_state::{GuestState, MountContext};
use crate::host_allocation::bytes_with;
use crate::instance::{Instance, JobInstance, broken};
use crate::load::{LoadContext, Plugin, World};
use crate::metrics::{Counts, Metrics, MountMetrics};
use crate::reply;
use crate::shares::{Claim, Idle, Usage};
use crate::spec::{Bounds, Limits, MountSpec, TURN};
use crate::streamed_reply::{Head, Started};
use crate::test_hooks::Hooks;
use crate::wasi_http;
use keepgate_core::{CallError, Failure, Reply, Request};

/// Calls that a warm instance serves before it is replaced, which frees whatever the guest leaked.
const MAX_SERVED: u32 = 10_000;
/// Time for a plugin to check a job's input.
const QUESTION: Duration = Duration::from_secs(5);
/// The longest answer to that, in bytes.
const MAX_ANSWER: usize = 4096;
/// A call whose reply is larger than this and all in memory counts as in flight until the reply is
/// sent, so that slow clients cannot pile up replies.
const SMALL_REPLY: usize = 64 << 10;
/// A reply that is smaller than this is not counted as memory of the mount: there are at most as many as connections.
const TINY_REPLY: usize = 4 << 10;

/// A plugin at a mount.
pub(crate) struct Serving {
    pub(crate) plugin: Arc<Plugin>,
    context: Arc<MountContext>,
    bounds: Bounds,
    calls: Arc<Semaphore>,
    limits: Limits,
    warm: Option<Mutex<Vec<Instance>>>,
    breaker: CircuitBreaker,
    metrics: Arc<Metrics>,
}

impl Serving {
    pub(crate) fn new(spec: &MountSpec, plugin: Arc<Plugin>, context: &LoadContext) -> Self {
        let LoadContext { metrics, shares, .. } = context;
        let settings = serde_json::Value::Object(spec.settings.clone()).to_string();
        let environment = match &plugin.world {
            // Settings that cannot be an environment have been refused by `check_settings`.
            World::Service(_) => wasi_http::environment(&spec.settings).unwrap_or_default(),
            World::Plugin(..) => Vec::new(),
        };
        Self {
            context: Arc::new(MountContext {
                path: spec.path.clone(),
                plugin: spec.plugin.clone(),
                settings,
                hooks: spec.grants.get::<Hooks>().map(|hooks| hooks.0.clone()),
                grants: spec.grants.clone(),
                requests: plugin.description.requests.clone(),
                moved: metrics.moved.with_label_values(&[&*spec.path, &*spec.plugin]),
                metrics: metrics.own.prepare(
                    (&spec.path, &spec.plugin),
                    &plugin.described,
                    spec.limits.series,
                ),
                share: Some(shares.mount(&spec.path)),
                slots: plugin.needs.slots,
                environment,
                log: metrics.guest_log(&spec.path, &spec.plugin),
                followers: Arc::new(Semaphore::new(spec.limits.calls / 2)),
                retired: CancellationToken::new(),
            }),
            bounds: Bounds::from(&spec.limits),
            calls: Arc::new(Semaphore::new(spec.limits.calls)),
            warm: spec.warm.then(Mutex::default),
            breaker: CircuitBreaker::new(spec.limits.faults, &spec.path, &spec.plugin),
            plugin,
            limits: spec.limits,
            metrics: metrics.clone(),
        }
    }

    /// What the plugin has done here since the gateway started.
    pub(crate) fn counts(&self) -> Counts {
        self.metrics.counts(&self.context.path, &self.context.plugin)
    }

    /// Asks whether a line of this many bytes that the plugin caused may be logged.
    pub(crate) fn may_log(&self, bytes: usize) -> bool {
        self.context.log.admits(bytes)
    }

    /// What the plugin counts here.
    pub(crate) fn metrics(&self) -> Arc<MountMetrics> {
        self.context.metrics.clone()
    }

    /// What it has of what mounts share, and how much of that its calls could use; and itself, if it keeps instances.
    pub(crate) fn shared(self: &Arc<Self>) -> (Claim, Option<Weak<dyn Idle>>) {
        let claim = Claim {
            share: self.context.share.clone(),
            slots: self.context.slots,
            limits: self.limits,
        };
        let idle = self.warm.as_ref().map(|_| Arc::downgrade(self) as Weak<dyn Idle>);
        (claim, idle)
    }

    /// What it has of what mounts share.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.context.share.as_ref().map(|share| share.usage())
    }

    /// Linear memory of the largest warm instance, in bytes.
    pub(crate) fn warm_memory(&self) -> u64 {
        let instances = self.warm.as_ref();
        let instances = instances.map(|warm| warm.lock().unwrap_or_else(PoisonError::into_inner));
        instances.and_then(|all| all.iter().map(Instance::memory).max()).unwrap_or(0)
    }

    /// Its circuit breaker, if that is open.
    pub(crate) fn suspended(&self) -> Option<Open> {
        self.breaker.open()
    }

    /// Ends what its calls and jobs would wait for without an end.
    pub(crate) fn retire(&self) {
        self.context.retired.cancel();
    }

    /// Serves one request: waits for its turn, calls the plugin and counts the outcome.
    pub(crate) async fn run(
        self: Arc<Self>,
        request: Request,
        reply_start: oneshot::Sender<Started>,
    ) -> Result<Option<Reply>, CallError> {
        let done = match self.breaker.admit() {
            Ok(admitted) => {
                let done = self.in_turn(request, reply_start).await;
                admitted.ended(&done);
                done
            }
            Err(pause) => Err(CallError::Suspended(pause)),
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
        let turn = turn.ok_or(CallError::Busy(self.limits.calls))?;
        let reply = self.serve(request, reply_start).await?;
        Ok(reply.map(|reply| Reply { body: keep_turn(reply.body, turn), ..reply }))
    }

    pub(crate) fn count<T>(&self, done: &Result<T, CallError>) {
        let outcome = match done {
            Ok(_) => "ok",
            // The caller logs it, with the request or job that it belongs to.
            Err(error) => error.reason(),
        };
        let labels = [self.context.path.as_str(), self.context.plugin.as_str(), outcome];
        self.metrics.calls.with_label_values(&labels).inc();
    }

    pub(crate) async fn check_job(&self, kind: &str, input: &[u8]) -> Result<String, String> {
        let plugin = &self.plugin;
        let kinds = plugin.description.requests.names(jobs::REQUESTS);
        if !kinds.iter().any(|known| known == kind) {
            return Err(format!(
                "the plugin {} runs no job {kind:?}; it runs {kinds:?}",
                plugin.name
            ));
        }
        let asked = async {
            let runner = self.runner();
            let runner = runner.ok_or_else(|| CallError::NotServing("no runner".to_owned()))?;
            let bounds = Bounds { time: QUESTION, ..self.bounds };
            let instance = JobInstance::new(runner, self.context.clone(), bounds).await?;
            instance.check(kind, input).await
        };
        let said = asked.await;
        said.map_err(|error| format!("the plugin broke down in `check`: {error}"))?
            .map_err(|why| shortened(why, MAX_ANSWER))
    }

    /// Runs one attempt of a job, in an instance of its own and with more time than a request. It runs
    /// even if the plugin is suspended: the queue has attempts and pauses of its own, and a backup at
    /// night must not fail because of what requests did.
    pub(crate) async fn run_job(&self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        let Some(runner) = self.runner() else {
            let plugin = &self.plugin.name;
            return Err(Failure::Unsupported(format!("the plugin {plugin} runs no jobs")).into());
        };
        let time = self.limits.job_time;
        // A job has the time to wait for an instance, and an attempt is worth more than a request.
        let bounds = Bounds { time, patience: time, ..self.bounds };
        let instance = JobInstance::new(runner, self.context.clone(), bounds).await?;
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
                let context = self.context.clone();
                wasi_http::serve(pre, context, self.bounds, request, reply_start).await?;
                return Ok(None);
            }
        };
        let mut instance = self.instance(pre).await?;
        let request = into_guest(&mut instance, request)?;
        let reply = match instance.handle(&request, reply_start).await {
            Ok(exported::Reply::Full((head, content))) => {
                let body = take_body(&mut instance, content)?;
                let head = Head { status: head.status, headers: head.headers };
                reply::check(head, body).map(Some)
            }
            Ok(exported::Reply::Streamed) => Ok(None),
            Err(failure @ CallError::Failure(_)) => Err(failure),
            // An instance that broke down is not used again.
            Err(error) => return Err(error),
        };
        self.keep(instance);
        reply
    }

    fn runner(&self) -> Option<&WorkerPre<GuestState>> {
        match &self.plugin.world {
            World::Plugin(_, runner) => runner.as_ref(),
            World::Service(_) => None,
        }
    }

    async fn instance(&self, pre: &GuestPre<GuestState>) -> Result<Instance, CallError> {
        let warm = self
            .warm
            .as_ref()
            .and_then(|warm| warm.lock().unwrap_or_else(PoisonError::into_inner).pop());
        match warm {
            Some(instance) => Ok(instance),
            None => Instance::new(pre, self.context.clone(), self.bounds).await,
        }
    }

    /// Keeps an instance for the next request, if the mount is warm and the instance left nothing
    /// behind.
    fn keep(&self, mut instance: Instance) {
        if let Some(warm) = &self.warm
            && instance.served < MAX_SERVED
            && instance.store.data_mut().end()
        {
            warm.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
            // Whoever waits for an instance has looked for one that is kept, perhaps before this one was.
            if self.context.share.as_ref().is_some_and(|share| share.is_short_of_instances()) {
                self.release();
            }
        }
    }
}

impl Idle for Serving {
    /// Drops the instances that it keeps, if others could use what they take.
    fn release(&self) {
        let crowded = self.context.share.as_ref().is_some_and(|share| share.has_its_guarantee());
        if let Some(warm) = self.warm.as_ref().filter(|_| crowded) {
            let all = std::mem::take(&mut *warm.lock().unwrap_or_else(PoisonError::into_inner));
            drop(all);
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
    state.interim = request.interim;
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
            let state = instance.store.data();
            state.mount.moved.inc_by(bytes.len() as u64);
            if bytes.len() <= TINY_REPLY {
                return Ok(Body::from_bytes(bytes));
            }
            match state.allocation.hold(bytes.len()) {
                Ok(held) => Body::from_bytes(bytes_with(bytes, held)),
                Err(over) => return Err(broken(state, &over.into())),
            }
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

/// Keeps a call in flight until its reply is sent, if that is large and in memory.
fn keep_turn(mut body: Body, turn: OwnedSemaphorePermit) -> Body {
    match body.take_at_hand(usize::MAX) {
        Some(bytes) if bytes.len() > SMALL_REPLY => Body::from_bytes(bytes_with(bytes, turn)),
        Some(bytes) => Body::from_bytes(bytes),
        None => body,
    }
}
