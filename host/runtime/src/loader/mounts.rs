//! Builds generations: the mounts that the loaded plugins serve.
//!
//! A new generation is built and checked while the previous one serves. If a plugin or a mount's settings are refused, the
//! previous version stays active and the new generation says why.

use std::path::Path;
use std::sync::Arc;

use keepgate_core::RefusalForm;

use super::Loader;
use crate::capability;
use crate::error::LoadError;
use crate::folder::{self, shown};
use crate::generation::{Generation, Refused};
use crate::load::Plugin;
use crate::metrics::Watched;
use crate::mount::{Mount, Unserved};
use crate::serving::Serving;
use crate::spec::MountSpec;

impl Loader {
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
        let serving = generation.mounts.iter().filter_map(|mount| mount.served_by());
        let (shares, idle) = serving.map(Serving::shared).unzip::<_, _, Vec<_>, Vec<_>>();
        self.context.shares.divide(&shares, idle.into_iter().flatten().collect());
        if let Some(compiler) = &mut self.context.compiler {
            // From now on there is something to make way for.
            compiler.background = true;
        }
        if let Some(previous) = self.previous.replace(generation.clone()) {
            let stays = |mount| generation.mounts.iter().any(|kept| Arc::ptr_eq(kept, mount));
            previous.mounts.iter().filter(|mount| !stays(mount)).for_each(|mount| mount.retire());
        }
        generation
    }

    /// What the limits of mounts allow and this machine cannot give, in words for operators.
    pub fn crowding(&self, generation: &Generation) -> Vec<String> {
        let serving = generation.mounts.iter().filter(|mount| mount.serving().is_ok());
        let limits = serving.map(|mount| (mount.path(), mount.spec().limits));
        self.context.shares.crowding(&limits.collect::<Vec<_>>())
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
                    let serving = Serving::new(spec, plugin, &self.context);
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
