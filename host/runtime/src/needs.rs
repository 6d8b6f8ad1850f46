//! What a component needs of a mount, by its bytes: memory to start with, and what it imports. The needs that a plugin
//! states itself are in its description; `loader::check` puts both beside what a mount has, for everything that serves
//! or checks mounts.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::capability::{self, Grants};
use crate::contract::PACKAGE;
use crate::engine::{Host, TABLES};
use crate::inspect;
use crate::spec::Limits;

/// What a component needs of a mount.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Bytes of linear memory that an instance begins with.
    memory: u64,
    /// How many places of the pool of instances an instance takes. Its memories and tables count, because there are only so
    /// many of them for each place.
    pub(crate) slots: u64,
    /// Interfaces of the contract that it imports, with their functions.
    imports: Vec<(String, Vec<String>)>,
    /// The patch version of the contract that it was built for.
    patch: u32,
}

impl Needs {
    pub(crate) fn of(host: &Host, component: &Component, bytes: &[u8]) -> Self {
        let ty = component.component_type();
        let mut patch = 0;
        let imports = ty.imports(&host.engine).filter_map(|(name, item)| {
            let ComponentItem::ComponentInstance(instance) = item.ty else { return None };
            let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
            let (interface, version) = rest.split_once('@')?;
            patch = patch.max(patch_of(version));
            let functions = instance
                .exports(&host.engine)
                .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                .map(|(name, _)| name.to_owned());
            Some((interface.to_owned(), functions.collect()))
        });
        let imports = imports.collect();
        Self { memory: inspect::initial_memory(bytes), slots: slots(component), imports, patch }
    }

    /// Checks whether an instance can start. The error says what to change.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), String> {
        if self.memory <= limits.memory {
            return Ok(());
        }
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(format!(
            "the plugin starts with {need} MiB of memory, but `limits.memory` is {limit} bytes; set \
             `limits = {{ memory = \"{advice}MiB\" }}` or more in the mount",
            need = mebibytes(self.memory),
            limit = limits.memory,
            advice = mebibytes(self.memory),
        ))
    }

    /// What the component imports and a mount does not grant, in words. A plugin may import more than it uses, so this
    /// is a hint and no refusal. One that imports all of the contract, as Python's and JavaScript's do, tells nothing
    /// by it.
    pub(crate) fn unmet_imports(&self, grants: &Grants) -> Vec<String> {
        capability::unmet_imports(&self.imports, self.patch, grants)
    }
}

/// Places in the pool for one instance.
fn slots(component: &Component) -> u64 {
    // Only a component that imports whole modules says nothing, and no host has any for it.
    let Some(needed) = component.resources_required() else { return 1 };
    needed.num_memories.max(needed.num_tables.div_ceil(TABLES)).max(1).into()
}

/// `1` of `0.1.1`.
fn patch_of(version: &str) -> u32 {
    version.rsplit('.').next().and_then(|patch| patch.parse().ok()).unwrap_or(0)
}
