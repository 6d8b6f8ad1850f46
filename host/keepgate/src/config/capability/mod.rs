//! Capabilities as the configuration has them, one file each: its tables, their check, their paths, and
//! what becomes a grant of a mount. The functions here are the only list of them. (Tables and keys are
//! fields of [`Config`] and [`Mount`], because TOML's positions do not survive `serde(flatten)`.)
//!
//! Stores are not here: they outlive a reload and have quotas, see `stores` and `guarded_store`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use keepgate_runtime::Grants;
use keepgate_runtime::capability::topics::Topics;
use keepgate_runtime::capability::turns::Turns;
use keepgate_store::Clock;

use super::{Config, Mount, Problems};
use crate::clock::GatewayClock;

mod etcd;
mod jobs;
mod provider;
mod records;
mod secrets;
mod spool;
mod topics;
mod turns;
mod upstream;

pub(crate) use etcd::EtcdCluster;
pub(crate) use jobs::{JOBS_FILE, Jobs};
pub(crate) use provider::{Probe, Provider, StatusPart};
pub(crate) use records::Records;
pub(crate) use secrets::Secrets;
pub(crate) use upstream::UpstreamTable;

/// Every capability of a configuration, open.
#[derive(Debug)]
pub(crate) struct Providers(Vec<Box<dyn Provider>>);

pub(super) fn check(config: &Config, problems: &mut Problems) {
    etcd::check(config, problems);
    jobs::check(config, problems);
    secrets::check(config, problems);
    upstream::check(config, problems);
}

/// Relative paths are relative to the configuration's folder.
pub(super) fn resolve(config: &mut Config, base: &Path) {
    etcd::resolve(config, base);
    secrets::resolve(config, base);
    upstream::resolve(config, base);
}

/// What a gateway keeps of its own, open for as long as it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnState {
    /// Without one, stores judge by the system's clock.
    pub(crate) clock: Option<GatewayClock>,
    pub(crate) jobs: Option<Arc<keepgate_jobs::Jobs>>,
    pub(crate) records: Option<keepgate_records::Records>,
    pub(crate) topics: Topics,
    pub(crate) turns: Turns,
}

impl OwnState {
    /// Starts the clock, and opens the queue of jobs, if the configuration has one, and the tables. The queue has to open if there are
    /// schedules, copies or clusters, which are of no use without jobs.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let clock = GatewayClock::start(&config.data_dir)?;
        let unused = config.schedule.is_empty() && config.copy.is_empty() && config.etcd.is_empty();
        let required = !unused;
        let jobs = jobs::open_file(config, required).await?;
        let records = records::open_file(config).await?;
        let (topics, turns) = (Topics::default(), Turns::default());
        Ok(Self { clock: Some(clock), jobs, records, topics, turns })
    }

    /// What stores judge by.
    pub(crate) fn clock(&self) -> Clock {
        self.clock.as_ref().map_or_else(Clock::default, |own| own.clock().clone())
    }
}

impl Providers {
    /// Reads their files. `metrics` are those of a gateway that serves.
    pub(crate) fn open(
        config: &Config,
        own: OwnState,
        metrics: Option<&keepgate_upstream::Metrics>,
    ) -> Result<Self> {
        Ok(Self(vec![
            etcd::open(config)?,
            jobs::open(own.jobs),
            records::open(own.records),
            secrets::open(config)?,
            spool::open(config),
            topics::open(own.topics),
            turns::open(own.turns),
            upstream::open(config, metrics)?,
        ]))
    }

    /// What operators see of them.
    pub(crate) fn status(&self) -> Vec<StatusPart> {
        self.0.iter().filter_map(|provider| provider.status()).collect()
    }

    /// What a mount is granted besides stores; `None` for a mount that a plugin proposed.
    pub(crate) fn grants(&self, mount: Option<&Mount>) -> Result<Grants> {
        let mut grants = Grants::default();
        self.0.iter().try_for_each(|provider| provider.grant(mount, &mut grants))?;
        Ok(grants)
    }

    /// What an operator should look at, for `keepgate check`.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.0.iter().flat_map(|provider| provider.warnings()).collect()
    }

    /// Tries whether the systems behind them answer.
    pub(crate) async fn probe(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for provider in &self.0 {
            probes.push(provider.probe().await);
        }
        probes
    }
}
