//! `[records]`, the tables of which every mount is granted its own.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use keepgate_records::{FileError, Options};
use keepgate_runtime::Grants;
use keepgate_runtime::capability::records::AllTables;
use serde::Deserialize;

use super::provider::Provider;
use crate::config::{Config, Mount, Size};

/// The file of records, in the data folder.
const FILE: &str = "records.redb";

/// `[records]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Records {
    /// What the table of one mount may hold.
    max_size: Option<Size>,
    /// How much of the file is kept in memory.
    cache: Option<Size>,
}

impl Records {
    fn to_options(&self) -> Options {
        let default = Options::default();
        let cache = self.cache.and_then(|Size(bytes)| usize::try_from(bytes).ok());
        Options {
            cache: cache.unwrap_or(default.cache),
            max_size: self.max_size.map_or(default.max_size, |Size(bytes)| bytes),
        }
    }
}

/// The tables, if this gateway has them.
#[derive(Debug)]
struct OpenTables(Option<keepgate_records::Records>);

/// Tables are open already, because they stay the same for as long as the gateway runs.
pub(super) fn open(records: Option<keepgate_records::Records>) -> Box<dyn Provider> {
    Box::new(OpenTables(records))
}

#[async_trait]
impl Provider for OpenTables {
    fn grant(&self, _mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        if let Some(records) = &self.0 {
            grants.insert(AllTables(Arc::new(records.clone())));
        }
        Ok(())
    }
}

/// Opens the file of records. If another gateway has it open, this gateway goes on without.
pub(super) async fn open_file(config: &Config) -> Result<Option<keepgate_records::Records>> {
    let (file, options) = (config.data_dir.join(FILE), config.records.to_options());
    let opening = tokio::task::spawn_blocking(move || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok::<_, anyhow::Error>(keepgate_records::Records::open(&file, options))
    });
    match opening.await?? {
        Ok(records) => Ok(Some(records)),
        Err(error @ FileError::InUse(_)) => {
            tracing::warn!(%error, "plugins have no records in this gateway");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
