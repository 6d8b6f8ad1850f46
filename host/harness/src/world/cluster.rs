//! A cluster of etcd that sends what the case says.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_connect::{Checked, ConnectError, EndpointStatus, Facts, Snapshot, Snapshots};
use keepgate_store::{Body, BodyError};
use sha2::{Digest as _, Sha256};

use super::store::first;
use crate::case::Member;

/// How long a member may be silent, as a configuration has it where it says nothing.
const STALL: Duration = Duration::from_secs(60);

/// A cluster with its members in the order of the case.
#[derive(Debug)]
pub(crate) struct ToldCluster {
    members: Vec<ToldMember>,
}

#[derive(Debug)]
struct ToldMember {
    told: Member,
    id: u64,
    bytes: Bytes,
    failed: AtomicU32,
}

impl ToldCluster {
    /// Members with the bytes of their snapshots.
    pub(crate) fn new(members: Vec<(Member, Vec<u8>)>) -> Self {
        let members = (1..).zip(members).map(|(id, (told, bytes))| ToldMember {
            told,
            id,
            bytes: bytes.into(),
            failed: AtomicU32::new(0),
        });
        Self { members: members.collect() }
    }
}

impl ToldMember {
    fn snapshot(&self) -> Snapshot {
        let size = self.bytes.len() as u64;
        let facts = Facts {
            endpoint: self.told.endpoint.clone(),
            version: self.told.version.clone(),
            cluster_id: 1,
            member_id: self.id,
            revision: self.told.revision,
            keys: self.told.keys,
            size,
        };
        let sha256 = Checked::default();
        let body = match self.failure() {
            Some((passes, end)) => {
                let whole = Body::from_bytes(self.bytes.clone());
                Body::from_stream(Some(size), first(whole, passes).chain(end))
            }
            None => {
                let (told, sum) = (sha256.clone(), hex::encode(Sha256::digest(&self.bytes)));
                let bytes = self.bytes.clone();
                let all = stream::iter((!bytes.is_empty()).then_some(Ok(bytes)));
                // The sum is known when the end is, and not before.
                let end = stream::poll_fn(move |_| {
                    told.set(sum.clone());
                    std::task::Poll::Ready(None)
                });
                Body::from_stream(Some(size), all.chain(end))
            }
        };
        Snapshot { facts, body, sha256 }
    }

    /// After how many bytes it fails this time, and how.
    fn failure(
        &self,
    ) -> Option<(u64, impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + 'static)>
    {
        let (passes, silent) = match (self.told.breaks, self.told.stalls) {
            (Some(passes), _) => (passes, false),
            (None, Some(passes)) => (passes, true),
            (None, None) => return None,
        };
        let failed = self.failed.fetch_add(1, Ordering::Relaxed);
        if self.told.times.is_some_and(|times| failed >= times) {
            return None;
        }
        let endpoint = self.told.endpoint.clone();
        let end = stream::once(async move {
            let why = if silent {
                tokio::time::sleep(STALL).await;
                format!("{endpoint}: nothing came for {STALL:?}")
            } else {
                format!("{endpoint}: broke off after {passes} bytes")
            };
            Err(BodyError::Unavailable(why))
        });
        Some((passes, end))
    }
}

#[async_trait]
impl Snapshots for ToldCluster {
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError> {
        let mut reasons = Vec::new();
        for member in &self.members {
            let endpoint = &member.told.endpoint;
            if except.contains(endpoint) {
                continue;
            }
            match &member.told.refuses {
                Some(why) => reasons.push(format!("{endpoint}: {why}")),
                None => return Ok(member.snapshot()),
            }
        }
        if reasons.is_empty() {
            reasons.push("no other endpoint is left".to_owned());
        }
        Err(ConnectError::Unavailable(reasons.join("; ")))
    }

    async fn status(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}
