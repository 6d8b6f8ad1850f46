//! Systems behind the gateway that the operator has configured: clusters from which snapshots are
//! taken. A new kind of system is a module beside `etcd`, with its own options, behind
//! [`Snapshots`].
//!
//! Addresses, certificates and passwords do not leave this crate. Error texts name endpoints, causes
//! and files, but never a secret, because they are shown to whoever asked for the snapshot.

pub mod etcd;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use keepgate_store::Body;

/// Why a snapshot cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No endpoint delivered; one line that names each endpoint and its error.
    #[error("{0}")]
    Unavailable(String),
    /// The configuration is invalid; the text names the file or the value.
    #[error("{0}")]
    Invalid(String),
}

/// A cluster from which snapshots are taken.
#[async_trait]
pub trait Snapshots: Send + Sync + fmt::Debug + 'static {
    /// Begins a snapshot from the first member that delivers. `except` lists endpoints to leave out,
    /// as named by [`Facts::endpoint`], because their snapshot broke off before.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Unavailable`], within seconds, if no member delivers;
    /// [`ConnectError::Invalid`] if a file can no longer be used.
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError>;

    /// Asks every endpoint for its status, and whether it would deliver: a snapshot is begun and
    /// abandoned, because nothing else tells whether this user may take one. Meant for people and for
    /// metrics every few minutes, not every second. In the order of the configuration.
    async fn status(&self) -> Vec<EndpointStatus>;
}

/// A snapshot in progress.
#[derive(Debug)]
pub struct Snapshot {
    /// What is known before the bytes arrive.
    pub facts: Facts,
    /// The whole file, with the length [`Facts::size`]. It only ends without an error if all bytes
    /// arrived and are valid; otherwise its last item is [`BodyError::Unavailable`], which names the
    /// endpoint. Dropping it closes the connection.
    ///
    /// [`BodyError::Unavailable`]: keepgate_store::BodyError::Unavailable
    pub body: Body,
    /// The checksum, once it has been verified.
    pub sha256: Checked,
}

/// What is known about a snapshot before its bytes arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// URL of the member that it comes from, without credentials.
    pub endpoint: String,
    /// The member's version of etcd, such as `3.4.23`.
    pub version: String,
    /// Identifies the cluster.
    pub cluster_id: u64,
    /// Identifies the member in its cluster.
    pub member_id: u64,
    /// The member's revision just before; everything written up to it is in the snapshot.
    pub revision: i64,
    /// Keys at that revision; `None` if this user may not count them, or if it takes too long.
    pub keys: Option<u64>,
    /// Size of the whole file in bytes, including the checksum at its end.
    pub size: u64,
}

/// The SHA-256 at a snapshot's end, available once the bytes were read to their end and verified.
/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Checked(Arc<OnceLock<String>>);

impl Checked {
    /// In lower-case hex; none before the verification, or if it failed.
    pub fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }

    /// Records that the bytes were read to their end and are valid. For implementations of snapshots.
    pub fn set(&self, sha256: String) {
        // A body is read once, so nothing was set before.
        let _ = self.0.set(sha256);
    }
}

/// The status of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its URL, without credentials.
    pub endpoint: String,
    /// The member's status, or in one line why no snapshot can be taken there.
    pub outcome: Result<MemberStatus, String>,
}

/// What a member reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its version of etcd, such as `3.4.23`.
    pub version: String,
    /// Identifies the cluster.
    pub cluster_id: u64,
    /// Identifies the member in its cluster.
    pub member_id: u64,
    /// The leader's identifier; `None` if it sees no leader, so its data may be old.
    pub leader: Option<u64>,
    /// Whether it has no vote yet and may be far behind.
    pub learner: bool,
    /// The last revision that it has applied.
    pub revision: i64,
    /// Size of its database on disk, in bytes.
    pub db_size: u64,
    /// Its problems in its own words, such as alarms.
    pub errors: Vec<String>,
}
