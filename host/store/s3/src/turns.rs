//! Turns of the changes of one key: within this process always, and among gateways if the operator has named what gives
//! them.
//!
//! They are taken even if this gateway has found that the server's conditional writes keep writers apart: of two gateways
//! that start beside a busy server whose writes race, one may not see it, and turns that only one takes protect nobody.
//!
//! A turn among gateways is a lease: its holder may come to a halt, and another gateway gets it when it has run out. So
//! before each request that changes something, the lease must last longer than the request can take.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use keepgate_store::{Result, StoreError};

use crate::Inner;
use crate::locks;

/// How long a lease must be at least. The requests of a change have less time together, unless the operator's limits
/// are unusual; then the check before each of them refuses.
pub const LEASE: Duration = Duration::from_secs(600);

/// Gives gateways turns.
#[async_trait]
pub trait Coordinator: fmt::Debug + Send + Sync + 'static {
    /// Waits until it is this gateway's turn to change what has this name, for a minute or so.
    ///
    /// # Errors
    ///
    /// A line for the log: it cannot be reached, or somebody else does not finish.
    async fn turn(&self, name: &str) -> std::result::Result<Box<dyn Lease>, String>;

    /// What it is, and where: two that are called the same give the same turns.
    fn place(&self) -> &str;
}

/// The turn of a gateway. Dropping it ends it, if it was not [released](Self::release).
#[async_trait]
pub trait Lease: Send + Sync {
    /// How long nobody else gets the turn, whatever happens to this process from now on.
    fn left(&self) -> Duration;

    /// Ends the turn.
    async fn release(self: Box<Self>);
}

/// The turn of one change.
pub(crate) struct Turn {
    lease: Option<Box<dyn Lease>>,
    _here: locks::Turn,
}

impl Inner {
    /// Waits for the turn of a change of this object.
    pub(crate) async fn turn(&self, object: &str) -> Result<Turn> {
        let here = self.locks.turn(object).await;
        let mut lease = None;
        if let Some(coordinator) = &self.remote.options.coordinator {
            let name = format!("{}/{object}", self.remote.options.bucket);
            lease = Some(coordinator.turn(&name).await.map_err(|reason| {
                tracing::warn!(place = coordinator.place(), reason, "no turn to change a blob");
                StoreError::Unavailable("the gateways of this store cannot coordinate".to_owned())
            })?);
        }
        Ok(Turn { lease, _here: here })
    }
}

impl Turn {
    /// Refuses if somebody else could get the turn before a request of this length has ended.
    pub(crate) fn check(&self, needed: Duration) -> Result<()> {
        match &self.lease {
            Some(lease) if lease.left() < needed => {
                Err(StoreError::Unavailable("the turn to change this blob runs out".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Ends the turn among gateways, then in this process.
    pub(crate) async fn release(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release().await;
        }
    }
}
