//! What a loader knows of one file of the plugin folder, and what examining it can come to.

use std::sync::Arc;
use std::time::Instant;

use crate::error::LoadError;
use crate::folder::{Stamp, Stamps};
use crate::load::Plugin;
use crate::trust::TrustDecision;

/// What examining a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Examined {
    /// It was loaded, or refused for a reason that is new.
    Changed,
    /// Everything stays as it was.
    Unchanged,
    /// It looks incomplete and may still be completed.
    Incomplete,
}

/// What is known of one file.
#[derive(Clone, Default)]
pub(super) struct File {
    /// Of the bytes examined last; `None` if they changed in the meantime.
    pub(super) stamp: Option<Stamps>,
    /// The last plugin that could be loaded.
    pub(super) plugin: Option<Loaded>,
    /// Why the bytes examined last are refused.
    pub(super) refused: Option<String>,
    /// When it was first seen incomplete.
    pub(super) unsettled: Option<Instant>,
    /// When it was first seen to be away.
    pub(super) away: Option<Instant>,
    /// Whether a plugin was loaded until the rules of trust changed.
    pub(super) withdrawn: bool,
}

/// A plugin and the file that it was loaded from.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) plugin: Arc<Plugin>,
    pub(super) from: Stamp,
    pub(super) decision: TrustDecision,
}

impl File {
    /// Whether the operator has been told of this refusal.
    pub(super) fn is_refused_for(&self, error: &LoadError) -> bool {
        self.refused.as_ref().is_some_and(|refused| *refused == error.to_string())
    }

    /// Whether this very plugin is the one in use, and nothing has been refused since.
    pub(super) fn serves(&self, loaded: &Loaded) -> bool {
        let same = self.plugin.as_ref().is_some_and(|known| {
            Arc::ptr_eq(&known.plugin, &loaded.plugin) && known.decision == loaded.decision
        });
        same && self.refused.is_none() && !self.withdrawn
    }
}
