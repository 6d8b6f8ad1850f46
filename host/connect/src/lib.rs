//! What the gateway reaches behind itself: clusters that the operator named, of which snapshots
//! are taken. A new kind of system is a module beside `etcd`, with its own options, behind
//! [`Snapshots`].
//!
//! Addresses, certificates and passwords stay in here. Texts of errors name endpoints, causes and
//! files, and never a secret: they are shown to whoever asked for the snapshot.

pub mod etcd;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use keepgate_store::Body;

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No endpoint delivered; one line that names each with what is wrong there.
    #[error("{0}")]
    Unavailable(String),
    /// What the operator wrote cannot be used; the text names the file or the value.
    #[error("{0}")]
    Invalid(String),
}

/// A cluster of which snapshots are taken.
#[async_trait]
pub trait Snapshots: Send + Sync + fmt::Debug + 'static {
    /// Begins a snapshot, from the first member that delivers. `except` are endpoints that are not
    /// to be asked, as [`Facts::endpoint`] named them: their snapshot broke off before.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Unavailable`], within seconds, where no member delivers;
    /// [`ConnectError::Invalid`] where a file cannot be used any more.
    async fn take(&self, except: &[String]) -> Result<Snapshot, ConnectError>;

    /// Asks every endpoint how it is, and whether it would deliver: a snapshot is begun and left,
    /// since nothing else tells whether this user may take one. For people who check, and for
    /// figures every few minutes, not every second. In the order of the configuration.
    async fn status(&self) -> Vec<EndpointStatus>;
}

/// A snapshot under way.
#[derive(Debug)]
pub struct Snapshot {
    /// What is known before the bytes come.
    pub facts: Facts,
    /// The whole file, as long as [`Facts::size`]. It ends without an error only where all of it
    /// came and is right; else its last item is [`BodyError::Unavailable`], which names the
    /// endpoint. Dropping it closes the connection.
    ///
    /// [`BodyError::Unavailable`]: keepgate_store::BodyError::Unavailable
    pub body: Body,
    /// The checksum, once it was checked.
    pub sha256: Checked,
}

/// What is known of a snapshot before its bytes come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// URL of the member that it comes from, without credentials.
    pub endpoint: String,
    /// Of the member's program, as in `3.4.23`.
    pub version: String,
    /// Identifies the cluster.
    pub cluster_id: u64,
    /// Identifies the member in its cluster.
    pub member_id: u64,
    /// Of the member just before: whatever was written up to then is in the snapshot.
    pub revision: i64,
    /// Keys at that revision; none where this user may not count them, or it takes too long.
    pub keys: Option<u64>,
    /// Bytes of the whole file, with the checksum at its end.
    pub size: u64,
}

/// The SHA-256 that a snapshot ends with, once its bytes were read to their end and found right.
/// Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Checked(Arc<OnceLock<String>>);

impl Checked {
    /// In lower-case hex; none before the check, or where it failed.
    pub fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }

    /// Says that the bytes came to their end and are right. For whoever makes snapshots.
    pub fn set(&self, sha256: String) {
        // A body is read once, so nothing was set before.
        let _ = self.0.set(sha256);
    }
}

/// How an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its URL, without credentials.
    pub endpoint: String,
    /// What it says, or in one line why no snapshot can be taken there.
    pub outcome: Result<MemberStatus, String>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Of its program, as in `3.4.23`.
    pub version: String,
    /// Identifies the cluster.
    pub cluster_id: u64,
    /// Identifies the member in its cluster.
    pub member_id: u64,
    /// The leader's identifier; none where it sees no leader, so that what it has may be old.
    pub leader: Option<u64>,
    /// It has no vote yet, and may be far behind.
    pub learner: bool,
    /// The last revision that it has applied.
    pub revision: i64,
    /// Bytes of its database on disk.
    pub db_size: u64,
    /// What is wrong with it, in its own words: alarms, say.
    pub errors: Vec<String>,
}
