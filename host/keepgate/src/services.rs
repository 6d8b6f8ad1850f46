//! What a configuration lets mounts reach besides stores: clusters, jobs, a spool.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use keepgate_connect::Snapshots;
use keepgate_connect::etcd::Cluster;
use keepgate_jobs::{Jobs, JobsError};
use keepgate_pipes::Spool;
use keepgate_runtime::Services;

use crate::config::{self, Config, Size};

/// The most bytes of one body in the spool, where a mount says nothing.
const SPOOL: u64 = 16 << 30;

/// Everything besides stores that a configuration names, ready for use.
#[derive(Debug)]
pub(crate) struct OpenServices {
    clusters: BTreeMap<String, Arc<dyn Snapshots>>,
    jobs: Option<Arc<Jobs>>,
    spool: PathBuf,
}

impl OpenServices {
    /// Reads the clusters' files. Jobs are open already, or there are none.
    pub(crate) fn new(config: &Config, jobs: Option<Arc<Jobs>>) -> Result<Self> {
        let mut clusters: BTreeMap<String, Arc<dyn Snapshots>> = BTreeMap::new();
        for (name, cluster) in &config.etcd {
            let cluster =
                Cluster::new(cluster.to_connect(name)).with_context(|| format!("[etcd.{name}]"))?;
            clusters.insert(name.clone(), Arc::new(cluster));
        }
        Ok(Self { clusters, jobs, spool: config.data_dir.join("spool") })
    }

    /// What a mount of the configuration reaches.
    pub(crate) fn of(&self, mount: &config::Mount) -> Result<Services> {
        let mut clusters = BTreeMap::new();
        for (name, cluster) in &mount.etcd {
            let cluster = cluster.get_ref();
            let granted = self.clusters.get(cluster);
            let granted = granted.ok_or_else(|| anyhow!("there is no [etcd.{cluster}]"))?;
            clusters.insert(name.clone(), granted.clone());
        }
        let limit = mount.limits.spool.map_or(SPOOL, |Size(limit)| limit);
        Ok(Services {
            clusters,
            jobs: self.jobs.clone(),
            spool: Some(self.spool(limit)),
            surroundings: None,
        })
    }

    /// What a mount reaches of which the configuration says nothing.
    pub(crate) fn plain(&self) -> Services {
        let spool = Some(self.spool(SPOOL));
        Services { jobs: self.jobs.clone(), spool, ..Services::default() }
    }

    fn spool(&self, limit: u64) -> Arc<Spool> {
        Arc::new(Spool::new(self.spool.clone(), limit))
    }

    /// The clusters, by their names in the configuration.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (&String, &Arc<dyn Snapshots>)> {
        self.clusters.iter()
    }
}

/// Opens the file of jobs. Where another gateway has it, one that needs none, having neither schedules
/// nor clusters, goes on without.
pub(crate) async fn open_jobs(config: &Config) -> Result<Option<Arc<Jobs>>> {
    if !config.jobs.enabled {
        return Ok(None);
    }
    let (file, options) = (config.data_dir.join(JOBS_FILE), config.jobs.to_jobs());
    let opening = tokio::task::spawn_blocking(move || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok::<_, anyhow::Error>(Jobs::open(&file, options))
    });
    match opening.await?? {
        Ok(jobs) => Ok(Some(jobs)),
        Err(error @ JobsError::InUse(_))
            if config.schedule.is_empty() && config.etcd.is_empty() =>
        {
            tracing::warn!("plugins can start no jobs here: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// In the folder of the gateway's own state.
pub(crate) const JOBS_FILE: &str = "jobs.redb";
