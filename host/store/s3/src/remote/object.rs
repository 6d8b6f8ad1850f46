//! What is known about objects, and what is said about those that are to be stored.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::ObjectLockMode;
use aws_smithy_types::DateTime;
use sha2::{Digest as _, Sha256};

use crate::options::LockMode;

/// What the server knows about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The server's own, without quotes.
    pub(crate) etag: String,
    pub(crate) size: u64,
    /// Whole seconds since 1970: responses have no more.
    pub(crate) seconds: i64,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: HashMap<String, String>,
    /// In a bucket with versions.
    pub(crate) version: Option<String>,
}

/// Until when the bucket itself keeps an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) mode: LockMode,
    pub(crate) until: SystemTime,
}

/// What must hold on the server for a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing, or nothing that the server could check.
    None,
    /// There is no object.
    Absent,
    /// The object has this etag of the server's.
    Is(String),
}

/// Digests of bytes that are about to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digests {
    pub(crate) sha256: [u8; 32],
    /// Costs more than everything else, so it is computed only where it is needed.
    pub(crate) md5: Option<[u8; 16]>,
    /// What the server is told as the checksum: the SHA-256, unless a probe lies.
    pub(crate) checksum: [u8; 32],
}

/// What is kept with an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) content_type: String,
    pub(crate) metadata: HashMap<String, String>,
    /// Encoded as in a query; only if the server keeps tags.
    pub(crate) tagging: Option<String>,
    pub(crate) retention: Option<Retention>,
}

impl Digests {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        use md5::Digest as _;

        Self { md5: Some(md5::Md5::digest(bytes).into()), ..Self::without_md5(bytes) }
    }

    pub(crate) fn without_md5(bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).into();
        Self { sha256, md5: None, checksum: sha256 }
    }
}

impl Retention {
    pub(super) fn mode(&self) -> ObjectLockMode {
        match self.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        }
    }

    pub(super) fn until(&self) -> DateTime {
        // Whole seconds, rounded up: some servers take no fractions.
        let since = self.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        DateTime::from_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX).saturating_add(1))
    }
}

impl Object {
    /// What a store calls the etag: it changes whenever the object does, and listings have it too. The server's
    /// own comes from the bytes, so the time belongs to it; `repeats` says why that is enough.
    pub(crate) fn store_etag(&self) -> String {
        store_etag(&self.etag, self.seconds)
    }

    pub(crate) fn modified(&self) -> SystemTime {
        time(self.seconds)
    }
}

pub(crate) fn store_etag(etag: &str, seconds: i64) -> String {
    format!("{etag}.{seconds:x}")
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
