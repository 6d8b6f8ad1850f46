//! An etcd cluster that gives the gateways of a bucket turns, where the bucket's server cannot keep them apart.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use keepgate_connect::etcd::{Cluster, HeldTurn, Turns};
use keepgate_store_s3::{Coordinator, LEASE, Lease};

use crate::config::{Bucket, Config};

/// What the keys of the gateways' locks begin with. The bucket's and the object's name follow.
const PREFIX: &str = "/keepgate/turns/";

/// The cluster that a bucket is coordinated by, if any.
pub(super) fn of(config: &Config, bucket: &Bucket) -> Result<Option<Arc<dyn Coordinator>>> {
    let Some(name) = &bucket.coordinated_by else { return Ok(None) };
    let name = name.get_ref();
    // The check of the configuration refuses this.
    let cluster = config.etcd.get(name).ok_or_else(|| anyhow!("unknown cluster {name:?}"))?;
    let options = cluster.to_connect(name);
    let place = format!("etcd {}", options.endpoints.join(", "));
    let cluster = Cluster::new(options).with_context(|| format!("[etcd.{name}]"))?;
    let turns = Turns::new(cluster, PREFIX, LEASE);
    Ok(Some(Arc::new(EtcdCoordinator { place, turns })))
}

#[derive(Debug)]
struct EtcdCoordinator {
    place: String,
    turns: Turns,
}

struct EtcdLease(HeldTurn);

#[async_trait]
impl Coordinator for EtcdCoordinator {
    async fn turn(&self, name: &str) -> Result<Box<dyn Lease>, String> {
        Ok(Box::new(EtcdLease(self.turns.turn(name).await?)))
    }

    fn place(&self) -> &str {
        &self.place
    }
}

#[async_trait]
impl Lease for EtcdLease {
    fn left(&self) -> Duration {
        self.0.left()
    }

    async fn release(self: Box<Self>) {
        self.0.release().await;
    }
}
