//! One instance of a plugin: a store of its own, with limits. What goes wrong inside is told
//! apart here, once.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;
use wasmtime::component::ResourceTableError;
use wasmtime::{Engine, Store, WasmBacktrace};

use keepgate_jobs::{Job, Reporter};

use crate::call::{CallError, Failure, Limit};
use crate::contract::bindings::worker::{Worker, WorkerPre};
use crate::contract::bindings::{Plugin as Bindings, PluginPre};
use crate::contract::{exported, jobs};
use crate::cpu::Cpu;
use crate::imports::http::ReplyStart;
use crate::state::{Grants, RunningJob, State};
use crate::voice::shortened;

/// The longest report of a trap that is kept, in bytes.
const MAX_TRAP: usize = 8192;
/// Functions of a guest that a report of a trap names, innermost first.
const MAX_FRAMES: usize = 8;
/// Bytes that a guest may hand to the host in one call, whatever memory it has.
const LEAST_ARGUMENTS: u64 = 1 << 20;

/// What a call may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Linear memory in bytes.
    pub(crate) memory: u64,
    /// Time spent computing.
    pub(crate) cpu: Duration,
    /// Time from beginning to end.
    pub(crate) time: Duration,
}

/// An instance, fresh or used before.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    bindings: Bindings,
    bounds: Bounds,
    /// The state's, at hand while a call has the store.
    cpu: Arc<Cpu>,
    /// Calls that it has served.
    pub(crate) served: u32,
}

impl Instance {
    pub(crate) async fn new(
        pre: &PluginPre<State>,
        grants: Arc<Grants>,
        bounds: Bounds,
    ) -> Result<Self, CallError> {
        let (mut store, cpu) = prepare(pre.engine(), grants, &bounds);
        let made = {
            let made = pin!(pre.instantiate_async(&mut store));
            cpu.charge(made).await
        };
        match made {
            Ok(bindings) => Ok(Self { store, bindings, bounds, cpu, served: 0 }),
            Err(error) => Err(not_made(&store, &error)),
        }
    }

    pub(crate) async fn describe(&mut self) -> Result<exported::Description, CallError> {
        self.begin(None);
        let call = self.bindings.keepgate_plugin_guest().call_describe(&mut self.store);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        outcome(&self.store, &self.bounds, said)
    }

    pub(crate) async fn check_settings(
        &mut self,
        settings: &str,
    ) -> Result<Result<(), String>, CallError> {
        self.begin(None);
        let guest = self.bindings.keepgate_plugin_guest();
        let call = guest.call_check_settings(&mut self.store, settings);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        outcome(&self.store, &self.bounds, said)
    }

    pub(crate) async fn handle(
        &mut self,
        request: &exported::Request,
        reply_start: ReplyStart,
    ) -> Result<exported::Reply, CallError> {
        self.begin(Some(reply_start));
        self.served += 1;
        let guest = self.bindings.keepgate_plugin_guest();
        let call = guest.call_handle(&mut self.store, request);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        let said = outcome(&self.store, &self.bounds, said)?;
        said.map_err(|failure| refused(&self.store, failure.into()))
    }

    /// Its linear memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.store.data().limiter.used()
    }

    fn begin(&mut self, reply_start: Option<ReplyStart>) {
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin(reply_start);
    }
}

/// An instance for one attempt of a job.
pub(crate) struct JobInstance {
    store: Store<State>,
    bindings: Worker,
    bounds: Bounds,
    cpu: Arc<Cpu>,
}

impl JobInstance {
    pub(crate) async fn new(
        pre: &WorkerPre<State>,
        grants: Arc<Grants>,
        bounds: Bounds,
    ) -> Result<Self, CallError> {
        let (mut store, cpu) = prepare(pre.engine(), grants, &bounds);
        let made = {
            let made = pin!(pre.instantiate_async(&mut store));
            cpu.charge(made).await
        };
        match made {
            Ok(bindings) => Ok(Self { store, bindings, bounds, cpu }),
            Err(error) => Err(not_made(&store, &error)),
        }
    }

    /// What the plugin says of an input: the job's key, or what is wrong.
    pub(crate) async fn check(
        mut self,
        kind: &str,
        input: &[u8],
    ) -> Result<Result<String, String>, CallError> {
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin(None);
        let runner = self.bindings.keepgate_plugin_job_runner();
        let call = runner.call_check(&mut self.store, kind, input);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        outcome(&self.store, &self.bounds, said)
    }

    pub(crate) async fn run(mut self, job: Job, reporter: Reporter) -> Result<Vec<u8>, CallError> {
        self.store.set_epoch_deadline(1);
        let state = self.store.data_mut();
        state.begin(None);
        // What a user starts must not do more than the user may.
        state.principal = job.user.clone().map(crate::imports::jobs::to_principal);
        state.job = Some(RunningJob { id: job.id.clone(), reporter });
        let job = jobs::Job::from(job);
        let runner = self.bindings.keepgate_plugin_job_runner();
        let call = runner.call_run(&mut self.store, &job);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        let said = outcome(&self.store, &self.bounds, said)?;
        said.map_err(|failure| refused(&self.store, failure.into()))
    }
}

/// A store with its limits, and the clock that is charged.
pub(crate) fn prepare(
    engine: &Engine,
    grants: Arc<Grants>,
    bounds: &Bounds,
) -> (Store<State>, Arc<Cpu>) {
    let cpu = Arc::new(Cpu::new(bounds.cpu));
    let mut store = Store::new(engine, State::new(grants, bounds.memory, cpu.clone()));
    store.limiter(|state| &mut state.limiter);
    // Texts and lists that a guest hands over are copied, and one text may be in a list a million
    // times: what they come to is bounded, and not only the guest's memory.
    store.set_hostcall_fuel(arguments(bounds.memory));
    store.epoch_deadline_callback(|context| Ok(context.data().cpu.tick()));
    store.set_epoch_deadline(1);
    (store, cpu)
}

pub(crate) fn not_made(store: &Store<State>, error: &wasmtime::Error) -> CallError {
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return CallError::Busy(usize::try_from(crate::engine::INSTANCES).unwrap_or(0));
    }
    broken(store.data(), error)
}

pub(crate) fn outcome<T>(
    store: &Store<State>,
    bounds: &Bounds,
    said: Result<wasmtime::Result<T>, Elapsed>,
) -> Result<T, CallError> {
    match said {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(store.data(), &error)),
        Err(_) => Err(CallError::OverLimit(Limit::Time(bounds.time))),
    }
}

/// Waits for a call, charges it for computing, and ends it when its time is over. Most calls end
/// before they wait for anything: for these no timer is made.
///
/// The call comes pinned, because it is large and would be copied at each step on its way here.
pub(crate) async fn bounded<F: Future>(
    bounds: &Bounds,
    cpu: &Cpu,
    call: Pin<&mut F>,
) -> Result<F::Output, Elapsed> {
    let mut call = pin!(cpu.charge(call));
    match std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
        Poll::Ready(said) => Ok(said),
        Poll::Pending => tokio::time::timeout(bounds.time, call).await,
    }
}

/// Why a guest did not do what was asked. Where a language turns a lack of memory into an exception, as
/// JavaScript and Python do, the guest comes back alive with a failure of its own: it is the limit all
/// the same.
fn refused(store: &Store<State>, failure: Failure) -> CallError {
    match (&failure, store.data().over_limit()) {
        (Failure::Internal(_), Some(limit)) => CallError::OverLimit(limit),
        _ => CallError::Failure(failure),
    }
}

/// Bytes that a guest may hand to the host in one call, as it has memory.
fn arguments(memory: u64) -> usize {
    usize::try_from(memory.max(LEAST_ARGUMENTS)).unwrap_or(usize::MAX)
}

/// Why a guest broke down: over a limit, or a trap with its reason in the first line.
pub(crate) fn broken(state: &State, error: &wasmtime::Error) -> CallError {
    if let Some(limit) = state.over_limit() {
        return CallError::OverLimit(limit);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return CallError::OverLimit(Limit::Handles(state.table.max_capacity()));
    }
    let why = told(error);
    // wasmtime has no type for it.
    if why.contains("fuel allocated for hostcalls") {
        let most = arguments(state.memory_limit()) as u64;
        return CallError::OverLimit(Limit::Arguments(most));
    }
    CallError::Trapped(shortened(why, MAX_TRAP))
}

/// What went wrong, and after it where, all in one line: the log is read by the line.
fn told(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return format!("{error:#}");
    };
    let trace = backtrace.to_string();
    let causes = error.chain().map(ToString::to_string).filter(|cause| *cause != trace);
    let mut why = causes.collect::<Vec<_>>().join(": ");
    let frames = backtrace.frames().iter().take(MAX_FRAMES);
    let frames = frames.map(|frame| match frame.func_name() {
        Some(name) => rustc_demangle::demangle(name).to_string(),
        None => format!("function {}", frame.func_index()),
    });
    for (index, frame) in frames.enumerate() {
        why.push_str(if index == 0 { ", in " } else { " < " });
        why.push_str(&frame);
    }
    why
}
