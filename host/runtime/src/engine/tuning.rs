//! How plugins are executed: the settings of wasmtime, and the choice between them at the start.
//!
//! Two things differ between systems, and both are found out by trying. Executable memory: where the system
//! refuses it (`MemoryDenyWriteExecute=` of systemd, SELinux without `execmem`), plugins are interpreted by
//! Pulley. Address space: usually there is plenty, and linear memory comes from a pool of terabytes; where it
//! is limited, or where reserving it costs memory, each instance reserves little more than it uses.
//!
//! Why there are two ways of allocating (a HEAD request to restic's plugin, processor time of the gateway, two
//! cores, 2026-11): a fresh instance costs 36 µs from the pool and 80 µs without; a warm one 33 µs either way.
//! So the checks of bounds that code needs without 4 GiB of reservation cost nothing that can be measured, but
//! mapping and unmapping memory for each instance does. Interpreted, it is 120 to 190 µs warm.

use rustix::io::Errno;
use serde::Serialize;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Module, PoolingAllocationConfig,
};

use super::address_space;

/// The most instances of the plugins at mounts at once. `shares` divides them.
pub(crate) const INSTANCES: u32 = 1000;
/// Instances that are made besides: of plugins that describe themselves or check settings.
const OTHERS: u32 = 100;
/// The most core instances, and tables, of one component. Python's have about twenty.
const MAX_CORE_INSTANCES: u32 = 100;
/// Tables in the pool for each instance.
pub(crate) const TABLES: u32 = 4;
/// The most linear memories of one component.
const MAX_MEMORIES: u32 = 8;
/// The most linear memory of an instance, whatever a mount's limit is, if memory is pooled. This is
/// address space, not memory; code that has as much needs no checks of bounds.
const MAX_MEMORY: usize = 1 << 32;
/// What an instance reserves beyond what it uses, if memory is not pooled: this part of the limit of the
/// address space, ...
const SPARE_PART: u64 = 128;
/// ... within these bounds. Whenever it is used up, the memory moves, which costs a copy: with 2 MiB, a guest
/// that grows to 64 MiB copies a gigabyte.
const SPARE: std::ops::RangeInclusive<u64> = 2 << 20..=64 << 20;
/// Inaccessible address space after the memory of an instance, if memory is not pooled: enough for most
/// accesses with an offset to need a single check.
const GUARD: u64 = 64 << 10;
/// More memory than this for the reservation of one [`MAX_MEMORY`], in bytes, and reserving is not free.
const FREE: u64 = 4 << 20;
/// The target that wasmtime's interpreter runs.
#[cfg(target_endian = "little")]
const INTERPRETER: &str = "pulley64";
#[cfg(target_endian = "big")]
const INTERPRETER: &str = "pulley64be";
/// `(module (func))`, to try whether compiled code may be executed.
const PROBE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";

/// How this process executes plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Execution {
    /// What runs.
    pub code: Code,
    /// Where linear memory comes from.
    pub memory: Memory,
}

/// What runs of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Code {
    /// Machine code.
    Native,
    /// Code for an interpreter, because the system refuses executable memory.
    Interpreted,
}

/// Where the linear memory of plugins comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Terabytes of address space, reserved at the start.
    Pooled,
    /// Address space that grows with what an instance uses.
    Modest,
}

/// Makes an engine for what this system allows.
pub(super) fn engine() -> wasmtime::Result<(Engine, Execution)> {
    let (engine, memory) = allocating(Code::Native)?;
    let Err(refused) = Module::new(&engine, PROBE) else {
        return Ok((engine, Execution { code: Code::Native, memory }));
    };
    if !is_refused(&refused) {
        return Err(refused);
    }
    drop(engine);
    tracing::warn!(
        error = format!("{refused:#}"),
        "the system refuses executable memory (systemd: MemoryDenyWriteExecute=, SELinux: execmem), so plugins \
         are interpreted: a small request takes about four times the processor time; what is stored and \
         fetched is moved as fast as before"
    );
    let (engine, memory) = allocating(Code::Interpreted)?;
    Ok((engine, Execution { code: Code::Interpreted, memory }))
}

/// An engine that makes the same code without the pool that running it takes.
pub(crate) fn for_compiling(execution: Execution) -> wasmtime::Result<Engine> {
    Engine::new(&compiling(execution)?)
}

/// Whether the system has forbidden to execute code that this process made.
fn is_refused(error: &wasmtime::Error) -> bool {
    let forbidden = [Errno::ACCESS, Errno::PERM];
    error.chain().any(|cause| cause.downcast_ref().is_some_and(|errno| forbidden.contains(errno)))
}

/// Makes an engine with a pool, if there is room for one.
fn allocating(code: Code) -> wasmtime::Result<(Engine, Memory)> {
    // A limit is there to be shared: nothing is gained by reserving most of it at once.
    if address_space::limit().is_none() && reserving_is_free() {
        match Engine::new(&config(code, pool(INSTANCES + OTHERS))?) {
            Ok(engine) => return Ok((engine, Memory::Pooled)),
            // Processors with addresses of 39 bits, as in many small ARM machines, end up here.
            Err(error) => {
                tracing::info!(error = format!("{error:#}"), "no room for a pool of memory");
            }
        }
    }
    tracing::info!("each instance reserves little more address space than it uses");
    Ok((Engine::new(&config(code, None)?)?, Memory::Modest))
}

/// Whether reserving address space takes no memory. Emulators such as qemu before version 8 keep account of
/// every reserved page, and the whole pool would take more memory than most machines have.
fn reserving_is_free() -> bool {
    let before = address_space::resident();
    let engine = config(Code::Native, pool(1)).and_then(|config| Engine::new(&config));
    let after = address_space::resident();
    match (engine, before, after) {
        (Ok(_), Some(before), Some(after)) => after.saturating_sub(before) < FREE,
        _ => false,
    }
}

fn config(code: Code, pool: Option<PoolingAllocationConfig>) -> wasmtime::Result<Config> {
    let memory = if pool.is_some() { Memory::Pooled } else { Memory::Modest };
    let mut config = compiling(Execution { code, memory })?;
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Ok(config)
}

/// Everything that compiled code depends on.
fn compiling(Execution { code, memory }: Execution) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // The contract has plain functions only; without component-model concurrency calls are faster.
    config.concurrency_support(false);
    if code == Code::Interpreted {
        config.target(INTERPRETER)?;
    }
    match memory {
        Memory::Pooled => {
            config.memory_reservation(MAX_MEMORY as u64);
        }
        Memory::Modest => {
            config.memory_reservation(0);
            config.memory_reservation_for_growth(spare(address_space::limit()));
            config.memory_guard_size(GUARD);
        }
    }
    Ok(config)
}

/// What an instance reserves beyond what it uses, in bytes, if the address space has this limit.
fn spare(limit: Option<u64>) -> u64 {
    limit.map_or(*SPARE.end(), |limit| (limit / SPARE_PART).clamp(*SPARE.start(), *SPARE.end()))
}

/// A pool for this many instances.
fn pool(instances: u32) -> Option<PoolingAllocationConfig> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        // Unlike memories and tables, these are only counted.
        .total_core_instances(instances * MAX_CORE_INSTANCES)
        .total_memories(instances)
        .total_tables(instances * TABLES)
        .total_stacks(instances)
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
        // A batch would keep as many instances with all their memory, which nobody counts any more.
        .decommit_batch_size(1)
        .max_unused_warm_slots(64)
        .pagemap_scan(Enabled::Auto);
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_runs_the_probe() {
        for code in [Code::Native, Code::Interpreted] {
            for pool in [pool(1), None] {
                let engine = Engine::new(&config(code, pool).unwrap()).unwrap();
                Module::new(&engine, PROBE).unwrap();
                assert_eq!(engine.is_pulley(), code == Code::Interpreted);
            }
        }
    }

    #[test]
    fn an_instance_reserves_a_small_part_of_the_address_space() {
        assert_eq!(spare(None), 64 << 20);
        for (limit, expected) in [(64 << 40, 64 << 20), (1 << 30, 8 << 20), (1 << 20, 2 << 20)] {
            assert_eq!(spare(Some(limit)), expected);
        }
    }

    #[test]
    fn the_engine_for_compiling_makes_the_code_that_the_other_runs() {
        for code in [Code::Native, Code::Interpreted] {
            for (memory, pool) in [(Memory::Pooled, pool(1)), (Memory::Modest, None)] {
                let execution = Execution { code, memory };
                let module = for_compiling(execution).unwrap().precompile_module(PROBE).unwrap();
                let engine = Engine::new(&config(code, pool).unwrap()).unwrap();
                #[expect(unsafe_code, reason = "the only way to load compiled code")]
                // SAFETY: the line above made it.
                let loaded = unsafe { Module::deserialize(&engine, module) };
                loaded.unwrap_or_else(|error| panic!("{execution:?}: {error:#}"));
            }
        }
    }

    /// The cache of compiled code tells engines apart by this.
    #[test]
    fn engines_whose_code_differs_have_different_hashes() {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let hash = |code, pool| {
            let engine = Engine::new(&config(code, pool).unwrap()).unwrap();
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let all = [
            hash(Code::Native, pool(1)),
            hash(Code::Native, None),
            hash(Code::Interpreted, pool(1)),
            hash(Code::Interpreted, None),
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn only_a_refusal_of_executable_memory_leads_to_interpretation() {
        for errno in [Errno::ACCESS, Errno::PERM] {
            let error = wasmtime::Error::from(errno).context("cannot make memory executable");
            assert!(is_refused(&error));
        }
        assert!(!is_refused(&wasmtime::Error::from(Errno::NOMEM)));
        assert!(!is_refused(&wasmtime::format_err!("invalid")));
    }
}
