//! The state of an instance: the guest's handles, its mount, its limits.
//!
//! Each instance has one [`GuestState`]. A warm instance keeps it between calls; whatever belongs to a
//! single call is set by [`GuestState::begin`] and cleared by [`GuestState::end`]. A capability keeps its
//! own state in `call`; no field here is named after one.

use std::sync::Arc;

use prometheus::IntCounter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::capability::call_state::CallState;
use crate::capability::grants::Grants;
use crate::capability::requests::Requests;
use crate::cpu::Cpu;
use crate::engine::address_space;
use crate::guest_log::GuestLog;
use crate::host_allocation::{HostAllocation, MAX_HANDLES};
use crate::metrics::MountMetrics;
use crate::shares::{MountShare, Taken};
use crate::streamed_reply::ReplyStart;
use crate::test_hooks::TestHooks;
use crate::wasi_http::context::WasiHttpState;
use keepgate_core::{CallError, Failure, Limit, Principal, SendInterim};

/// The most random bytes that one call of WASI returns.
const MAX_RANDOM: u64 = 1 << 20;
/// The most table elements of a guest, which are mostly function pointers.
const MAX_TABLE: usize = 100_000;
/// The most bytes that an element takes.
const TABLE_ELEMENT: u64 = 16;

/// What all calls of a plugin at a mount share. Made once, when the mount is built.
#[derive(Debug)]
pub(crate) struct MountContext {
    /// The mount's path, for messages.
    pub(crate) path: String,
    /// The plugin's name, for messages.
    pub(crate) plugin: String,
    /// The mount's settings as a JSON object.
    pub(crate) settings: String,
    /// What the mount grants.
    pub(crate) grants: Grants,
    /// What the plugin requests.
    pub(crate) requests: Requests,
    /// The hooks among the grants, looked up once because every import checks for them.
    pub(crate) hooks: Option<Arc<dyn TestHooks>>,
    /// Bytes of bodies that the plugin itself reads and makes.
    pub(crate) moved: IntCounter,
    pub(crate) metrics: Arc<MountMetrics>,
    pub(crate) log: GuestLog,
    /// What the mount has of what mounts share; none outside of a mount, where a plugin describes itself.
    pub(crate) share: Option<Arc<MountShare>>,
    /// Places in the pool that an instance takes.
    pub(crate) slots: u64,
    /// Variables for a service of `wasi:http`; none for a plugin.
    pub(crate) environment: Vec<(String, String)>,
    /// Permits for what is waited for without an end: half as many as calls, so that others are served, too.
    pub(crate) followers: Arc<Semaphore>,
    /// Cancelled when another mount takes the place of this one: whatever would wait without an end stops waiting.
    pub(crate) retired: CancellationToken,
}

/// The data of an instance's store.
pub(crate) struct GuestState {
    pub(crate) table: ResourceTable,
    pub(crate) mount: Arc<MountContext>,
    pub(crate) cpu: Arc<Cpu>,
    /// The user of the call; stores may differ by user.
    pub(crate) principal: Option<Principal>,
    /// The id of the request, if the call handles one.
    pub(crate) request: Option<String>,
    /// What capabilities keep for the call.
    pub(crate) call: CallState,
    /// Where interim responses to the request go.
    pub(crate) interim: Option<Arc<dyn SendInterim>>,
    /// Taken when the guest starts a streamed reply.
    pub(crate) reply_start: Option<ReplyStart>,
    /// The number of the last call to an import that the test hooks were told of.
    noted: Option<u64>,
    /// What the host has allocated for the call.
    pub(crate) allocation: Arc<HostAllocation>,
    pub(crate) limiter: Limiter,
    /// For services of `wasi:http`.
    pub(crate) wasi_http: WasiHttpState,
    /// The instance's places in the pool.
    _slots: Option<Taken>,
    /// Made when the guest first uses WASI, which most guests do not.
    wasi: Option<WasiCtx>,
}

impl GuestState {
    /// `room` is what the instance has of the mount's share.
    pub(crate) fn new(
        mount: Arc<MountContext>,
        memory: u64,
        cpu: Arc<Cpu>,
        room: Option<(Taken, Taken)>,
    ) -> Self {
        let (slots, base) = room.unzip();
        let share = mount.share.clone();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            table,
            mount,
            cpu,
            principal: None,
            request: None,
            interim: None,
            call: CallState::default(),
            reply_start: None,
            noted: None,
            allocation: HostAllocation::new(memory, share.clone()),
            limiter: Limiter::new(memory, share.zip(base)),
            _slots: slots,
            wasi_http: WasiHttpState::default(),
            wasi: None,
        }
    }

    /// Makes the state ready for one call.
    pub(crate) fn begin(&mut self, reply_start: Option<ReplyStart>) {
        self.reply_start = reply_start;
        self.limiter.begin();
        // A new one, because the reply of the previous call may still be in flight.
        self.allocation = HostAllocation::new(self.limiter.limit, self.mount.share.clone());
        self.cpu.begin();
    }

    /// Ends a call. Returns whether the guest left no handles behind, so that its instance may be reused.
    pub(crate) fn end(&mut self) -> bool {
        self.reply_start = None;
        self.principal = None;
        self.request = None;
        self.interim = None;
        self.call.clear();
        self.table.is_empty()
    }

    /// Tells the test hooks that the guest calls an import. Without hooks, as in a server, `about` is not
    /// called.
    pub(crate) fn note(&mut self, import: &'static str, about: impl FnOnce(&Self) -> String) {
        let Some(hooks) = self.mount.hooks.clone() else { return };
        self.noted = Some(hooks.called(import, about(self)));
    }

    /// Tells the test hooks how that call failed: a guest makes one at a time.
    pub(crate) fn note_failure(&mut self, failure: &Failure) {
        if let (Some(hooks), Some(call)) = (&self.mount.hooks, self.noted.take()) {
            hooks.failed(call, failure);
        }
    }

    /// The limit of the guest's linear memory, in bytes.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.limiter.limit
    }

    /// What the host could not give the guest, if there was something.
    pub(crate) fn lacked(&self) -> Option<CallError> {
        let crowded = || self.allocation.crowded().map(CallError::Crowded);
        self.limiter.lacked.clone().map(CallError::from).or_else(crowded)
    }

    /// The limit that the guest exceeded, if it did.
    pub(crate) fn over_limit(&self) -> Option<Limit> {
        let memory = || self.limiter.refused.then_some(Limit::Memory(self.limiter.limit));
        self.cpu.over().map(Limit::Cpu).or_else(memory).or_else(|| self.allocation.over())
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // WASI grants nothing: no files, no sockets, closed standard streams.
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut wasi = WasiCtxBuilder::new();
            wasi.envs(&self.mount.environment);
            wasi.allow_tcp(false).allow_udp(false).max_random_size(MAX_RANDOM).build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// What the host could not give a guest, although the mount's limits allow it. Why is for operators.
#[derive(Clone, Debug)]
enum Lack {
    /// The process has no more memory or address space.
    Host(String),
    /// The mount has its share of the memory of all plugins.
    Share(String),
}

impl From<Lack> for CallError {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Host(why) => Self::HostMemory(why),
            Lack::Share(why) => Self::Crowded(why),
        }
    }
}

/// The memory of an instance: the sum of its linear memories.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: u64,
    used: u64,
    /// What the mount has of the memory of all plugins, and what the instance takes of that: its memories and tables.
    share: Option<(Arc<MountShare>, Taken)>,
    /// What the growth that was allowed last added to `used`.
    growing: u64,
    refused: bool,
    lacked: Option<Lack>,
}

impl Limiter {
    fn new(limit: u64, share: Option<(Arc<MountShare>, Taken)>) -> Self {
        Self { limit, used: 0, share, growing: 0, refused: false, lacked: None }
    }

    /// Takes bytes of the memory of all plugins.
    fn take(&mut self, bytes: u64) -> bool {
        let Some((mount, taken)) = &mut self.share else { return true };
        let took = mount.more_memory(taken, bytes);
        took.map_err(|why| self.lacked = Some(Lack::Share(why))).is_ok()
    }

    /// Forgets what happened in the previous call.
    fn begin(&mut self) {
        self.refused = false;
        self.lacked = None;
    }

    /// Bytes.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.used.saturating_add(more) > self.limit {
            self.refused = true;
            return Ok(false);
        }
        if let Some(why) = address_space::shortage(more) {
            self.lacked = Some(Lack::Host(why));
            return Ok(false);
        }
        if !self.take(more) {
            return Ok(false);
        }
        self.growing = more;
        self.used += more;
        Ok(true)
    }

    /// The guest is told that it gets no memory. What becomes of the call is the host's fault, unless the
    /// guest asked for more than its own declaration allows.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let growing = std::mem::take(&mut self.growing);
        self.used = self.used.saturating_sub(growing);
        if let Some((_, taken)) = &mut self.share {
            taken.remove(growing);
        }
        if address_space::is_out_of_memory(&error) {
            self.lacked = Some(Lack::Host(address_space::explained(&format!("{error:#}"))));
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        Ok(desired <= MAX_TABLE && self.take(more.saturating_mul(TABLE_ELEMENT)))
    }
}
