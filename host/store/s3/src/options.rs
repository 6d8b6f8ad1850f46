//! How a bucket is reached and used. Everything has a default but the bucket.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

/// S3 takes no smaller part than this, except as the last one.
pub const MIN_PART: u64 = 5 * MIB;
pub(crate) const MIB: u64 = 1024 * 1024;

/// A bucket, and how it is used.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// What the names of all objects begin with, like a folder; empty for the whole bucket.
    pub prefix: String,
    /// The server's URL; none for AWS itself.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket is named in the path of URLs, as most servers but AWS want it, or in the host.
    pub path_style: bool,
    /// Who the gateway is.
    pub credentials: Credentials,
    /// Authorities or certificates that the server is trusted by; empty for those of the system.
    pub trust: Vec<CertificateDer<'static>>,
    /// This gateway is the only program that writes below the prefix. Needed if the server's conditional writes
    /// are not atomic; see [`Capabilities`](crate::Capabilities).
    pub single_writer: bool,
    /// Time for a connection, with its TLS handshake.
    pub connect_timeout: Duration,
    /// Time from the beginning of one request to the head of its response.
    pub request_timeout: Duration,
    /// Time between two chunks of a download.
    pub idle_timeout: Duration,
    /// Time for one request with all its repetitions.
    pub budget: Duration,
    /// How often one request is made at most.
    pub attempts: u32,
    /// Bodies of at most this many bytes are sent in one request. One whose length is not known beforehand is, if it
    /// fits into a part.
    pub single_put: u64,
    /// Bytes of a part of a larger body; [`MIN_PART`] at least.
    pub part_size: u64,
    /// Parts of one upload that are sent at the same time.
    pub parallel_parts: usize,
    /// Bytes that all uploads of the store may hold in memory together. One upload holds `part_size` for each
    /// parallel part and one more, or its body if that is sent in one request.
    pub memory: u64,
    /// How old the parts of an upload must be before the sweep removes them.
    pub abandoned_after: Duration,
}

/// Who the gateway is.
#[derive(Clone)]
pub enum Credentials {
    /// What AWS' own tools use: environment, profile, web identity, container, instance role.
    Chain {
        /// A profile of `~/.aws`, instead of the default one.
        profile: Option<String>,
    },
    /// These keys.
    Keys {
        /// The access key's id.
        id: String,
        /// The secret key.
        secret: String,
        /// The session's token, for temporary keys.
        token: Option<String>,
    },
}

/// Shows no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain { profile } => f.debug_struct("Chain").field("profile", profile).finish(),
            Self::Keys { id, .. } => f.debug_struct("Keys").field("id", id).finish_non_exhaustive(),
        }
    }
}

impl S3Options {
    /// This bucket, with the defaults for everything else.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            credentials: Credentials::Chain { profile: None },
            trust: Vec::new(),
            single_writer: false,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            budget: Duration::from_secs(120),
            attempts: 6,
            // restic's packs have up to 24 MiB.
            single_put: 32 * MIB,
            part_size: 16 * MIB,
            parallel_parts: 4,
            memory: 256 * MIB,
            abandoned_after: Duration::from_secs(48 * 60 * 60),
        }
    }

    /// The endpoint, for messages.
    pub(crate) fn place(&self) -> String {
        let endpoint = self.endpoint.as_deref().unwrap_or("AWS");
        format!("bucket \"{}\" at {endpoint}", self.bucket)
    }

    /// Why these options cannot work, if they cannot.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.bucket.is_empty() || self.bucket.contains('/') {
            return Some(format!("expected the name of a bucket, found \"{}\"", self.bucket));
        }
        if self.part_size < MIN_PART {
            return Some(format!(
                "parts of {} bytes are too small; S3 takes {MIN_PART}",
                self.part_size
            ));
        }
        let needed = self.single_put.max(self.part_size.saturating_mul(2));
        if self.memory < needed {
            return Some(format!(
                "{} bytes of memory for uploads are too few; one upload needs {needed}",
                self.memory
            ));
        }
        let prefix = self.prefix.trim_matches('/');
        if !prefix.is_empty()
            && let Err(error) = keepgate_store::Folder::new(prefix)
        {
            return Some(format!("the prefix is no name of a folder: {error}"));
        }
        None
    }
}
