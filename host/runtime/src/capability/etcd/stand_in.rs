//! A cluster for calling a plugin without a gateway: it is granted and answers nothing.

use async_trait::async_trait;
use keepgate_connect::{ConnectError, EndpointStatus, Snapshot, Snapshots};

/// A cluster without members.
#[derive(Debug)]
pub(super) struct NoMembers;

#[async_trait]
impl Snapshots for NoMembers {
    async fn take(&self, _except: &[String]) -> Result<Snapshot, ConnectError> {
        Err(ConnectError::Unavailable("there is no cluster here".to_owned()))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}
