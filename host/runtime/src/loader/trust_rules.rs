//! The rules of trust of a loader: how they are changed while plugins serve, and how a change is undone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{File, Loader, Scanned};
use crate::generation::Trusted;
use crate::trust::Trust;

/// What a change of rules replaced, to undo it.
pub struct Undo {
    trust: Trust,
    files: BTreeMap<PathBuf, File>,
}

impl Loader {
    /// Sets the rules of trust before the first scan.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Changes the rules and applies them at once to the folder and to the loaded plugins. A plugin that
    /// they do not trust is unloaded; one that they trust stays as it is. Returns what is needed to undo
    /// the change; `None` if the rules are the same.
    pub async fn change_trust(&mut self, trust: Trust) -> Option<Undo> {
        if trust == self.trust {
            return None;
        }
        let trust = std::mem::replace(&mut self.trust, trust);
        let undo = Undo { trust, files: self.files.clone() };
        // What is being loaded was vetted by the old ones.
        self.loading.retain(|_| false);
        for path in undo.files.keys() {
            self.examine(path, Duration::ZERO);
        }
        self.conclude_loaded(&mut Scanned::default()).await;
        for (path, file) in &mut self.files {
            let Some(loaded) = &mut file.plugin else { continue };
            match self.trust.renew(path, &loaded.plugin.digest, &loaded.decision) {
                Ok(decision) => loaded.decision = decision,
                Err(why) => {
                    let plugin = &loaded.plugin.name;
                    tracing::warn!(plugin, file = %path.display(), reason = why, "plugin withdrawn; the new rules do not trust it");
                    file.refused.get_or_insert(why);
                    file.plugin = None;
                    file.withdrawn = true;
                }
            }
        }
        Some(undo)
    }

    /// Restores the previous rules and the plugins that were loaded then. The next scan examines whatever
    /// has changed since.
    pub fn undo(&mut self, undo: Undo) {
        (self.trust, self.files) = (undo.trust, undo.files);
        self.loading.retain(|_| false);
    }

    pub(super) fn trusted(&self) -> Trusted {
        let loaded = self.files.values().filter_map(|file| file.plugin.as_ref());
        let decisions = loaded.map(|loaded| (loaded.plugin.name.clone(), loaded.decision.clone()));
        let withdrawn = self.files.iter().filter(|(_, file)| file.withdrawn);
        let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into();
        Trusted {
            rules: self.trust.clone(),
            decisions: decisions.collect(),
            withdrawn: withdrawn.map(|(path, _)| name(path)).collect(),
        }
    }
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Undo").field("trust", &self.trust).finish_non_exhaustive()
    }
}
