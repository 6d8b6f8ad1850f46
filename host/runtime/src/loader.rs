//! Loads the plugins of a folder and builds generations from them.
//!
//! A new generation is built and checked while the previous one serves. If a file or a mount's settings
//! are refused, the previous version stays active and the new generation says why.

mod file;
mod loading;
mod trust_rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::CodeCache;
use crate::capability;
use crate::compiler::Compiler;
use crate::engine::{Code, Execution, Host};
use crate::error::LoadError;
use crate::folder::{self, Found, Stamps, is_absent, name_of, shown};
use crate::generation::{Generation, Refused};
use crate::load::{LoadContext, Plugin};
use crate::metrics::{Metrics, Watched};
use crate::mount::{Mount, Unserved};
use crate::serving::Serving;
use crate::spec::MountSpec;
use crate::trust::Trust;
use file::{Examined, File, Loaded};
use keepgate_core::RefusalForm;
use loading::{LoadingFiles, Start};

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
            context: LoadContext { host, cache, compiler: None, metrics },
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

    /// How plugins are executed on this system.
    pub fn execution(&self) -> Execution {
        self.context.host.execution
    }

    /// Scans the folder and loads what is new or changed.
    pub async fn scan(&mut self) -> Scanned {
        let mut scanned = Scanned { changed: false, settled: true };
        let Some(found) = self.list() else { return scanned };
        self.forget_removed(&found, &mut scanned);
        for (path, found) in found {
            match found {
                Found::Unreachable(error) => {
                    scanned.add(self.conclude(&path, None, Err(error.into())));
                }
                Found::File(stamps) if self.loading.has(&path, stamps) => {}
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
        // What it contained before is not wanted any more.
        self.loading.retain(|loading| loading != path);
        if let Err(error) = name_of(path) {
            return self.conclude(path, None, Err(error));
        }
        match folder::read(path, self.trust.has_rules()) {
            Ok(Some((stamps, contents))) => {
                let known = self.files.get(path).and_then(|file| file.plugin.clone());
                let start = Start { stamps, contents, patience, known };
                let mut context = self.context.clone();
                if let Some(compiler) = &mut context.compiler {
                    compiler.background = self.previous.is_some();
                }
                self.loading.start(context, &self.trust, path, start);
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

    /// Builds a generation of the loaded plugins for these mounts; the current one keeps serving. A mount
    /// whose spec and plugin are the same objects as before is carried over.
    pub async fn build(&self, specs: &[Arc<MountSpec>]) -> Generation {
        let mut refused = Vec::new();
        for (path, file) in &self.files {
            if let Some(why) = &file.refused {
                refused.push(Refused {
                    place: None,
                    what: shown(path).into_owned(),
                    why: why.clone(),
                    older_serves: file.plugin.is_some(),
                });
            }
        }
        let mut mounts = Vec::new();
        for spec in specs {
            mounts.push(self.mount(spec, &mut refused).await);
        }
        let number = self.previous.as_ref().map_or(0, |previous| previous.number) + 1;
        let loading = self.loading.paths().map(|path| shown(path).into_owned()).collect();
        let (plugins, trust) = (self.plugins(), self.trusted());
        Generation { number, mounts, plugins, loading, refused, trust }
    }

    /// Makes a generation the current one, and retires the mounts that it replaces. The next one is compared with it.
    pub fn adopt(&mut self, generation: Generation) -> Arc<Generation> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.context.metrics.generation.set(number(generation.number));
        self.context.metrics.refused.set(number(generation.refused.len() as u64));
        let generation = Arc::new(generation);
        let watched = generation.mounts.iter().map(|mount| mount.clone() as Arc<dyn Watched>);
        self.context.metrics.serve(&watched.collect::<Vec<_>>());
        if let Some(previous) = self.previous.replace(generation.clone()) {
            let stays = |mount| generation.mounts.iter().any(|kept| Arc::ptr_eq(kept, mount));
            previous.mounts.iter().filter(|mount| !stays(mount)).for_each(|mount| mount.retire());
        }
        generation
    }

    /// Builds a generation and makes it the current one.
    pub async fn generation(&mut self, specs: &[Arc<MountSpec>]) -> Arc<Generation> {
        let generation = self.build(specs).await;
        self.adopt(generation)
    }

    async fn mount(&self, spec: &Arc<MountSpec>, refused: &mut Vec<Refused>) -> Arc<Mount> {
        let before = self.previous.as_ref().and_then(|generation| {
            generation.mounts.iter().find(|mount| Arc::ptr_eq(mount.spec(), spec)).cloned()
        });
        let file = self.file_of(&spec.plugin);
        let loaded = self.files.get(&file).and_then(|file| file.plugin.as_ref());
        let plugin = loaded.map(|loaded| loaded.plugin.clone());
        if let (Some(before), Some(plugin)) = (&before, &plugin)
            && before.serving().is_ok_and(|serving| Arc::ptr_eq(serving, plugin))
        {
            return before.clone();
        }
        let unserved = match plugin {
            Some(plugin) => match check(spec, &plugin).await {
                Ok(()) => {
                    for reason in plugin.hints(spec) {
                        let (mount, plugin) = (&spec.path, &spec.plugin);
                        tracing::warn!(mount, plugin, reason, "a grant may be missing");
                    }
                    let serving = Serving::new(spec, plugin, self.context.metrics.clone());
                    return Arc::new(Mount::new(spec.clone(), serving));
                }
                Err(why) => Unserved::Misconfigured(why),
            },
            None => self.missing(&file, &spec.plugin),
        };
        // If a plugin refuses this mount, its previous version stays active. If its file was removed or
        // is no longer trusted, the plugin is meant to stop.
        let older = before.filter(|_| loaded.is_some());
        let older = older.filter(|mount| mount.serving().is_ok());
        let what = format!("mount {}", spec.path);
        tracing::error!(
            mount = spec.path,
            plugin = spec.plugin,
            place = spec.place,
            older_serves = older.is_some(),
            reason = unserved.why(),
            "mount refused"
        );
        let (place, why) = (spec.place.clone(), unserved.why().to_owned());
        refused.push(Refused { what, place, why, older_serves: older.is_some() });
        older.unwrap_or_else(|| {
            let form = self.known_form(spec, loaded.map(|loaded| &*loaded.plugin));
            Arc::new(Mount::without_plugin(spec.clone(), unserved, form))
        })
    }

    /// How the surface of a mount reports failures, if its plugin is loaded or was so before.
    fn known_form(&self, spec: &MountSpec, plugin: Option<&Plugin>) -> Option<Arc<RefusalForm>> {
        if let Some(plugin) = plugin {
            return plugin.refusal_form.clone();
        }
        let before = self.previous.as_ref()?.mounts.iter();
        let mut same =
            before.filter(|mount| (mount.path(), mount.plugin()) == (&spec.path, &spec.plugin));
        same.find_map(|mount| mount.refusal_form().cloned())
    }

    fn missing(&self, path: &Path, plugin: &str) -> Unserved {
        if let Some(since) = self.loading.since(path) {
            let seconds = since.elapsed().as_secs();
            return Unserved::Absent(format!(
                "plugin {plugin:?} is being compiled, for {seconds} s so far"
            ));
        }
        let file = self.files.get(path);
        let Some(why) = file.and_then(|file| file.refused.as_deref()) else {
            return Unserved::Absent(format!("no plugin {plugin:?}: {}", folder::absence(path)));
        };
        let why = format!("plugin {plugin:?} is refused: {why}");
        // A slow copy may still be going on.
        match file.is_some_and(|file| file.is_refused_for(&LoadError::EndsEarly)) {
            true => Unserved::Absent(why),
            false => Unserved::Misconfigured(why),
        }
    }
}

/// Checks whether a plugin can serve a mount. The error says why not. Whatever serves or checks mounts asks here, so that
/// `keepgate check`, a start, a reload and `plugin check` give one answer.
pub(crate) async fn check(spec: &MountSpec, plugin: &Plugin) -> Result<(), String> {
    capability::check(plugin, &spec.grants)?;
    plugin.needs.check(&spec.limits)?;
    plugin.check_settings(&spec.settings).await.map_err(|why| {
        format!("the plugin {} does not accept the mount's settings: {why}", plugin.name)
    })
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("folder", &self.folder).finish_non_exhaustive()
    }
}
