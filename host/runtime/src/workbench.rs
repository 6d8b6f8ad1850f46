//! Loads, calls and measures a plugin on its own, with the code that serves plugins but without a folder, a
//! configuration or a server.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::CodeCache;
use crate::compiler::Compiler;
use crate::engine::Host;
use crate::error::LoadError;
use crate::instance::Instance;
use crate::load::{LoadContext, Plugin, World, no_mount};
use crate::loader;
use crate::metrics::Metrics;
use crate::mount::Mount;
use crate::serving::Serving;
use crate::spec::{Bounds, Limits, MountSpec};
use crate::trust::Trust;
use keepgate_core::{CallError, Failure};

/// An engine with the contract linked.
pub struct Workbench(LoadContext);

/// The cost of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Instantiated {
    /// The time that it took to make.
    pub took: Duration,
    /// Its linear memory, in bytes, before its first call.
    pub memory: u64,
}

impl Workbench {
    /// Makes the engine. Fails if this machine cannot run it.
    pub fn new() -> Result<Self, LoadError> {
        let metrics = Metrics::new(&prometheus::Registry::new())
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        let (host, cache, metrics) = (Host::new()?, CodeCache::open(None), Arc::new(metrics));
        Ok(Self(LoadContext::new(host, cache, metrics)))
    }

    /// Caches compiled code in a folder.
    #[must_use]
    pub fn keeping_code(mut self, folder: Option<&Path>) -> Self {
        self.0.cache = CodeCache::open(folder);
        self
    }

    /// Compiles in processes of their own, which have limits, instead of in this one.
    #[must_use]
    pub fn with_compiler(mut self, compiler: Compiler) -> Self {
        self.0.compiler = Some(compiler);
        self
    }

    /// Compiles and links a plugin and asks it to describe itself, as a gateway does. `file` gives its name
    /// and is not read.
    pub async fn load(&self, file: &Path, bytes: Vec<u8>) -> Result<Arc<Plugin>, LoadError> {
        // Rules of trust are about what a gateway serves.
        let vetted = Trust::default().vet(file, bytes, None).map_err(LoadError::Untrusted)?;
        Plugin::load(&self.0, file, vetted).await
    }

    /// Checks whether a plugin can serve a mount. The error says why not.
    pub async fn check(&self, spec: &MountSpec, plugin: &Plugin) -> Result<(), String> {
        loader::check(spec, plugin).await
    }

    /// Mounts a plugin, to call it. Fails as [`check`](Self::check) does.
    pub async fn mount(&self, spec: MountSpec, plugin: &Arc<Plugin>) -> Result<Mount, String> {
        loader::check(&spec, plugin).await?;
        let serving = Serving::new(&spec, plugin.clone(), &self.0);
        Ok(Mount::new(Arc::new(spec), serving))
    }

    /// Makes an instance and drops it.
    pub async fn instantiate(
        &self,
        plugin: &Plugin,
        limits: &Limits,
    ) -> Result<Instantiated, CallError> {
        let bounds = Bounds::from(limits);
        let mount = no_mount(&self.0.metrics, &plugin.name);
        let begun = Instant::now();
        let World::Plugin(pre, _) = &plugin.world else {
            let what = "instances of a wasi:http service cannot be measured apart from its calls";
            return Err(Failure::Unsupported(what.to_owned()).into());
        };
        let instance = Instance::new(pre, mount, bounds).await?;
        let took = begun.elapsed();
        Ok(Instantiated { took, memory: instance.memory() })
    }
}

impl std::fmt::Debug for Workbench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workbench")
    }
}
