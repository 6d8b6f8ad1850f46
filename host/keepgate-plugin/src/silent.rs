//! A cluster that grants itself to a plugin and answers nothing: for calling plugins by themselves that
//! name clusters.

use async_trait::async_trait;
use keepgate_connect::{ConnectError, EndpointStatus, Snapshot, Snapshots};

/// A cluster without members.
#[derive(Debug)]
pub(crate) struct Silent;

#[async_trait]
impl Snapshots for Silent {
    async fn take(&self, _except: &[String]) -> Result<Snapshot, ConnectError> {
        Err(ConnectError::Unavailable("there is no cluster here".to_owned()))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}
