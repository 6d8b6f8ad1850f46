//! What is known of a backup, as JSON beside it. Fields may be added; what is there keeps its meaning. A backup
//! without a sidecar is a backup all the same.

use keepgate_sdk::Timestamp;
use keepgate_sdk::sidecar::Sidecar;
use serde::{Deserialize, Serialize};

use crate::layout::File;

/// What is written. Clients see it in lists with details.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) filename: String,
    /// Size of the file in bytes.
    pub(crate) filesize: u64,
    /// Of the file, in lower-case hex.
    pub(crate) sha256: String,
    /// Size of what `etcdctl snapshot save` would have written, in bytes.
    pub(crate) snapshot_size: u64,
    /// Of the database, in lower-case hex; the snapshot ends with it.
    pub(crate) snapshot_sha256: String,
    /// When the backup began.
    pub(crate) created: Timestamp,
    pub(crate) duration_ms: u64,
    pub(crate) format: &'static str,
    pub(crate) cluster: String,
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

/// What the plugin itself needs to know of a backup.
#[derive(Debug, Deserialize)]
pub(crate) struct Essence {
    filename: String,
    filesize: u64,
    sha256: Option<String>,
}

impl Essence {
    /// Whether it describes this very file.
    pub(crate) fn fits(&self, file: &File) -> bool {
        self.filename == file.name.as_str() && self.filesize == file.size
    }

    /// Of the file, in lower-case hex.
    pub(crate) fn sha256(&self) -> Option<&str> {
        let is_hex = |text: &&str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        self.sha256.as_deref().filter(is_hex)
    }
}
