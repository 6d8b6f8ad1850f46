//! `etcd`: snapshots of the clusters that the mount grants.

use std::fmt;

use futures_util::StreamExt as _;
use keepgate_connect::{Checked, ConnectError, Facts};
use keepgate_jobs::{Progress, Reporter};
use keepgate_store::Body;
use wasmtime::component::Resource;

use crate::call::Failure;
use crate::contract::{Refusal, etcd};
use crate::held::body_with;
use crate::imports::types::BodyHandle;
use crate::state::State;

/// A snapshot in a guest's hands.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct SnapshotHandle {
    facts: Facts,
    /// Until the guest takes it.
    body: Option<Body>,
    sha256: Checked,
}

impl fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotHandle").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl etcd::Host for State {
    fn clusters(&mut self) -> wasmtime::Result<Vec<String>> {
        self.note("etcd.clusters", |_| String::new());
        Ok(self.grants.services.clusters.keys().cloned().collect())
    }
}

impl etcd::HostSnapshot for State {
    async fn take(
        &mut self,
        cluster: String,
        except: Vec<String>,
    ) -> Result<Resource<SnapshotHandle>, Refusal> {
        self.note("etcd.take", |_| match except.as_slice() {
            [] => cluster.clone(),
            except => format!("{cluster} except {}", except.join(" ")),
        });
        let Some(granted) = self.grants.services.clusters.get(&cluster).cloned() else {
            return Err(Failure::Denied(format!(
                "the mount {} grants no cluster named {cluster:?}; it grants {:?}",
                self.grants.mount,
                self.grants.services.clusters.keys().collect::<Vec<_>>(),
            ))
            .into());
        };
        let open = self.held.open()?;
        let snapshot = self.cpu.free(granted.take(&except)).await?;
        let handle = SnapshotHandle {
            facts: snapshot.facts,
            body: Some(body_with(snapshot.body, open)),
            sha256: snapshot.sha256,
        };
        Ok(self.table.push(handle)?)
    }

    fn facts(&mut self, snapshot: Resource<SnapshotHandle>) -> wasmtime::Result<etcd::Facts> {
        let facts = &self.table.get(&snapshot)?.facts;
        Ok(etcd::Facts {
            endpoint: facts.endpoint.clone(),
            version: facts.version.clone(),
            cluster_id: facts.cluster_id,
            member_id: facts.member_id,
            revision: facts.revision,
            keys: facts.keys,
            size: facts.size,
        })
    }

    fn data(
        &mut self,
        snapshot: Resource<SnapshotHandle>,
    ) -> Result<Resource<BodyHandle>, Refusal> {
        self.note("etcd.data", |_| String::new());
        let Some(body) = self.table.get_mut(&snapshot)?.body.take() else {
            let why = "the bytes of this snapshot were taken before";
            return Err(Failure::Invalid(why.to_owned()).into());
        };
        let body = match &self.job {
            Some(job) => reported(body, job.reporter.clone()),
            None => body,
        };
        Ok(self.table.push(BodyHandle::new(body))?)
    }

    fn sha256(&mut self, snapshot: Resource<SnapshotHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&snapshot)?.sha256.get())
    }

    async fn drop(&mut self, snapshot: Resource<SnapshotHandle>) -> wasmtime::Result<()> {
        self.table.delete(snapshot)?;
        Ok(())
    }
}

/// The same body; what has been read of it is the progress of a job. The plugin waits meanwhile, and
/// cannot tell.
fn reported(body: Body, reporter: Reporter) -> Body {
    let (length, mut done) = (body.length(), 0);
    let chunks = body.inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            done += chunk.len() as u64;
            let phase = reporter.latest().phase;
            reporter.report(Progress { done, total: length, phase });
        }
    });
    Body::from_stream(length, chunks)
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        Failure::Unavailable(error.to_string()).into()
    }
}
