//! The wasmtime engine, and the thread that interrupts guests. `tuning` has its settings, and what to do
//! where the system allows less than usual.

pub(crate) mod address_space;
mod tuning;

use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::capability;
use crate::cpu::TICK;
use crate::error::LoadError;
use crate::guest_state::GuestState;

pub(crate) use tuning::for_compiling;
pub use tuning::{Code, Execution, Memory};
pub(crate) use tuning::{INSTANCES, TABLES};

/// An engine with the contract and WASI linked, ready to load plugins.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<GuestState>,
    pub(crate) execution: Execution,
}

impl Host {
    /// Makes the engine and starts its clock, which stops when the engine is dropped.
    pub(crate) fn new() -> Result<Self, LoadError> {
        let (engine, execution) = tuning::engine().map_err(LoadError::engine)?;
        let mut linker = Linker::new(&engine);
        capability::add_to_linker(&mut linker).map_err(LoadError::engine)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(LoadError::engine)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)
            .map_err(LoadError::engine)?;
        start_clock(&engine)?;
        Ok(Self { engine, linker, execution })
    }
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
