//! Rules of trust in a loader: put in force, changed while plugins serve, taken back. What a generation
//! keeps of them, and which mounts a change may cost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::{File, Generation, Loader};
use crate::mount::Mount;
use crate::trust::{Trust, Warrant};

/// Trust, as it was when a generation was built.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// The rules.
    pub rules: Trust,
    /// Why each plugin was let in, by the plugin's name.
    pub warrants: BTreeMap<String, Warrant>,
    /// Names of plugins that older rules had let in, and these put out.
    pub withdrawn: BTreeSet<String>,
}

/// What a change of rules replaced.
pub struct Undo {
    trust: Trust,
    files: BTreeMap<PathBuf, File>,
}

impl Loader {
    /// The same with rules of trust; before the first scan.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Puts other rules in force, and judges by them at once what is in the folder and what is loaded.
    /// A plugin that they do not let in is loaded no more; one that they let in stays the one that it
    /// was. Gives back what is needed to undo that; none where the rules are the same.
    pub async fn change_trust(&mut self, trust: Trust) -> Option<Undo> {
        if trust == self.trust {
            return None;
        }
        let trust = std::mem::replace(&mut self.trust, trust);
        let undo = Undo { trust, files: self.files.clone() };
        for path in undo.files.keys() {
            self.look_at(path, Duration::ZERO).await;
        }
        for (path, file) in &mut self.files {
            let Some(loaded) = &mut file.plugin else { continue };
            match self.trust.renew(path, &loaded.plugin.digest, &loaded.warrant) {
                Ok(warrant) => loaded.warrant = warrant,
                Err(why) => {
                    let plugin = &loaded.plugin.name;
                    tracing::warn!(plugin, file = %path.display(), "not trusted by the new rules: {why}");
                    file.refused.get_or_insert(why);
                    file.plugin = None;
                    file.withdrawn = true;
                }
            }
        }
        Some(undo)
    }

    /// Puts the rules in force that were so before, with what was loaded then. The next scan looks
    /// again at what has changed since.
    pub fn take_back(&mut self, undo: Undo) {
        (self.trust, self.files) = (undo.trust, undo.files);
    }

    pub(super) fn trusted(&self) -> Trusted {
        let loaded = self.files.values().filter_map(|file| file.plugin.as_ref());
        let warrants = loaded.map(|loaded| (loaded.plugin.name.clone(), loaded.warrant.clone()));
        let withdrawn = self.files.iter().filter(|(_, file)| file.withdrawn);
        let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into();
        Trusted {
            rules: self.trust.clone(),
            warrants: warrants.collect(),
            withdrawn: withdrawn.map(|(path, _)| name(path)).collect(),
        }
    }
}

impl Generation {
    /// What would be lost by going over to this generation from `before`, in words: mounts that serve
    /// there, and that this one has and cannot serve. A mount whose plugin the rules of trust put out is
    /// meant to be lost, as long as any other one serves.
    pub fn losses(&self, before: &Self) -> Vec<String> {
        let serves = |mount: &Mount| mount.serving().is_ok();
        let served =
            |path: &str| before.mounts.iter().any(|mount| mount.path() == path && serves(mount));
        let anything = self.mounts.iter().any(|mount| serves(mount));
        let meant = |plugin: &str| anything && self.trust.withdrawn.contains(plugin);
        let mounts = self.mounts.iter().filter(|mount| served(mount.path()));
        let mut losses: Vec<_> = mounts
            .filter(|mount| !meant(&mount.spec().plugin))
            .filter_map(|mount| {
                mount.serving().err().map(|why| format!("mount {}: {why}", mount.path()))
            })
            .collect();
        // Mounts that plugins propose themselves are not even there without them.
        let served_anything = before.mounts.iter().any(|mount| serves(mount));
        if losses.is_empty() && !anything && served_anything && !self.trust.withdrawn.is_empty() {
            let names: Vec<_> = self.trust.withdrawn.iter().map(String::as_str).collect();
            let names = names.join(", ");
            losses.push(format!("nothing would serve: by [plugins] {names} may not be loaded"));
        }
        losses
    }
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Undo").field("trust", &self.trust).finish_non_exhaustive()
    }
}
