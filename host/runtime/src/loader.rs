//! Loads the plugins of a folder and builds generations from them.
//!
//! A new generation is built and checked while the previous one serves. If a file or a mount's settings
//! are refused, the previous version stays active and the new generation says why.

mod trust_rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::cache::CodeCache;
use crate::capability;
use crate::engine::Host;
use crate::error::LoadError;
use crate::folder::{self, Contents, Stamp, Stamps};
use crate::generation::{Generation, Refused};
use crate::load::Plugin;
use crate::metrics::{Metrics, Watched};
use crate::mount::Mount;
use crate::serving::Serving;
use crate::spec::MountSpec;
use crate::trust::{Trust, TrustDecision};

pub use trust_rules::Undo;

/// How long the loader waits for the rest of a file that looks half-copied, or for a missing signature,
/// before it refuses the file.
const SETTLING_TIME: Duration = Duration::from_secs(3);

/// Loads the plugins of a folder and builds generations from them. One task owns it, so nothing is loaded
/// twice at the same time.
pub struct Loader {
    host: Host,
    cache: CodeCache,
    folder: PathBuf,
    trust: Trust,
    metrics: Arc<Metrics>,
    files: BTreeMap<PathBuf, File>,
    previous: Option<Arc<Generation>>,
}

/// What a scan of the folder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Whether something was loaded, refused or removed: build a new generation.
    pub changed: bool,
    /// Whether every file seems complete; if not, scan again soon.
    pub settled: bool,
}

/// What is known of one file.
#[derive(Clone, Default)]
struct File {
    /// Of the bytes examined last; `None` if they changed in the meantime.
    stamp: Option<Stamps>,
    /// The last plugin that could be loaded.
    plugin: Option<Loaded>,
    /// Why the bytes examined last are refused.
    refused: Option<String>,
    /// When it was first seen incomplete.
    unsettled: Option<Instant>,
    /// Whether a plugin was loaded until the rules of trust changed.
    withdrawn: bool,
}

/// A plugin and the file that it was loaded from.
#[derive(Clone)]
struct Loaded {
    plugin: Arc<Plugin>,
    from: Stamp,
    decision: TrustDecision,
}

impl Loader {
    /// Makes the engine. `code` is the folder for compiled code; without one, everything is compiled
    /// again at each start.
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

    /// Scans the folder and loads what is new or changed.
    pub async fn scan(&mut self) -> Scanned {
        let found = match folder::scan(&self.folder, self.trust.has_rules()) {
            Ok(found) => found,
            Err(error) => {
                let folder = self.folder.display();
                tracing::error!(%folder, %error, "cannot read the plugin folder; the loaded plugins stay active");
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
                Some(Some(since)) if since.elapsed() < SETTLING_TIME => {
                    scanned.settled = false;
                    continue;
                }
                _ => {}
            }
            let settled = self.examine(&path, SETTLING_TIME).await;
            scanned.settled &= settled;
            scanned.changed |= settled;
        }
        scanned
    }

    /// Loads one file. Returns false if it looks incomplete and may still be completed within
    /// `patience`.
    async fn examine(&mut self, path: &Path, patience: Duration) -> bool {
        let (stamps, loaded) = match folder::read(path, self.trust.has_rules()) {
            Ok(Some((stamps, contents))) => {
                (Some(stamps), self.load(path, stamps.component, contents).await)
            }
            Ok(None) => (None, Err(LoadError::EndsEarly)),
            // Removed again; the next scan reports it.
            Err(LoadError::Read(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return true;
            }
            Err(error) => (None, Err(error)),
        };
        let file = self.files.entry(path.to_owned()).or_default();
        file.stamp = stamps;
        let incomplete = matches!(loaded, Err(LoadError::EndsEarly | LoadError::Untrusted(_)));
        let waited = file.unsettled.map_or(Duration::ZERO, |since| since.elapsed());
        if incomplete && waited < patience {
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
                    trusted = loaded.decision.applied().map(tracing::field::display),
                    "plugin loaded"
                );
                file.plugin = Some(loaded);
                file.refused = None;
                file.withdrawn = false;
                "loaded"
            }
            Err(error) => {
                let older_serves = file.plugin.is_some();
                tracing::error!(file = %path.display(), older_serves, %error, "plugin refused");
                file.refused = Some(error.to_string());
                "refused"
            }
        };
        self.metrics.loads.with_label_values(&[&*name, result]).inc();
        true
    }

    /// Loads the plugin of a file. If the file is the same as before, and only its signature or the rules
    /// of trust have changed, the plugin stays the same.
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
        let decision = vetted.decision.clone();
        let known = self.files.get(path).and_then(|file| file.plugin.as_ref());
        let plugin = match known {
            Some(known) if known.from == from && known.plugin.digest == vetted.digest => {
                known.plugin.clone()
            }
            _ => Plugin::load(&self.host, &self.cache, &self.metrics, path, vetted).await?,
        };
        Ok(Loaded { plugin, from, decision })
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

    /// Makes a generation the current one. The next one is compared with it.
    pub fn adopt(&mut self, generation: Generation) -> Arc<Generation> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.generation.set(number(generation.number));
        self.metrics.refused.set(number(generation.refused.len() as u64));
        let generation = Arc::new(generation);
        let watch = |mount: &Arc<Mount>| -> Weak<dyn Watched> {
            let watched: Arc<dyn Watched> = mount.clone();
            Arc::downgrade(&watched)
        };
        self.metrics.serve(generation.mounts.iter().map(watch).collect());
        self.previous = Some(generation.clone());
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
        // If a plugin refuses this mount, its previous version stays active. If its file was removed or
        // is no longer trusted, the plugin is meant to stop.
        let older = before.filter(|_| loaded.is_some());
        let older = older.filter(|mount| mount.serving().is_ok());
        let what = format!("mount {}", spec.path);
        tracing::error!(
            mount = spec.path,
            plugin = spec.plugin,
            older_serves = older.is_some(),
            reason = why,
            "mount refused"
        );
        refused.push(Refused { what, why: why.clone(), older_serves: older.is_some() });
        older.unwrap_or_else(|| Arc::new(Mount::new(spec.clone(), Err(why))))
    }

    fn missing(&self, file: &Path, plugin: &str) -> String {
        match self.files.get(file).and_then(|file| file.refused.as_deref()) {
            Some(why) => format!("plugin {plugin:?} is refused: {why}"),
            None => format!("no plugin {plugin:?}: {} does not exist", file.display()),
        }
    }
}

/// Checks whether a plugin can serve a mount. The error says why not.
pub(crate) async fn check(spec: &MountSpec, plugin: &Plugin) -> Result<(), String> {
    capability::check(&plugin.name, &plugin.description.requests, &spec.grants)?;
    plugin.check_settings(&spec.settings).await.map_err(|why| {
        format!("the plugin {} does not accept the mount's settings: {why}", plugin.name)
    })
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("folder", &self.folder).finish_non_exhaustive()
    }
}
