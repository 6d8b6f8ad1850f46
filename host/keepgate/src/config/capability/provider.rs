//! What an open capability does for mounts and for `keepgate check --connect`.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use keepgate_runtime::Grants;
use serde_json::Value;

use crate::config::Mount;

/// What `/status` shows of a capability: its key there, and its state when asked.
pub(crate) type StatusPart = (&'static str, Arc<dyn Fn() -> Value + Send + Sync>);

/// A capability of the configuration, open.
#[async_trait]
pub(crate) trait Provider: Debug + Send + Sync {
    /// Grants a mount what the configuration says; `None` for a mount that a plugin proposed.
    fn grant(&self, mount: Option<&Mount>, grants: &mut Grants) -> Result<()>;

    /// What an operator should look at although it works, for `keepgate check`. A server logs it.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Tries whether the systems behind it answer, for `keepgate check --connect`.
    async fn probe(&self) -> Probe {
        Probe::default()
    }

    /// What operators see of it.
    fn status(&self) -> Option<StatusPart> {
        None
    }
}

/// What [`Provider::probe`] found.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// To print.
    pub(crate) lines: Vec<String>,
    /// What keeps the capability from working.
    pub(crate) problems: Vec<String>,
}
