//! The wasmtime engine, its tuning, and the thread that interrupts guests.

use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::capability;
use crate::cpu::TICK;
use crate::error::LoadError;
use crate::guest_state::GuestState;

/// The most instances of all plugins at once, if memory is pooled.
pub(crate) const INSTANCES: u32 = 1000;
/// The most core instances, and tables, of one component. Python's have about twenty.
const MAX_CORE_INSTANCES: u32 = 100;
/// The most linear memories of one component.
const MAX_MEMORIES: u32 = 8;
/// The most linear memory of an instance, whatever a mount's limit is, if memory is pooled. This is
/// address space, not memory.
const MAX_MEMORY: usize = 1 << 32;

/// An engine with the contract and WASI linked, ready to load plugins.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<GuestState>,
}

impl Host {
    /// Makes the engine and starts its clock, which stops when the engine is dropped.
    pub(crate) fn new() -> Result<Self, LoadError> {
        // Some machines have too little address space for the pool: those with 39-bit addresses or a
        // limit on virtual memory. There is no way to know but to try.
        let engine = match Engine::new(&config(true)) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::info!(%error, "cannot pool instances; each is allocated separately");
                Engine::new(&config(false)).map_err(LoadError::engine)?
            }
        };
        let mut linker = Linker::new(&engine);
        capability::add_to_linker(&mut linker).map_err(LoadError::engine)?;
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
    // The contract has plain functions only; without component-model concurrency calls are faster.
    config.concurrency_support(false);
    if pooled {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(INSTANCES)
            .total_core_instances(INSTANCES * 4)
            .total_memories(INSTANCES)
            .total_tables(INSTANCES * 4)
            .total_stacks(INSTANCES)
            // One component must not use up what others need.
            .max_core_instances_per_component(MAX_CORE_INSTANCES)
            .max_tables_per_component(MAX_CORE_INSTANCES)
            .max_memories_per_component(MAX_MEMORIES)
            .max_memory_size(MAX_MEMORY)
            // The pages that a small plugin touches stay mapped between instances: zeroing them is
            // cheaper than returning them to the kernel.
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
