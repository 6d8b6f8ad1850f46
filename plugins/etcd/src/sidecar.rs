//! What is known about a backup, as JSON beside it. Fields may be added, but existing ones keep their
//! meaning. A backup without a sidecar is still a backup.

use keepgate_sdk::Timestamp;
use keepgate_sdk::sidecar::Sidecar;
use serde::{Deserialize, Serialize};

use crate::layout::Cluster;
use crate::settings::Format;

/// The content of a sidecar. Clients see it in lists with details.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) filename: String,
    /// Size of the file in bytes.
    pub(crate) filesize: u64,
    /// The SHA-256 of the file, in lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// Size of what `etcdctl snapshot save` would have written, in bytes.
    pub(crate) snapshot_size: u64,
    /// The SHA-256 of the database, in lower-case hexadecimal digits. It is also at the end of the snapshot.
    pub(crate) snapshot_sha256: String,
    /// When the backup began.
    pub(crate) created: Timestamp,
    pub(crate) duration_ms: u64,
    pub(crate) format: Format,
    pub(crate) cluster: Cluster,
    /// As etcd prints them, in hex: not every reader of JSON keeps numbers of 64 bits.
    pub(crate) cluster_id: String,
    pub(crate) member_id: String,
    pub(crate) endpoint: String,
    pub(crate) etcd_version: String,
    /// Everything that was written up to this revision is in the snapshot.
    pub(crate) revision: i64,
    /// Keys at that revision, if etcd let them be counted.
    pub(crate) keys: Option<u64>,
}

/// A sidecar that was read.
pub(crate) type Known = Sidecar<Essence>;

/// What the plugin itself has to know about a backup.
#[derive(Debug, Deserialize)]
pub(crate) struct Essence {
    pub(crate) filename: String,
    pub(crate) filesize: u64,
    /// The SHA-256 of the file, in lower-case hexadecimal digits.
    pub(crate) sha256: Option<String>,
}
