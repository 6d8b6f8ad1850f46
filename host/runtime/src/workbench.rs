//! A plugin on its own: loaded, asked, called and measured by the code that serves, without a folder,
//! a configuration or a server around it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::CodeCache;
use crate::call::{CallError, Failure};
use crate::engine::Host;
use crate::generation;
use crate::instance::{Bounds, Instance};
use crate::load::{LoadError, Plugin, World, no_grants};
use crate::metrics::Metrics;
use crate::mount::{Limits, Mount, MountSpec};
use crate::serving::Serving;
use crate::trust::Trust;

/// An engine with the contract, and nothing else.
pub struct Workbench {
    host: Host,
    metrics: Arc<Metrics>,
    code: CodeCache,
}

/// What an instance costs.
#[derive(Clone, Copy, Debug)]
pub struct Instantiated {
    /// Time that it took to make.
    pub took: Duration,
    /// Its linear memory, in bytes, before its first call.
    pub memory: u64,
}

impl Workbench {
    /// Makes the engine. Fails where this machine can run none.
    pub fn new() -> Result<Self, LoadError> {
        let metrics = Metrics::new(&prometheus::Registry::new())
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        let code = CodeCache::open(None);
        Ok(Self { host: Host::new()?, metrics: Arc::new(metrics), code })
    }

    /// Keeps compiled code in a folder, and takes it from there: what was compiled once is not
    /// compiled again.
    #[must_use]
    pub fn keeping_code(self, folder: Option<&Path>) -> Self {
        Self { code: CodeCache::open(folder), ..self }
    }

    /// Compiles a plugin, links it and asks it what it is, as a gateway does; `file` gives the
    /// name, and is not read.
    pub async fn load(&self, file: &Path, bytes: Vec<u8>) -> Result<Arc<Plugin>, LoadError> {
        // Whoever looks at a file asked for it: trust is a rule of what is served.
        let vetted = Trust::default().vet(file, bytes, None).map_err(LoadError::Untrusted)?;
        Plugin::load(&self.host, &self.code, &self.metrics, file, vetted).await
    }

    /// Whether a plugin can serve a mount; an error says in words why not.
    pub async fn check(&self, spec: &MountSpec, plugin: &Plugin) -> Result<(), String> {
        generation::check(spec, plugin).await
    }

    /// A plugin at a mount, to be called. Fails as [`check`](Self::check) does.
    pub async fn mount(&self, spec: MountSpec, plugin: &Arc<Plugin>) -> Result<Mount, String> {
        generation::check(&spec, plugin).await?;
        let serving = Serving::new(&spec, plugin.clone(), self.metrics.clone());
        Ok(Mount::new(Arc::new(spec), Ok(Arc::new(serving))))
    }

    /// Makes an instance and drops it.
    pub async fn instantiate(
        &self,
        plugin: &Plugin,
        limits: &Limits,
    ) -> Result<Instantiated, CallError> {
        let bounds = Bounds { memory: limits.memory, cpu: limits.cpu, time: limits.time };
        let grants = no_grants(&self.metrics, &plugin.name);
        let begun = Instant::now();
        let World::Plugin(pre, _) = &plugin.world else {
            let what = "a service of wasi:http is measured by its calls alone";
            return Err(Failure::Unsupported(what.to_owned()).into());
        };
        let instance = Instance::new(pre, grants, bounds).await?;
        let took = begun.elapsed();
        Ok(Instantiated { took, memory: instance.memory() })
    }
}

impl std::fmt::Debug for Workbench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workbench")
    }
}
