//! What a call carries: the guest's handles, what its mount grants, and how much memory it has.
//!
//! One [`State`] belongs to one instance. Warm instances keep theirs between calls; everything
//! that belongs to a single call is set by [`State::begin`] and checked by [`State::end`].

use std::collections::BTreeMap;
use std::sync::Arc;

use keepgate_jobs::Reporter;
use prometheus::IntCounter;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::call::{Failure, Limit, Principal};
use crate::cpu::Cpu;
use crate::grant::{Grant, Services};
use crate::held::{Held, MAX_HANDLES};
use crate::imports::http::ReplyStart;
use crate::metrics::{PluginMetrics, Voice};
use crate::wasi_http::HttpState;

/// Most random bytes that one call of WASI's hands out.
const MAX_RANDOM: u64 = 1 << 20;
/// Most table elements of a guest: function pointers, mostly.
const MAX_TABLE: usize = 100_000;

/// What a mount grants its plugin.
#[derive(Debug)]
pub(crate) struct Grants {
    /// The mount's path, for messages.
    pub(crate) mount: String,
    /// The plugin's name, for messages.
    pub(crate) plugin: String,
    /// The mount's settings as a JSON object.
    pub(crate) settings: String,
    pub(crate) stores: BTreeMap<String, Arc<dyn Grant>>,
    pub(crate) services: Services,
    /// Bytes of bodies that the plugin itself reads and makes.
    pub(crate) moved: IntCounter,
    pub(crate) metrics: Arc<PluginMetrics>,
    /// Kinds of job that the plugin runs, and may start.
    pub(crate) kinds: Vec<String>,
    pub(crate) voice: Voice,
    /// Variables for a service of `wasi:http`; none for a plugin.
    pub(crate) environment: Vec<(String, String)>,
}

/// A job that a call runs.
#[derive(Debug)]
pub(crate) struct RunningJob {
    pub(crate) id: String,
    pub(crate) reporter: Reporter,
}

/// The store data of one instance.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) grants: Arc<Grants>,
    pub(crate) cpu: Arc<Cpu>,
    /// For whom the call is: stores may differ by it.
    pub(crate) principal: Option<Principal>,
    /// What logs call the request that the call answers, if it answers one.
    pub(crate) request: Option<String>,
    /// The job that the call runs, if it runs one.
    pub(crate) job: Option<RunningJob>,
    /// Taken when the guest starts a streamed reply.
    pub(crate) reply_start: Option<ReplyStart>,
    /// Listings that are open.
    pub(crate) listings: usize,
    /// The number of the import's call that was noted last.
    noted: Option<u64>,
    /// What the host holds for the call.
    pub(crate) held: Arc<Held>,
    pub(crate) limiter: Limiter,
    /// Of a service of `wasi:http`.
    pub(crate) http: HttpState,
    /// Made when a guest that wants WASI first asks: most guests do not.
    wasi: Option<WasiCtx>,
}

impl State {
    pub(crate) fn new(grants: Arc<Grants>, memory: u64, cpu: Arc<Cpu>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            table,
            grants,
            cpu,
            principal: None,
            request: None,
            job: None,
            reply_start: None,
            listings: 0,
            noted: None,
            held: Held::new(memory),
            limiter: Limiter { limit: memory, used: 0, refused: false },
            http: HttpState::default(),
            wasi: None,
        }
    }

    /// Makes the state ready for one call.
    pub(crate) fn begin(&mut self, reply_start: Option<ReplyStart>) {
        self.reply_start = reply_start;
        self.limiter.refused = false;
        // A new one, since the reply of the call before may be on its way yet.
        self.held = Held::new(self.limiter.limit);
        self.cpu.begin();
    }

    /// True where the guest left nothing behind, so that its instance may serve again.
    pub(crate) fn end(&mut self) -> bool {
        self.reply_start = None;
        self.principal = None;
        self.request = None;
        self.table.is_empty()
    }

    /// Tells whoever listens that the guest calls an import. A server has no listener, and `about` is
    /// not asked then.
    pub(crate) fn note(&mut self, import: &'static str, about: impl FnOnce(&Self) -> String) {
        let Some(surroundings) = self.grants.services.surroundings.clone() else { return };
        self.noted = Some(surroundings.called(import, about(self)));
    }

    /// Tells whoever listens how the call failed that was noted last: a guest makes one at a time.
    pub(crate) fn note_failure(&mut self, failure: &Failure) {
        if let (Some(surroundings), Some(call)) =
            (&self.grants.services.surroundings, self.noted.take())
        {
            surroundings.failed(call, failure);
        }
    }

    /// Linear memory that the guest may have, in bytes.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.limiter.limit
    }

    /// The limit that the guest went over, if it did.
    pub(crate) fn over_limit(&self) -> Option<Limit> {
        let memory = || self.limiter.refused.then_some(Limit::Memory(self.limiter.limit));
        self.cpu.over().map(Limit::Cpu).or_else(memory).or_else(|| self.held.over())
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Nothing is granted: no files, no sockets, closed standard streams.
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut wasi = WasiCtxBuilder::new();
            wasi.envs(&self.grants.environment);
            wasi.allow_tcp(false).allow_udp(false).max_random_size(MAX_RANDOM).build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// Memory of an instance, all its linear memories together.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: u64,
    used: u64,
    refused: bool,
}

impl Limiter {
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
        let fits = self.used.saturating_add(more) <= self.limit;
        if fits {
            self.used += more;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }
}
