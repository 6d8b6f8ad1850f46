//! Loads the plugins of a folder: finds out what has changed, loads it, and says what is refused. If a file is refused, its
//! previous version stays active. `mounts` builds generations from what is loaded.

mod file;
mod loading;
mod mounts;
mod trust_rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::CodeCache;
use crate::compiler::Compiler;
use crate::engine::{Code, Execution, Host};
use crate::error::LoadError;
use crate::folder::{self, Found, Stamps, is_absent, name_of, shown};
use crate::generation::Generation;
use crate::load::{LoadContext, Plugin};
use crate::metrics::Metrics;
use crate::shares::{PluginMemory, Shares};
use crate::trust::Trust;
use file::{Examined, File, Loaded};
use loading::{LoadingFiles, Start};

pub(crate) use mounts::check;
pub use trust_rules::Undo;

/// How long the loader waits for the rest of a file that looks half-copied, or for a missing signature,
/// before it refuses the file; and for a file that is away, as it is between a rename and a write, before
/// it unloads the plugin.
const SETTLING_TIME: Duration = Duration::from_secs(3);

/// Loads the plugins of a folder and builds generations from them. One task owns it, so nothing is loaded
/// twice at the same time.
pub struct Loader {
    context: LoadContext,
    folder: PathBuf,
    /// Names of the only plugins to load; `None` for all.
    only: Option<BTreeSet<String>>,
    trust: Trust,
    /// How long a scan waits for files that are being loaded.
    patience: Duration,
    files: BTreeMap<PathBuf, File>,
    loading: LoadingFiles,
    /// Why the folder could not be read at the last scan.
    unreadable: Option<String>,
    previous: Option<Arc<Generation>>,
}

/// What a scan of the folder found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Whether something was loaded, refused or removed: build a new generation.
    pub changed: bool,
    /// Whether every file seems complete and is loaded, and none has just gone; if not, scan again soon.
    pub settled: bool,
}

impl Scanned {
    fn add(&mut self, examined: Examined) {
        self.settled &= examined != Examined::Incomplete;
        self.changed |= examined == Examined::Changed;
    }
}

impl Loader {
    /// Makes the engine. `code` is the folder for compiled code; without one, everything is compiled
    /// again at each start.
    pub fn new(
        folder: &Path,
        code: Option<&Path>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LoadError> {
        let host = Host::new()?;
        metrics.interpreted.set(i64::from(host.execution.code == Code::Interpreted));
        let cache = CodeCache::open(code);
        Ok(Self {
            context: LoadContext::new(host, cache, metrics),
            folder: folder.to_owned(),
            only: None,
            trust: Trust::default(),
            patience: Duration::MAX,
            files: BTreeMap::new(),
            loading: LoadingFiles::default(),
            unreadable: None,
            previous: None,
        })
    }

    /// Restricts it to plugins with these names before the first scan; whatever else is in the folder is
    /// ignored.
    #[must_use]
    pub fn with_only(mut self, names: Option<BTreeSet<String>>) -> Self {
        self.only = names;
        self
    }

    /// Compiles in processes of their own, which have limits, instead of in this one.
    #[must_use]
    pub fn with_compiler(mut self, compiler: Compiler) -> Self {
        self.context.compiler = Some(compiler);
        self
    }

    /// How long a scan waits for files that are being loaded. Those that are not loaded by then are part of a later scan.
    /// Without this, a scan waits for all of them.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How much memory, in bytes, plugins may take together. Without this, half of what there is for this process.
    #[must_use]
    pub fn with_memory(mut self, bytes: Option<u64>) -> Self {
        self.context.shares = Shares::new(self.context.metrics.clone(), bytes);
        self
    }

    /// How much memory, in bytes, plugins may take together.
    pub fn memory(&self) -> u64 {
        self.context.shares.memory()
    }

    /// The same as the gateway may see and limit it while plugins are at work.
    pub fn plugin_memory(&self) -> PluginMemory {
        self.context.shares.plugin_memory()
    }

    /// How plugins are executed on this system.
    pub fn execution(&self) -> Execution {
        self.context.host.execution
    }

    /// Scans the folder and loads what is new or changed.
    pub async fn scan(&mut self) -> Scanned {
        let mut scanned = Scanned { changed: false, settled: true };
        let Some(found) = self.list() else {
            self.conclude_loaded(&mut scanned).await;
            return scanned;
        };
        self.forget_removed(&found, &mut scanned);
        for (path, found) in found {
            if let Found::File(stamps) = found
                && self.loading.has(&path, stamps)
            {
                continue;
            }
            // What it contained before is not wanted any more.
            self.loading.stop(&path);
            match found {
                Found::Unreachable(error) => {
                    scanned.add(self.conclude(&path, None, Err(error.into())));
                }
                Found::File(stamps) => {
                    let known = self.files.get(&path).filter(|file| file.stamp == Some(stamps));
                    match known.map(|file| file.unsettled) {
                        Some(None) => {}
                        Some(Some(since)) if since.elapsed() < SETTLING_TIME => {
                            scanned.settled = false;
                        }
                        _ => scanned.add(self.examine(&path, SETTLING_TIME)),
                    }
                }
            }
        }
        self.conclude_loaded(&mut scanned).await;
        scanned
    }

    /// Waits for the files that are being loaded, as long as a scan may.
    async fn conclude_loaded(&mut self, scanned: &mut Scanned) {
        let begun = Instant::now();
        while !self.loading.is_empty() {
            let left = self.patience.saturating_sub(begun.elapsed());
            let Some(done) = self.loading.next(left).await else {
                scanned.settled = false;
                break;
            };
            scanned.add(self.settle(&done.path, Some(done.stamps), done.patience, done.result));
        }
    }

    /// What is in the folder; `None` if it cannot be read, which is reported once.
    fn list(&mut self) -> Option<BTreeMap<PathBuf, Found>> {
        let folder = self.folder.display();
        match folder::scan(&self.folder, self.trust.has_rules()) {
            Ok(mut found) => {
                if let Some(only) = &self.only {
                    found.retain(|path, _| name_of(path).is_ok_and(|name| only.contains(name)));
                }
                if self.unreadable.take().is_some() {
                    tracing::info!(%folder, "the plugin folder can be read again");
                }
                Some(found)
            }
            Err(error) => {
                let why = error.to_string();
                if self.unreadable.as_ref() != Some(&why) {
                    tracing::error!(%folder, %error, "cannot read the plugin folder; the loaded plugins stay active");
                    self.unreadable = Some(why);
                }
                None
            }
        }
    }

    /// Drops what is known of files that have been away for too long.
    fn forget_removed(&mut self, found: &BTreeMap<PathBuf, Found>, scanned: &mut Scanned) {
        self.loading.retain(|path| found.contains_key(path));
        self.files.retain(|path, file| {
            if found.contains_key(path) {
                file.away = None;
                return true;
            }
            if file.plugin.is_none() && file.refused.is_none() {
                // Nobody has been told of it.
                return false;
            }
            if file.away.get_or_insert_with(Instant::now).elapsed() < SETTLING_TIME {
                scanned.settled = false;
                return true;
            }
            scanned.changed = true;
            tracing::info!(file = %shown(path), "plugin file removed");
            false
        });
    }

    /// Reads one file and starts to load it. It may look incomplete for as long as `patience`.
    fn examine(&mut self, path: &Path, patience: Duration) -> Examined {
        if let Err(error) = name_of(path) {
            return self.conclude(path, None, Err(error));
        }
        match folder::read(path, self.trust.has_rules()) {
            Ok(Some((stamps, contents))) => {
                let known = self.files.get(path).and_then(|file| file.plugin.clone());
                let start = Start { stamps, contents, patience, known };
                self.loading.start(&self.context, &self.trust, path, start);
                Examined::Unchanged
            }
            Ok(None) => self.settle(path, None, patience, Err(LoadError::EndsEarly)),
            // Gone again; the next scan sees that.
            Err(LoadError::Read(error)) if is_absent(&error) => Examined::Unchanged,
            Err(error) => self.settle(path, None, patience, Err(error)),
        }
    }

    /// Concludes an examination, unless the file looks incomplete and may still be completed.
    fn settle(
        &mut self,
        path: &Path,
        stamps: Option<Stamps>,
        patience: Duration,
        loaded: Result<Loaded, LoadError>,
    ) -> Examined {
        let file = self.files.entry(path.to_owned()).or_default();
        let may_settle = match &loaded {
            // A file that grows slowly is waited for once.
            Err(error @ LoadError::EndsEarly) => !file.is_refused_for(error),
            Err(LoadError::Untrusted(_)) => true,
            _ => false,
        };
        let waited = file.unsettled.map_or(Duration::ZERO, |since| since.elapsed());
        if may_settle && waited < patience {
            file.stamp = stamps;
            file.unsettled.get_or_insert_with(Instant::now);
            return Examined::Incomplete;
        }
        self.conclude(path, stamps, loaded)
    }

    /// Notes and reports the result of an examination. A refusal that says nothing new is not reported again:
    /// files that cannot be read have no stamp that would tell whether they have changed, so they are tried
    /// at each scan.
    fn conclude(
        &mut self,
        path: &Path,
        stamps: Option<Stamps>,
        loaded: Result<Loaded, LoadError>,
    ) -> Examined {
        let file = self.files.entry(path.to_owned()).or_default();
        let same_bytes = file.stamp == stamps;
        file.stamp = stamps;
        file.unsettled = None;
        let result = match loaded {
            Ok(loaded) => {
                if file.serves(&loaded) {
                    // Renamed, for example, or given other permissions.
                    file.plugin = Some(loaded);
                    return Examined::Unchanged;
                }
                let plugin = &loaded.plugin;
                tracing::info!(
                    file = %path.display(),
                    digest = plugin.digest.get(..12),
                    version = plugin.description.version,
                    trusted = loaded.decision.applied().map(tracing::field::display),
                    "plugin loaded"
                );
                file.plugin = Some(loaded);
                file.refused = None;
                file.withdrawn = false;
                "loaded"
            }
            Err(error) => {
                let is_known = same_bytes || matches!(error, LoadError::EndsEarly);
                if is_known && file.is_refused_for(&error) {
                    return Examined::Unchanged;
                }
                let older_serves = file.plugin.is_some();
                tracing::error!(file = %shown(path), older_serves, %error, "plugin refused");
                file.refused = Some(error.to_string());
                "refused"
            }
        };
        let name = shown(path.file_stem().unwrap_or_default().as_ref());
        self.context.metrics.loads.with_label_values(&[&*name, result]).inc();
        Examined::Changed
    }

    /// Whether the file of a plugin is being loaded.
    pub fn is_loading(&self, plugin: &str) -> bool {
        self.loading.since(&self.file_of(plugin)).is_some()
    }

    fn file_of(&self, plugin: &str) -> PathBuf {
        self.folder.join(format!("{plugin}.wasm"))
    }

    /// The loaded plugins, by name.
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        let loaded = self.files.values().filter_map(|file| file.plugin.as_ref());
        loaded.map(|loaded| loaded.plugin.clone()).collect()
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("folder", &self.folder).finish_non_exhaustive()
    }
}
