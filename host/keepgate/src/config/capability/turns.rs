//! Turns: every mount has its own, and nothing is configured.

use anyhow::Result;
use async_trait::async_trait;
use keepgate_runtime::Grants;
use keepgate_runtime::capability::turns::Turns;

use super::provider::Provider;
use crate::config::Mount;

#[derive(Debug)]
struct OpenTurns(Turns);

/// They are the same for as long as the gateway runs, so that a reload gives no turn twice.
pub(super) fn open(turns: Turns) -> Box<dyn Provider> {
    Box::new(OpenTurns(turns))
}

#[async_trait]
impl Provider for OpenTurns {
    fn grant(&self, _mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        grants.insert(self.0.clone());
        Ok(())
    }
}
