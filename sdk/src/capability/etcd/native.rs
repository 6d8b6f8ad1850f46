//! Clusters whose snapshots a test prepares.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest as _, Sha256};

use super::Facts;
use crate::pipes::Meter;
use crate::testing::{Host, hex, with};
use crate::{Body, Failure};

/// Clusters, each with its remaining snapshots.
type Clusters = BTreeMap<String, VecDeque<TestSnapshot>>;

/// A snapshot in progress: the file that `etcdctl snapshot save` writes.
#[derive(Debug)]
pub struct Snapshot {
    facts: Facts,
    data: RefCell<Option<Body>>,
    /// Counts the bytes that have been read.
    meter: Meter,
    sha256: String,
}

impl Snapshot {
    /// Takes a snapshot of a granted cluster, from an endpoint that is not in `except`. Fails with
    /// [`Failure::Unavailable`] if no endpoint answers, and with [`Failure::Denied`] if the mount does not
    /// grant the cluster.
    pub fn take(cluster: &str, except: &[String]) -> Result<Self, Failure> {
        let ready = with(|clusters: &mut Clusters| {
            let ready = clusters.get_mut(cluster).ok_or_else(|| {
                Failure::Denied(format!("the mount grants no cluster named {cluster:?}"))
            })?;
            let next = ready.iter().position(|ready| !except.contains(&ready.facts.endpoint));
            let next = next.and_then(|next| ready.remove(next));
            next.ok_or_else(|| Failure::Unavailable(format!("{cluster}: no endpoint answers")))
        })?;
        let sha256 = hex(&Sha256::digest(&ready.bytes));
        let body = match ready.breaks_off {
            None => Body::from_bytes(&ready.bytes),
            Some(failure) => Body::failing(&[], Some(ready.facts.size), failure),
        };
        let (meter, body) = Meter::attach(body);
        Ok(Self { facts: ready.facts, data: RefCell::new(Some(body)), meter, sha256 })
    }

    /// What is known before the bytes arrive.
    pub fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// The bytes. Fails with [`Failure::Invalid`] at the second call.
    pub fn data(&self) -> Result<Body, Failure> {
        let taken = || Failure::Invalid("the bytes of this snapshot were taken before".to_owned());
        self.data.borrow_mut().take().ok_or_else(taken)
    }

    /// The SHA-256 of the database in lower-case hexadecimal digits; `None` until the bytes have been read to
    /// their end.
    pub fn sha256(&self) -> Option<String> {
        self.meter.sum().map(|_| self.sha256.clone())
    }
}

/// The names of the clusters that the mount grants, in order.
pub fn clusters() -> Vec<String> {
    with(|clusters: &mut Clusters| clusters.keys().cloned().collect())
}

/// A snapshot that a test prepares for [`Snapshot::take`].
#[derive(Clone, Debug)]
pub struct TestSnapshot {
    facts: Facts,
    bytes: Vec<u8>,
    breaks_off: Option<Failure>,
}

impl TestSnapshot {
    /// A complete snapshot from `http://127.0.0.1:2379`.
    pub fn new(bytes: &[u8]) -> Self {
        let facts = Facts {
            endpoint: "http://127.0.0.1:2379".to_owned(),
            version: "3.4.23".to_owned(),
            cluster_id: 1,
            member_id: 2,
            revision: 3,
            keys: Some(4),
            size: bytes.len() as u64,
        };
        Self { facts, bytes: bytes.to_vec(), breaks_off: None }
    }

    /// Sets another endpoint.
    #[must_use]
    pub fn from(mut self, endpoint: &str) -> Self {
        endpoint.clone_into(&mut self.facts.endpoint);
        self
    }

    /// Makes reading it fail.
    #[must_use]
    pub fn breaking_off(mut self, failure: Failure) -> Self {
        self.breaks_off = Some(failure);
        self
    }
}

impl Host {
    /// Grants a cluster and prepares its snapshots: each `take` returns the next one. When none is left,
    /// `take` fails with `unavailable`.
    pub fn cluster(&self, name: &str, snapshots: &[TestSnapshot]) {
        with(|clusters: &mut Clusters| {
            clusters.entry(name.to_owned()).or_default().extend(snapshots.iter().cloned());
        });
    }
}
