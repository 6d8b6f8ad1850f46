//! One instance of a plugin, with its limits. Everything that can go wrong in a guest is told apart here,
//! and wasmtime's errors are recognised here only.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::error::Elapsed;
use wasmtime::component::ResourceTableError;
use wasmtime::{Engine, Store, WasmBacktrace};

use keepgate_jobs::{Job, Reporter};

use crate::capability::jobs::{RunningJob, Worker, WorkerPre, jobs};
use crate::cpu::Cpu;
use crate::engine::address_space;
use crate::guest::{Guest, GuestPre, exported};
use crate::guest_log::on_one_line;
use crate::guest_state::{GuestState, MountContext};
use crate::spec::Bounds;
use crate::streamed_reply::ReplyStart;
use keepgate_core::{CallError, Failure, Limit};

/// The longest report of a trap, in bytes.
const MAX_TRAP: usize = 8192;
/// The most functions that a report of a trap names, innermost first.
const MAX_FRAMES: usize = 8;
/// Address space for the stack of an instance: wasmtime's default.
const STACK: u64 = 2 << 20;
/// Bytes that a guest may pass to the host in one call to an import, however little memory it has.
const LEAST_ARGUMENTS: u64 = 1 << 20;

/// An instance, fresh or warm.
pub(crate) struct Instance {
    pub(crate) store: Store<GuestState>,
    bindings: Guest,
    bounds: Bounds,
    /// That of the state, accessible while a call borrows the store.
    cpu: Arc<Cpu>,
    /// Calls that it has served.
    pub(crate) served: u32,
}

impl Instance {
    pub(crate) async fn new(
        pre: &GuestPre<GuestState>,
        mount: Arc<MountContext>,
        bounds: Bounds,
    ) -> Result<Self, CallError> {
        let (mut store, cpu) = prepare(pre.engine(), mount, &bounds).await?;
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
    store: Store<GuestState>,
    bindings: Worker,
    bounds: Bounds,
    cpu: Arc<Cpu>,
}

impl JobInstance {
    pub(crate) async fn new(
        pre: &WorkerPre<GuestState>,
        mount: Arc<MountContext>,
        bounds: Bounds,
    ) -> Result<Self, CallError> {
        let (mut store, cpu) = prepare(pre.engine(), mount, &bounds).await?;
        let made = {
            let made = pin!(pre.instantiate_async(&mut store));
            cpu.charge(made).await
        };
        match made {
            Ok(bindings) => Ok(Self { store, bindings, bounds, cpu }),
            Err(error) => Err(not_made(&store, &error)),
        }
    }

    /// Asks the plugin about a job's input: the job's key, or what is wrong.
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
        // A job may not do more than the user who started it.
        state.principal = job.user.clone().map(crate::capability::jobs::to_principal);
        state.call.insert(RunningJob { id: job.id.clone(), reporter });
        let job = jobs::Job::from(job);
        let runner = self.bindings.keepgate_plugin_job_runner();
        let call = runner.call_run(&mut self.store, &job);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        let said = outcome(&self.store, &self.bounds, said)?;
        said.map_err(|failure| refused(&self.store, failure.into()))
    }
}

/// Makes a store with its limits, and the clock that measures it. Waits until the mount may have another instance, and
/// fails if it may not, or if the host has too little memory for the stack of one.
pub(crate) async fn prepare(
    engine: &Engine,
    mount: Arc<MountContext>,
    bounds: &Bounds,
) -> Result<(Store<GuestState>, Arc<Cpu>), CallError> {
    if let Some(why) = address_space::shortage(STACK) {
        return Err(CallError::HostMemory(why));
    }
    let room = match &mount.share {
        Some(share) => Some(share.instance(mount.slots, bounds.patience).await?),
        None => None,
    };
    let cpu = Arc::new(Cpu::new(bounds.cpu, mount.share.as_ref().map(|share| share.load.clone())));
    let mut store = Store::new(engine, GuestState::new(mount, bounds.memory, cpu.clone(), room));
    store.limiter(|state| &mut state.limiter);
    // Texts and lists that a guest passes are copied, and a list may have the same text a million times.
    // So the size of the copies is bounded as well as the guest's memory.
    store.set_hostcall_fuel(arguments(bounds.memory));
    store.epoch_deadline_callback(|context| Ok(context.data().cpu.tick()));
    store.set_epoch_deadline(1);
    Ok((store, cpu))
}

pub(crate) fn not_made(store: &Store<GuestState>, error: &wasmtime::Error) -> CallError {
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        // Each mount has its share of them, so this happens only while mounts change.
        return CallError::Crowded(format!("wasmtime's pool of instances is used up: {error:#}"));
    }
    broken(store.data(), error)
}

pub(crate) fn outcome<T>(
    store: &Store<GuestState>,
    bounds: &Bounds,
    said: Result<wasmtime::Result<T>, Elapsed>,
) -> Result<T, CallError> {
    match said {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(store.data(), &error)),
        Err(_) => Err(CallError::OverLimit(Limit::Time(bounds.time))),
    }
}

/// Polls a call to its end, charges it for CPU time, and ends it when its time is up. Most calls end
/// without waiting, and for those no timer is made.
///
/// The call is passed pinned, because it is large and would otherwise be copied at each step.
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

/// Why a guest returned a failure. JavaScript and Python turn a lack of memory into an exception, so that
/// the guest survives and returns a failure of its own; the call still exceeded its limit, or the host
/// had too little memory.
fn refused(store: &Store<GuestState>, failure: Failure) -> CallError {
    let cause = match failure {
        Failure::Internal(_) => cause(store.data()),
        _ => None,
    };
    cause.unwrap_or(CallError::Failure(failure))
}

/// What a guest's breakdown follows from, if the guest's state says so: a lack of memory in the host, or
/// an exceeded limit.
fn cause(state: &GuestState) -> Option<CallError> {
    state.lacked().or_else(|| state.over_limit().map(CallError::OverLimit))
}

/// Bytes that a guest may pass to the host in one call to an import: as many as it has memory.
fn arguments(memory: u64) -> usize {
    usize::try_from(memory.max(LEAST_ARGUMENTS)).unwrap_or(usize::MAX)
}

/// Why a guest broke down: it exceeded a limit, it trapped, or the host had too little memory for it.
pub(crate) fn broken(state: &GuestState, error: &wasmtime::Error) -> CallError {
    if let Some(cause) = cause(state) {
        return cause;
    }
    if address_space::is_out_of_memory(error) {
        return CallError::HostMemory(address_space::explained(&format!("{error:#}")));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return CallError::OverLimit(Limit::Handles(state.table.max_capacity()));
    }
    let why = in_one_line(error);
    if exhausted_hostcall_fuel(&why) {
        let most = arguments(state.memory_limit()) as u64;
        return CallError::OverLimit(Limit::Arguments(most));
    }
    CallError::Trapped(on_one_line(why, MAX_TRAP))
}

/// Whether an error says that the arguments of one call to an import were too large in all. wasmtime has
/// no type for it, so this compares the text of its message. Update it with wasmtime; the guests
/// `log-list` and `prepare-list` of `tests/hostile_guests` fail otherwise.
fn exhausted_hostcall_fuel(message: &str) -> bool {
    message.contains("fuel allocated for hostcalls")
}

/// What went wrong and where, in one line, because logs are read by the line.
fn in_one_line(error: &wasmtime::Error) -> String {
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
