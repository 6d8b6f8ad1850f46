//! The one wasmtime engine, how it is tuned, and the clock that interrupts guests.

use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::contract::bindings::Plugin;
use crate::load::LoadError;
use crate::state::State;

/// How often guests that compute are interrupted, to be charged and to yield.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Instances that may live at once, all plugins together, where memory is pooled.
pub(crate) const INSTANCES: u32 = 1000;
/// The most core instances, and tables, of one component. Those of Python have some twenty.
const MAX_CORE_INSTANCES: u32 = 100;
/// The most linear memories of one component.
const MAX_MEMORIES: u32 = 8;
/// The most linear memory of an instance, whatever a mount's limit says, where memory is pooled.
/// It is address space, not memory.
const MAX_MEMORY: usize = 1 << 32;

/// An engine with the contract and WASI linked, ready to load plugins.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
}

impl Host {
    /// Makes the engine and starts its clock. The clock ends with the engine.
    pub(crate) fn new() -> Result<Self, LoadError> {
        // Some machines have too little address space for the pool: 39-bit ones, and those with
        // a limit on virtual memory. Only trying tells.
        let engine = match Engine::new(&config(true)) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::info!(%error, "no pool of instances here; each is allocated on its own");
                Engine::new(&config(false)).map_err(LoadError::engine)?
            }
        };
        let mut linker = Linker::new(&engine);
        Plugin::add_to_linker::<_, wasmtime::component::HasSelf<State>>(&mut linker, |state| state)
            .map_err(LoadError::engine)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(LoadError::engine)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)
            .map_err(LoadError::engine)?;
        start_clock(&engine)?;
        Ok(Self { engine, linker })
    }
}

fn config(pooled: bool) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Plugins speak plain functions; without component-model concurrency a call is shorter.
    config.concurrency_support(false);
    if pooled {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(INSTANCES)
            .total_core_instances(INSTANCES * 4)
            .total_memories(INSTANCES)
            .total_tables(INSTANCES * 4)
            .total_stacks(INSTANCES)
            // One component must not take what others need.
            .max_core_instances_per_component(MAX_CORE_INSTANCES)
            .max_tables_per_component(MAX_CORE_INSTANCES)
            .max_memories_per_component(MAX_MEMORIES)
            .max_memory_size(MAX_MEMORY)
            // What a small plugin touches stays mapped between instances: resetting it by
            // writing is cheaper than giving the pages back to the kernel.
            .linear_memory_keep_resident(1 << 18)
            .table_keep_resident(1 << 14)
            .async_stack_keep_resident(1 << 14)
            .decommit_batch_size(16)
            .max_unused_warm_slots(64)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

fn start_clock(engine: &Engine) -> Result<(), LoadError> {
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("guest-clock".to_owned())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map_err(|error| LoadError::engine(error.into()))?;
    Ok(())
}
