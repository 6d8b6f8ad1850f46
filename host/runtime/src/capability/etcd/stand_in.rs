//! A cluster for calls of a plugin without a gateway: it can be granted, and every snapshot of it fails.

use async_trait::async_trait;
use keepgate_connect::{ConnectError, EndpointStatus, Snapshot, Snapshots};

/// A cluster without members.
#[derive(Debug)]
pub(super) struct NoMembers;

#[async_trait]
impl Snapshots for NoMembers {
    async fn take(&self, _except: &[String]) -> Result<Snapshot, ConnectError> {
        Err(ConnectError::Unavailable("no cluster is connected here".to_owned()))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}
