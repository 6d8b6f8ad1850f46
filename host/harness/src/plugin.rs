//! The plugin under test: a file that the server's own loader has loaded. It is compiled once, or taken from
//! the cache of compiled code, and shared by all fixtures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepgate_runtime::capability::Requests;
use keepgate_runtime::{Generation, Loader, Metrics, MountSpec, Plugin};

/// A plugin that cannot be tested.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PluginError(String);

/// A loaded plugin.
pub struct PluginUnderTest {
    loader: Loader,
    plugin: Arc<Plugin>,
    _folder: tempfile::TempDir,
}

impl PluginUnderTest {
    /// Loads a component. `code` is the folder for compiled code, if it is to be cached.
    ///
    /// # Errors
    ///
    /// Why the server would refuse the file.
    pub fn load(file: &Path, code: Option<&Path>) -> Result<Self, PluginError> {
        let refused =
            |why: &dyn std::fmt::Display| PluginError(format!("{}: {why}", file.display()));
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // A folder of its own, so that the loader does not load the files beside it.
        let folder = tempfile::tempdir().map_err(|error| refused(&error))?;
        std::fs::copy(file, folder.path().join(format!("{name}.wasm")))
            .map_err(|error| refused(&error))?;
        let metrics = Metrics::new(&prometheus::Registry::new());
        let metrics = Arc::new(metrics.map_err(|error| refused(&error))?);
        let mut loader =
            Loader::new(folder.path(), code, metrics).map_err(|error| refused(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| refused(&error))?.block_on(async {
            while !loader.scan().await.settled {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        match loader.plugins().pop() {
            Some(plugin) => Ok(Self { loader, plugin, _folder: folder }),
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let generation = runtime.map_err(|error| refused(&error))?;
                let refusals = generation.block_on(loader.build(&[])).refused;
                let why =
                    refusals.first().map_or("expected a file `NAME.wasm`", |first| &first.why);
                Err(refused(&why))
            }
        }
    }

    /// The plugin's name for mounts.
    pub fn name(&self) -> &str {
        &self.plugin.name
    }

    /// The SHA-256 of the file in lower-case hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.plugin.digest
    }

    /// What its description requests from a mount.
    pub(crate) fn requests(&self) -> &Requests {
        &self.plugin.description.requests
    }

    /// A generation with one mount.
    pub(crate) async fn generation(&self, spec: MountSpec) -> Arc<Generation> {
        Arc::new(self.loader.build(&[Arc::new(spec)]).await)
    }
}

impl std::fmt::Debug for PluginUnderTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PluginUnderTest").field(&self.plugin).finish()
    }
}

/// Finds the built component `NAME.wasm` for a plugin's tests: in the folder that `KEEPGATE_PLUGIN_DIR` names
/// (`cargo xtask test` sets it), or in the folder of the crate under test, where `keepgate plugin build`
/// writes it.
///
/// # Errors
///
/// If it is in neither. The message says what to do.
pub fn component(name: &str) -> Result<PathBuf, PluginError> {
    let file = format!("{name}.wasm");
    let built =
        std::env::var_os("KEEPGATE_PLUGIN_DIR").map(|folder| Path::new(&folder).join(&file));
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(|folder| Path::new(&folder).join(&file));
    let found = built.iter().chain(&own).find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        let looked = built.iter().chain(&own).map(|path| path.display().to_string());
        PluginError(format!(
            "no {file} ({}); run `keepgate plugin build`, or set KEEPGATE_PLUGIN_DIR to the folder \
             that contains it",
            looked.collect::<Vec<_>>().join(", ")
        ))
    })
}
