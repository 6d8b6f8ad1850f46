//! What the mounts of a gateway share, and how it is divided: instances, memory, open files, and turns at computing.
//!
//! A call is held to the limits of its mount; this bounds what all calls, jobs and replies together take, and makes sure
//! that no mount takes what others need. Half of each pool is guaranteed to the mounts that serve, in equal parts; the other
//! half, and what a mount's limits could never use, is for whoever asks first (`pool`). Processors are shared by turns
//! (`processors`). To share something else, add a pool here, and take from it where the thing is made.
//!
//! Shares belong to a path, not to a plugin: replacing a plugin a hundred times makes no hundred shares.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::engine::INSTANCES;
use crate::host_allocation::MAX_OPEN;
use crate::metrics::Metrics;
use crate::spec::Limits;
use keepgate_core::CallError;

pub(crate) use pool::Taken;
use pool::{Pool, Share};
pub(crate) use processors::Load;
use processors::Processors;

mod machine;
mod pool;
mod processors;

/// The part of the machine's memory that plugins may take, unless the operator says how much.
const PART_OF_MEMORY: u64 = 2;
/// Where the machine does not say how much memory it has.
const UNKNOWN_MEMORY: u64 = 1 << 30;
/// The part of the files that this process may have open that plugins may take. The others are connections, and files of
/// the stores.
const PART_OF_FILES: u64 = 2;
/// What an instance takes besides its linear memory, in bytes: its stack, as far as most use it, and the host's state.
const INSTANCE: u64 = 128 << 10;

/// The pools of a gateway, and the mounts among which they are divided.
pub(crate) struct Shares {
    instances: Arc<Pool>,
    memory: Arc<Pool>,
    files: Arc<Pool>,
    processors: Arc<Processors>,
    mounts: Mutex<BTreeMap<String, Weak<MountShare>>>,
    idle: Mutex<Vec<Weak<dyn Idle>>>,
    metrics: Arc<Metrics>,
}

/// The memory that plugins may take together.
#[derive(Clone)]
pub struct PluginMemory(Arc<Pool>);

impl PluginMemory {
    /// What they have taken, in bytes.
    pub fn used(&self) -> u64 {
        self.0.used()
    }

    /// Keeps so many bytes from them, until the next call, because the process has more memory than it should. What is
    /// guaranteed to mounts stays, and so does what was taken.
    pub fn withhold(&self, bytes: u64) {
        self.0.withhold(bytes);
    }
}

/// What one mount has of each.
pub(crate) struct MountShare {
    shares: Arc<Shares>,
    instances: Arc<Share>,
    memory: Arc<Share>,
    files: Arc<Share>,
    pub(crate) load: Arc<Load>,
}

/// What a mount has of each pool at one moment, for operators.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) instances: Part,
    pub(crate) memory_bytes: Part,
    pub(crate) open_files: Part,
}

/// How much of a pool a mount uses, and how much is guaranteed to it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) used: u64,
    pub(crate) guaranteed: u64,
}

/// What a mount that serves could use.
pub(crate) struct Claim {
    pub(crate) share: Option<Arc<MountShare>>,
    /// Places in the pool for each instance.
    pub(crate) slots: u64,
    pub(crate) limits: Limits,
}

/// Something that keeps instances for later and can do without them.
pub(crate) trait Idle: Send + Sync {
    /// Drops them.
    fn release(&self);
}

impl Shares {
    /// Pools for this machine. `memory` is how many bytes plugins may take together.
    pub(crate) fn new(metrics: Arc<Metrics>, memory: Option<u64>) -> Arc<Self> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / PART_OF_FILES;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            instances: Pool::new(INSTANCES.into()),
            memory: Pool::new(memory.unwrap_or_else(usual_memory)),
            files: Pool::new(files.max(MAX_OPEN as u64)),
            processors: Processors::new(processors),
            mounts: Mutex::default(),
            idle: Mutex::default(),
            metrics,
        })
    }

    /// Bytes that plugins may take together.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.total()
    }

    /// The same as others may see and limit it.
    pub(crate) fn plugin_memory(&self) -> PluginMemory {
        PluginMemory(self.memory.clone())
    }

    /// The share of the mount at a path. It has nothing for certain until the pools are divided.
    pub(crate) fn mount(self: &Arc<Self>, path: &str) -> Arc<MountShare> {
        let mut mounts = lock(&self.mounts);
        if let Some(share) = mounts.get(path).and_then(Weak::upgrade) {
            return share;
        }
        let waited = self.metrics.waited.with_label_values(&[path]);
        let share = Arc::new(MountShare {
            shares: self.clone(),
            instances: self.instances.join(),
            memory: self.memory.join(),
            files: self.files.join(),
            load: Arc::new(self.processors.join(path, waited)),
        });
        mounts.retain(|_, share| share.strong_count() > 0);
        mounts.insert(path.to_owned(), Arc::downgrade(&share));
        share
    }

    /// Divides the pools among the mounts that serve. `idle` are those that keep instances for later.
    pub(crate) fn divide(&self, claims: &[Claim], idle: Vec<Weak<dyn Idle>>) {
        let mounts = || claims.iter().filter_map(|claim| Some((&**claim.share.as_ref()?, claim)));
        let instances = mounts().map(|(mount, claim)| (&*mount.instances, claim.instances()));
        self.instances.divide(&instances.collect::<Vec<_>>());
        let memory = mounts().map(|(mount, claim)| (&*mount.memory, claim.memory()));
        self.memory.divide(&memory.collect::<Vec<_>>());
        let files = mounts().map(|(mount, claim)| (&*mount.files, claim.files()));
        self.files.divide(&files.collect::<Vec<_>>());
        *lock(&self.idle) = idle;
    }

    /// What the limits of these mounts, by their paths, allow and the pools cannot give.
    pub(crate) fn crowding(&self, mounts: &[(&str, Limits)]) -> Vec<String> {
        let mut found = Vec::new();
        let size = |bytes: u64| format!("{} MiB", bytes >> 20);
        let (total, count) = (self.memory.total(), (mounts.len() as u64).max(1));
        if let Some(machine) = machine::memory().filter(|machine| *machine < total) {
            let (total, machine) = (size(total), size(machine));
            found.push(format!(
                "plugins may take {total} of memory together, but there is only {machine} for this process"
            ));
        }
        for (path, limits) in mounts {
            let (memory, part) = (limits.memory, self.memory.part(count));
            if memory > part {
                let (memory, part, total) = (size(memory), size(part), size(total));
                found.push(format!(
                    "mount {path}: a call may use {memory} of memory, but of the {total} for all plugins only {part} are \
                     guaranteed to a mount; raise `memory` in [plugins], or lower `limits.memory`"
                ));
            }
        }
        let files = self.files.part(count);
        if files < MAX_OPEN as u64 {
            found.push(format!(
                "only {files} open files are guaranteed to the plugin of a mount, and a call may need {MAX_OPEN}; raise the \
                 limit of this process (ulimit -n, LimitNOFILE=)"
            ));
        }
        found
    }

    /// Whether a call waits for an instance.
    pub(crate) fn is_short_of_instances(&self) -> bool {
        self.instances.has_waiters()
    }

    /// Makes room by dropping what is only kept for later.
    fn reclaim(&self) {
        let idle: Vec<_> = lock(&self.idle).iter().filter_map(Weak::upgrade).collect();
        idle.iter().for_each(|idle| idle.release());
    }
}

impl Claim {
    fn calls(&self) -> u64 {
        self.limits.calls as u64
    }

    fn instances(&self) -> u64 {
        self.calls().saturating_mul(self.slots)
    }

    /// Linear memory, and as much again that the host holds.
    fn memory(&self) -> u64 {
        self.limits.memory.saturating_mul(2).saturating_mul(self.calls())
    }

    fn files(&self) -> u64 {
        self.calls().saturating_mul(MAX_OPEN as u64)
    }
}

impl MountShare {
    /// What an instance takes of the pools, however long it lives. `slots` is the number of places that it needs in
    /// wasmtime's pool. Waits for at most `patience` until there is one.
    pub(crate) async fn instance(
        &self,
        slots: u64,
        patience: Duration,
    ) -> Result<(Taken, Taken), CallError> {
        let slots = match self.instances.try_take(slots) {
            Some(taken) => taken,
            None => {
                let taking = self.instances.take(slots);
                let waiting = async {
                    // A place in the queue first: what becomes free now must not go unseen.
                    let mut taking = std::pin::pin!(taking);
                    let at_once = futures_util::poll!(&mut taking);
                    if let std::task::Poll::Ready(taken) = at_once {
                        return taken;
                    }
                    self.shares.reclaim();
                    taking.await
                };
                let waited = tokio::time::timeout(patience, waiting).await;
                let busy = || CallError::Crowded(self.explain("instances", &self.instances));
                waited.ok().flatten().ok_or_else(busy)?
            }
        };
        let memory = self.memory(INSTANCE).map_err(CallError::Crowded)?;
        Ok((slots, memory))
    }

    /// Takes memory. The error says for the operator why there is none.
    pub(crate) fn memory(&self, bytes: u64) -> Result<Taken, String> {
        let take = || self.memory.try_take(bytes);
        let taken = take().or_else(|| {
            self.shares.reclaim();
            take()
        });
        taken.ok_or_else(|| self.explain("bytes of memory", &self.memory))
    }

    /// Adds to what has been taken of the memory.
    pub(crate) fn more_memory(&self, taken: &mut Taken, bytes: u64) -> Result<(), String> {
        if taken.add(bytes) {
            return Ok(());
        }
        self.shares.reclaim();
        match taken.add(bytes) {
            true => Ok(()),
            false => Err(self.explain("bytes of memory", &self.memory)),
        }
    }

    /// Takes the right to have one more file open.
    pub(crate) fn file(&self) -> Result<Taken, String> {
        self.files.try_take(1).ok_or_else(|| self.explain("open files", &self.files))
    }

    /// What it has at the moment.
    pub(crate) fn usage(&self) -> Usage {
        let of = |share: &Share| Part { used: share.used(), guaranteed: share.guaranteed() };
        Usage {
            instances: of(&self.instances),
            memory_bytes: of(&self.memory),
            open_files: of(&self.files),
        }
    }

    /// Whether it has as many instances, or as much memory, as is guaranteed to it: one more would be one that others could
    /// have.
    pub(crate) fn has_its_guarantee(&self) -> bool {
        self.instances.used() >= self.instances.guaranteed()
            || self.memory.used() + INSTANCE >= self.memory.guaranteed()
    }

    /// Whether a call, of whatever mount, waits for an instance.
    pub(crate) fn is_short_of_instances(&self) -> bool {
        self.shares.is_short_of_instances()
    }

    fn explain(&self, what: &str, share: &Share) -> String {
        let (used, guaranteed) = (share.used(), share.guaranteed());
        let total = share.total();
        format!(
            "plugins may take {total} {what} together; this mount has {used}, of which {guaranteed} are guaranteed to it, \
             and no more are free"
        )
    }
}

impl std::fmt::Debug for MountShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountShare")
            .field("instances", &self.instances)
            .field("memory", &self.memory)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn usual_memory() -> u64 {
    machine::memory().unwrap_or(UNKNOWN_MEMORY) / PART_OF_MEMORY
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
