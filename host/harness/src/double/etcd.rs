//! Test doubles of etcd clusters: their members send the snapshots of a case, break off or fall silent. This
//! file has their form in case files, the doubles, and the kit's method.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_connect::{Checked, ConnectError, EndpointStatus, Facts, Snapshot, Snapshots};
use keepgate_runtime::capability::etcd;
use keepgate_store::{Body, BodyError};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Double, Setup};
use crate::case::{Content, Short};
use crate::fixture::first;
use crate::kit::Harness;

/// How long a member may be silent: the configuration's default.
const STALL: Duration = Duration::from_secs(60);

/// The clusters of a case, by the names under which the mount is granted them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Clusters(BTreeMap<String, Vec<Member>>);

/// A member of a cluster, and what it does when it is asked for a snapshot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The member's URL.
    pub endpoint: String,
    /// The bytes of the snapshot that it sends.
    #[serde(default)]
    pub sends: Short<Content>,
    /// The error with which it refuses.
    pub refuses: Option<String>,
    /// The number of bytes after which it breaks off.
    pub breaks: Option<u64>,
    /// The number of bytes after which it falls silent. After a minute of silence, the snapshot counts as
    /// broken off.
    pub stalls: Option<u64>,
    /// How often `breaks` or `stalls` takes effect; by default always.
    pub times: Option<u32>,
    /// The member's version of etcd.
    #[serde(default = "version")]
    pub version: String,
    /// The revision of the snapshot.
    #[serde(default = "one")]
    pub revision: i64,
    /// The number of keys in the snapshot.
    pub keys: Option<u64>,
}

fn version() -> String {
    "3.5.0".to_owned()
}

fn one() -> i64 {
    1
}

impl Member {
    /// A member that sends these bytes.
    pub fn new(endpoint: &str, snapshot: &[u8]) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            sends: Short(Content::of(snapshot)),
            refuses: None,
            breaks: None,
            stalls: None,
            times: None,
            version: version(),
            revision: one(),
            keys: None,
        }
    }
}

impl Harness {
    /// Adds a cluster with these members.
    #[must_use]
    pub fn cluster(mut self, name: &str, members: Vec<Member>) -> Self {
        self.world.doubles.etcd.0.insert(name.to_owned(), members);
        self
    }
}

impl Double for Clusters {
    const KEY: &'static str = "cluster";

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn extend(&mut self, over: Self) {
        self.0.extend(over.0);
    }

    fn install(&self, setup: &mut Setup<'_>) -> Result<(), String> {
        let mut clusters = etcd::Clusters::default();
        for (name, members) in &self.0 {
            let members = members.iter().map(|member| {
                let bytes = member.sends.0.bytes(setup.folder, setup.values);
                bytes.map(|bytes| (member.clone(), bytes))
            });
            let cluster = FakeCluster::new(members.collect::<Result<_, _>>()?);
            clusters.0.insert(name.clone(), Arc::new(cluster));
        }
        setup.spec.grants.insert(clusters);
        Ok(())
    }
}

/// A cluster whose members are asked in the order of the case.
#[derive(Debug)]
struct FakeCluster {
    members: Vec<FakeMember>,
}

#[derive(Debug)]
struct FakeMember {
    form: Member,
    id: u64,
    bytes: Bytes,
    failed: AtomicU32,
}

impl FakeCluster {
    /// Members with the bytes of their snapshots.
    fn new(members: Vec<(Member, Vec<u8>)>) -> Self {
        let members = (1..).zip(members).map(|(id, (form, bytes))| FakeMember {
            form,
            id,
            bytes: bytes.into(),
            failed: AtomicU32::new(0),
        });
        Self { members: members.collect() }
    }
}

impl FakeMember {
    fn snapshot(&self) -> Snapshot {
        let size = self.bytes.len() as u64;
        let facts = Facts {
            endpoint: self.form.endpoint.clone(),
            version: self.form.version.clone(),
            cluster_id: 1,
            member_id: self.id,
            revision: self.form.revision,
            keys: self.form.keys,
            size,
        };
        let sha256 = Checked::default();
        let body = match self.failure() {
            Some((passes, end)) => {
                let whole = Body::from_bytes(self.bytes.clone());
                Body::from_stream(Some(size), first(whole, passes).chain(end))
            }
            None => {
                let (checked, sum) = (sha256.clone(), hex::encode(Sha256::digest(&self.bytes)));
                let bytes = self.bytes.clone();
                let all = stream::iter((!bytes.is_empty()).then_some(Ok(bytes)));
                // The checksum is only known at the end.
                let end = stream::poll_fn(move |_| {
                    checked.set(sum.clone());
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
        let (passes, silent) = match (self.form.breaks, self.form.stalls) {
            (Some(passes), _) => (passes, false),
            (None, Some(passes)) => (passes, true),
            (None, None) => return None,
        };
        let failed = self.failed.fetch_add(1, Ordering::Relaxed);
        if self.form.times.is_some_and(|times| failed >= times) {
            return None;
        }
        let endpoint = self.form.endpoint.clone();
        let end = stream::once(async move {
            let why = if silent {
                tokio::time::sleep(STALL).await;
                format!("{endpoint}: sent nothing for {STALL:?}")
            } else {
                format!("{endpoint}: broke off after {passes} bytes")
            };
            Err(BodyError::Unavailable(why))
        });
        Some((passes, end))
    }
}

#[async_trait]
impl Snapshots for FakeCluster {
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError> {
        let mut reasons = Vec::new();
        for member in &self.members {
            let endpoint = &member.form.endpoint;
            if except.contains(endpoint) {
                continue;
            }
            match &member.form.refuses {
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
