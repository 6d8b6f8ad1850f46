//! What `keepgate-plugin` reads of a gateway's configuration: where the running gateway answers, and
//! what its mounts would grant to a plugin.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use keepgate_http::OperatorClient;
use keepgate_runtime::{MountSpec, Plugin};

use crate::assemble::Assembly;
use crate::config::Config;

/// A configuration file without errors.
#[derive(Debug)]
pub struct GatewayConfig(Config);

impl GatewayConfig {
    /// Reads and checks a configuration file.
    pub fn load(file: &Path) -> Result<Self> {
        Ok(Self(Config::load(file)?))
    }

    /// A client of the admin listener. `purpose` completes the sentence "the admin listener is needed
    /// to …" if the configuration has none.
    pub fn operator_client(&self, purpose: &str) -> Result<OperatorClient> {
        self.0.operator_client(purpose)
    }

    /// The mounts that a gateway with this plugin alone would have. Opens the stores, but neither
    /// quotas nor jobs, which belong to the running gateway.
    pub fn mounts(&self, plugin: &Arc<Plugin>) -> Result<Vec<Arc<MountSpec>>> {
        let (plans, refused) = Assembly::to_look_at(&self.0)?.plans(std::slice::from_ref(plugin));
        if let Some(refused) = refused.first() {
            bail!("{}", refused.why);
        }
        Ok(plans.into_iter().map(|plan| plan.spec).collect())
    }
}
