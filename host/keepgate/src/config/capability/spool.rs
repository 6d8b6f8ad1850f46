//! The spool: a folder where bodies wait on disk until their length is known. Every mount is granted it;
//! `limits.spool` of a mount bounds it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use keepgate_pipes::Spool;
use keepgate_runtime::Grants;
use keepgate_runtime::capability::pipes::SpoolFolder;

use super::provider::Provider;
use crate::config::{Config, Mount, Size};

/// The most bytes of one body, unless a mount says otherwise.
const LIMIT: u64 = 16 << 30;

#[derive(Debug)]
struct OpenSpool(PathBuf);

pub(super) fn open(config: &Config) -> Box<dyn Provider> {
    Box::new(OpenSpool(config.data_dir.join("spool")))
}

#[async_trait]
impl Provider for OpenSpool {
    fn grant(&self, mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        let limit = mount.and_then(|mount| mount.limits.spool).map_or(LIMIT, |Size(limit)| limit);
        grants.insert(SpoolFolder(Arc::new(Spool::new(self.0.clone(), limit))));
        Ok(())
    }
}
