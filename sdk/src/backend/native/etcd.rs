//! `etcd` outside a component: snapshots that the test laid ready.

use std::cell::RefCell;

use sha2::{Digest as _, Sha256};

use crate::Failure;
use crate::backend::Body;
use crate::backend::pipes::Meter;
pub use crate::bindings::keepgate::plugin::etcd::Facts;
use crate::testing::with_host;

/// A snapshot under way: the file that `etcdctl snapshot save` writes.
#[derive(Debug)]
pub struct Snapshot {
    facts: Facts,
    data: RefCell<Option<Body>>,
    /// Knows when the bytes have been read.
    meter: Meter,
    sha256: String,
}

impl Snapshot {
    /// A snapshot of a granted cluster, from none of the endpoints in `except`.
    pub fn take(cluster: &str, except: &[String]) -> Result<Self, Failure> {
        let ready = with_host(|host| host.take_snapshot(cluster, except))?;
        let sha256 = crate::testing::hex(&Sha256::digest(&ready.bytes));
        let body = match ready.breaks_off {
            None => Body::from_bytes(&ready.bytes),
            Some(failure) => Body::failing(&[], Some(ready.facts.size), failure),
        };
        let (meter, body) = Meter::attach(body);
        Ok(Self { facts: ready.facts, data: RefCell::new(Some(body)), meter, sha256 })
    }

    /// What is known before the bytes come.
    pub fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// The bytes, once.
    pub fn data(&self) -> Result<Body, Failure> {
        let taken = || Failure::Invalid("the bytes of this snapshot were taken before".to_owned());
        self.data.borrow_mut().take().ok_or_else(taken)
    }

    /// The SHA-256 of the database, once the bytes have been read to their end.
    pub fn sha256(&self) -> Option<String> {
        self.meter.sum().map(|_| self.sha256.clone())
    }
}

/// The names of the clusters that the mount grants, in order.
pub fn clusters() -> Vec<String> {
    with_host(|host| host.clusters())
}
