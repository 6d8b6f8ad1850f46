//! One instance of a plugin: a store of its own, with limits. What goes wrong inside is told
//! apart here, once.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;
use wasmtime::Store;

use crate::call::{CallError, Failure, Limit};
use crate::contract::bindings::{Plugin as Bindings, PluginPre};
use crate::contract::exported;
use crate::cpu::Cpu;
use crate::imports::http::ReplyStart;
use crate::state::{Grants, State};

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
        let cpu = Arc::new(Cpu::new(bounds.cpu));
        let mut store = Store::new(pre.engine(), State::new(grants, bounds.memory, cpu.clone()));
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|context| Ok(context.data().cpu.tick()));
        store.set_epoch_deadline(1);
        let made = {
            let made = pin!(pre.instantiate_async(&mut store));
            cpu.charge(made).await
        };
        match made {
            Ok(bindings) => Ok(Self { store, bindings, bounds, cpu, served: 0 }),
            Err(error) if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() => {
                Err(CallError::Busy(usize::try_from(crate::engine::INSTANCES).unwrap_or(0)))
            }
            Err(error) => Err(broken(&store, &error)),
        }
    }

    pub(crate) async fn describe(&mut self) -> Result<exported::Description, CallError> {
        self.begin(None);
        let call = self.bindings.keepgate_plugin_guest().call_describe(&mut self.store);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        self.outcome(said)
    }

    pub(crate) async fn check_settings(
        &mut self,
        settings: &str,
    ) -> Result<Result<(), String>, CallError> {
        self.begin(None);
        let guest = self.bindings.keepgate_plugin_guest();
        let call = guest.call_check_settings(&mut self.store, settings);
        let said = bounded(&self.bounds, &self.cpu, pin!(call)).await;
        self.outcome(said)
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
        self.outcome(said)?.map_err(|failure| CallError::Failure(Failure::from(failure)))
    }

    fn begin(&mut self, reply_start: Option<ReplyStart>) {
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin(reply_start);
    }

    fn outcome<T>(&self, said: Result<wasmtime::Result<T>, Elapsed>) -> Result<T, CallError> {
        match said {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(broken(&self.store, &error)),
            Err(_) => Err(CallError::OverLimit(Limit::Time(self.bounds.time))),
        }
    }
}

/// Waits for a call, charges it for computing, and ends it when its time is over. Most calls end
/// before they wait for anything: for these no timer is made.
///
/// The call comes pinned, because it is large and would be copied at each step on its way here.
async fn bounded<F: Future>(
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

/// Why a guest broke down: over a limit, or a trap with its reason in the first line.
fn broken(store: &Store<State>, error: &wasmtime::Error) -> CallError {
    match store.data().over_limit() {
        Some(limit) => CallError::OverLimit(limit),
        None => CallError::Trapped(format!("{error:#}")),
    }
}
