//! Generations: immutable tables of mounts and compiled plugins, and the one place that makes
//! them.
//!
//! A new generation is built and checked beside the one that serves. What cannot be used, a file
//! or a mount's settings, changes nothing: what served before serves on, and the new generation
//! says why. Whoever holds an old generation finishes on it; it goes when the last one lets go,
//! which the time limit of calls bounds.

mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cache::CodeCache;
use crate::contract::VERSION;
use crate::engine::Host;
use crate::folder::{self, Contents, Stamp, Stamps};
use crate::load::{LoadError, Plugin};
use crate::metrics::Metrics;
use crate::mount::{Mount, MountSpec};
use crate::serving::Serving;
use crate::trust::{Trust, Warrant};

pub use rules::{Trusted, Undo};

/// A file that looks half-copied, or whose signature may be still on its way, is waited for so long
/// before it is refused.
const PATIENCE: Duration = Duration::from_secs(3);

/// An immutable table of mounts and plugins.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// In the order of their specs.
    pub mounts: Vec<Arc<Mount>>,
    /// Those that the folder gave, also the unmounted.
    pub plugins: Vec<Arc<Plugin>>,
    /// Files and mounts that could not be used as they are now.
    pub refused: Vec<Refused>,
    /// Why those plugins were let in, and which were put out.
    pub trust: Trusted,
}

/// Something that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// A file's path, or `mount /path`.
    pub what: String,
    /// In words.
    pub why: String,
    /// What it would have replaced serves on.
    pub older_serves: bool,
}

/// Loads the plugins of a folder and makes generations of them. Belongs to one task: nothing is
/// ever loaded twice at once.
pub struct Loader {
    host: Host,
    cache: CodeCache,
    folder: PathBuf,
    trust: Trust,
    metrics: Arc<Metrics>,
    files: BTreeMap<PathBuf, File>,
    previous: Option<Arc<Generation>>,
}

/// What a look at the folder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Something was loaded, refused or removed: make a new generation.
    pub changed: bool,
    /// No file seems to be still on its way; otherwise look again soon.
    pub settled: bool,
}

/// What is known of one file.
#[derive(Clone, Default)]
struct File {
    /// Of the bytes looked at last; none where they changed meanwhile.
    stamp: Option<Stamps>,
    /// The last good one.
    plugin: Option<Loaded>,
    /// Why the bytes looked at last are not served.
    refused: Option<String>,
    /// When it first looked half-copied.
    unsettled: Option<Instant>,
    /// There was a good one until the rules of trust changed.
    withdrawn: bool,
}

/// A plugin with where it came from.
#[derive(Clone)]
struct Loaded {
    plugin: Arc<Plugin>,
    from: Stamp,
    warrant: Warrant,
}

impl Loader {
    /// Makes the engine. `code` is the folder for compiled code; without one everything is
    /// compiled anew at each start.
    pub fn new(
        folder: &Path,
        code: Option<&Path>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            host: Host::new()?,
            cache: CodeCache::open(code),
            folder: folder.to_owned(),
            trust: Trust::default(),
            metrics,
            files: BTreeMap::new(),
            previous: None,
        })
    }

    /// Looks at the folder and loads what is new or changed.
    pub async fn scan(&mut self) -> Scanned {
        let found = match folder::scan(&self.folder, self.trust.is_asked()) {
            Ok(found) => found,
            Err(error) => {
                let folder = self.folder.display();
                tracing::error!(%folder, %error, "the plugin folder cannot be read; what served before serves on");
                return Scanned { changed: false, settled: true };
            }
        };
        let mut scanned = Scanned { changed: false, settled: true };
        let gone: Vec<_> =
            self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in gone {
            self.files.remove(&path);
            scanned.changed = true;
            tracing::info!(file = %path.display(), "plugin file removed");
        }
        for (path, stamp) in found {
            let known = self.files.get(&path).filter(|file| file.stamp == Some(stamp));
            match known.map(|file| file.unsettled) {
                Some(None) => continue,
                Some(Some(since)) if since.elapsed() < PATIENCE => {
                    scanned.settled = false;
                    continue;
                }
                _ => {}
            }
            let settled = self.look_at(&path, PATIENCE).await;
            scanned.settled &= settled;
            scanned.changed |= settled;
        }
        scanned
    }

    /// Loads one file. Returns false where it is still on its way, and patience not over.
    async fn look_at(&mut self, path: &Path, patience: Duration) -> bool {
        let (stamps, loaded) = match folder::read(path, self.trust.is_asked()) {
            Ok(Some((stamps, contents))) => {
                (Some(stamps), self.load(path, stamps.component, contents).await)
            }
            Ok(None) => (None, Err(LoadError::EndsEarly)),
            // Gone again; the next scan says so.
            Err(LoadError::Read(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return true;
            }
            Err(error) => (None, Err(error)),
        };
        let file = self.files.entry(path.to_owned()).or_default();
        file.stamp = stamps;
        let on_its_way = matches!(loaded, Err(LoadError::EndsEarly | LoadError::Untrusted(_)));
        let waited = file.unsettled.map_or(Duration::ZERO, |since| since.elapsed());
        if on_its_way && waited < patience {
            file.unsettled.get_or_insert_with(Instant::now);
            return false;
        }
        file.unsettled = None;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let result = match loaded {
            Ok(loaded) => {
                let plugin = &loaded.plugin;
                tracing::info!(
                    file = %path.display(),
                    digest = plugin.digest.get(..12),
                    version = plugin.description.version,
                    trusted = loaded.warrant.asked().map(tracing::field::display),
                    "plugin loaded"
                );
                file.plugin = Some(loaded);
                file.refused = None;
                file.withdrawn = false;
                "loaded"
            }
            Err(error) => {
                let older_serves = file.plugin.is_some();
                tracing::error!(file = %path.display(), older_serves, "plugin refused: {error}");
                file.refused = Some(error.to_string());
                "refused"
            }
        };
        self.metrics.loads.with_label_values(&[&*name, result]).inc();
        true
    }

    /// The plugin of a file, if it may be loaded and can be: where the file is the same as before, and
    /// only its signature or the rules are not, the plugin is the same too.
    async fn load(
        &self,
        path: &Path,
        from: Stamp,
        contents: Contents,
    ) -> Result<Loaded, LoadError> {
        let Contents { component, signature } = contents;
        let (trust, file) = (self.trust.clone(), path.to_owned());
        let vetting =
            tokio::task::spawn_blocking(move || trust.vet(&file, component, signature.as_deref()));
        let vetted = vetting.await.map_err(|error| LoadError::Engine(error.to_string()))?;
        let vetted = vetted.map_err(LoadError::Untrusted)?;
        let warrant = vetted.warrant.clone();
        let known = self.files.get(path).and_then(|file| file.plugin.as_ref());
        let plugin = match known {
            Some(known) if known.from == from && known.plugin.digest == vetted.digest => {
                known.plugin.clone()
            }
            _ => Plugin::load(&self.host, &self.cache, &self.metrics, path, vetted).await?,
        };
        Ok(Loaded { plugin, from, warrant })
    }

    /// The plugins that are loaded, by name.
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        let loaded = self.files.values().filter_map(|file| file.plugin.as_ref());
        loaded.map(|loaded| loaded.plugin.clone()).collect()
    }

    /// Builds a generation of the loaded plugins for these mounts, beside the one that serves. A
    /// mount whose spec and plugin are the same objects as before is carried over as it is.
    pub async fn build(&self, specs: &[Arc<MountSpec>]) -> Generation {
        let mut refused = Vec::new();
        for (path, file) in &self.files {
            if let Some(why) = &file.refused {
                refused.push(Refused {
                    what: path.display().to_string(),
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
        Generation { number, mounts, plugins: self.plugins(), refused, trust: self.trusted() }
    }

    /// Makes a generation the one that serves; later ones are compared with it.
    pub fn adopt(&mut self, generation: Generation) -> Arc<Generation> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.generation.set(number(generation.number));
        self.metrics.refused.set(number(generation.refused.len() as u64));
        let generation = Arc::new(generation);
        self.metrics.serve(&generation.mounts);
        self.previous = Some(generation.clone());
        generation
    }

    /// Builds a generation and makes it the one that serves.
    pub async fn generation(&mut self, specs: &[Arc<MountSpec>]) -> Arc<Generation> {
        let generation = self.build(specs).await;
        self.adopt(generation)
    }

    async fn mount(&self, spec: &Arc<MountSpec>, refused: &mut Vec<Refused>) -> Arc<Mount> {
        let before = self.previous.as_ref().and_then(|generation| {
            generation.mounts.iter().find(|mount| Arc::ptr_eq(mount.spec(), spec)).cloned()
        });
        let file = self.folder.join(format!("{}.wasm", spec.plugin));
        let loaded = self.files.get(&file).and_then(|file| file.plugin.as_ref());
        let plugin = loaded.map(|loaded| loaded.plugin.clone());
        if let (Some(before), Some(plugin)) = (&before, &plugin)
            && before.serving().is_ok_and(|serving| Arc::ptr_eq(serving, plugin))
        {
            return before.clone();
        }
        let why = match plugin {
            Some(plugin) => match check(spec, &plugin).await {
                Ok(()) => {
                    let serving = Serving::new(spec, plugin, self.metrics.clone());
                    return Arc::new(Mount::new(spec.clone(), Ok(Arc::new(serving))));
                }
                Err(why) => why,
            },
            None => self.missing(&file, &spec.plugin),
        };
        // A plugin that does not like this mount leaves the older one in place; a plugin whose
        // file was taken away, or which is not trusted any more, is meant to be gone.
        let older = before.filter(|_| loaded.is_some());
        let older = older.filter(|mount| mount.serving().is_ok());
        let what = format!("mount {}", spec.path);
        tracing::error!(mount = spec.path, plugin = spec.plugin, "{why}");
        refused.push(Refused { what, why: why.clone(), older_serves: older.is_some() });
        older.unwrap_or_else(|| Arc::new(Mount::new(spec.clone(), Err(why))))
    }

    fn missing(&self, file: &Path, plugin: &str) -> String {
        match self.files.get(file).and_then(|file| file.refused.as_deref()) {
            Some(why) => format!("the plugin {plugin:?} is refused: {why}"),
            None => format!("no plugin {plugin:?}: there is no file {}", file.display()),
        }
    }
}

/// Whether a plugin can serve a mount.
pub(crate) async fn check(spec: &MountSpec, plugin: &Plugin) -> Result<(), String> {
    for store in &plugin.description.stores {
        if !spec.stores.contains_key(store) {
            return Err(format!(
                "the plugin {} opens a store {store:?} that the mount does not grant; add \
                 `stores = {{ {store} = \"…\" }}` to it",
                plugin.name
            ));
        }
    }
    for cluster in &plugin.description.clusters {
        if !spec.services.clusters.contains_key(cluster) {
            return Err(format!(
                "the plugin {} takes snapshots of a cluster {cluster:?} that the mount does not \
                 grant; add `etcd = {{ {cluster} = \"…\" }}` to it",
                plugin.name
            ));
        }
    }
    plugin.check_settings(&spec.settings).await.map_err(|why| {
        format!("the plugin {} does not accept the mount's settings: {why}", plugin.name)
    })
}

impl Generation {
    /// Everything an operator may want to see, as JSON.
    pub fn status(&self) -> Value {
        let trusted = |plugin: &Plugin| self.trust.warrants.get(&plugin.name)?.asked();
        let plugins: Vec<_> =
            self.plugins.iter().map(|plugin| plugin_status(plugin, trusted(plugin))).collect();
        let mounts: Vec<_> = self.mounts.iter().map(|mount| mount_status(mount)).collect();
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|r| json!({"what": r.what, "why": r.why, "older_serves": r.older_serves}))
            .collect();
        json!({
            "generation": self.number,
            "contract": VERSION,
            "trust": self.trust.rules.is_asked().then(|| self.trust.rules.status()),
            "plugins": plugins,
            "mounts": mounts,
            "refused": refused,
        })
    }
}

fn plugin_status(plugin: &Plugin, trusted: Option<&Warrant>) -> Value {
    json!({
        "name": plugin.name,
        "file": plugin.file.display().to_string(),
        "digest": plugin.digest,
        "size": plugin.size,
        "trusted": trusted,
        "contract": plugin.contract,
        "description": plugin.description,
    })
}

fn mount_status(mount: &Mount) -> Value {
    let spec = mount.spec();
    let (digest, problem) = match mount.serving() {
        Ok(plugin) => (Some(&plugin.digest), None),
        Err(why) => (None, Some(why)),
    };
    json!({
        "path": spec.path,
        "plugin": spec.plugin,
        "digest": digest,
        "problem": problem,
        "aside": mount.aside(),
        "stores": spec.stores.keys().collect::<Vec<_>>(),
        "etcd": spec.services.clusters.keys().collect::<Vec<_>>(),
        "limits": {
            "memory_bytes": spec.limits.memory,
            "cpu_seconds": spec.limits.cpu.as_secs_f64(),
            "time_seconds": spec.limits.time.as_secs_f64(),
            "job_time_seconds": spec.limits.job_time.as_secs_f64(),
            "calls": spec.limits.calls,
            "faults": spec.limits.faults.count,
            "pause_seconds": spec.limits.faults.pause.as_secs_f64(),
            "max_pause_seconds": spec.limits.faults.longest.as_secs_f64(),
        },
        "warm": spec.warm,
        "calls": mount.counts(),
    })
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("folder", &self.folder).finish_non_exhaustive()
    }
}
