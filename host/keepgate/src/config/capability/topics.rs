//! Topics: every mount has its own, and nothing is configured.

use anyhow::Result;
use async_trait::async_trait;
use keepgate_runtime::Grants;
use keepgate_runtime::capability::topics::Topics;

use super::provider::Provider;
use crate::config::Mount;

#[derive(Debug)]
struct OpenTopics(Topics);

/// They are the same for as long as the gateway runs, so that jobs of an older generation reach new subscribers.
pub(super) fn open(topics: Topics) -> Box<dyn Provider> {
    Box::new(OpenTopics(topics))
}

#[async_trait]
impl Provider for OpenTopics {
    fn grant(&self, _mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        grants.insert(self.0.clone());
        Ok(())
    }
}
