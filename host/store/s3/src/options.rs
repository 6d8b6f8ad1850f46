//! How a bucket is reached and used. Everything has a default but the bucket.
//!
//! Options can be compared: a reload keeps a store whose options are the same.

use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use keepgate_store::clock::Clock;
use rustls_pki_types::CertificateDer;

use crate::credentials::Credentials;
use crate::metrics::StoreMetrics;
use crate::turns::Coordinator;

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
    /// An HTTP proxy, `http://[USER:PASSWORD@]HOST[:PORT]`. None for what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`
    /// say, as other clients of S3 have it; a server on this machine is then reached directly.
    pub proxy: Option<String>,
    /// Nothing is written: the bucket's rights need not allow it, and calls that would are denied.
    pub read_only: bool,
    /// This gateway is the only program that writes below the prefix. Needed if the server's conditional writes
    /// are not atomic; see [`Capabilities`](crate::Capabilities).
    pub single_writer: bool,
    /// Gives the gateways of this store turns. Needed as an alternative to `single_writer`. All gateways must have the same.
    pub coordinator: Option<Arc<dyn Coordinator>>,
    /// Retention that the bucket is told for each blob.
    pub lock: Option<Lock>,
    /// What removing a blob does in a bucket with versions.
    pub delete: OnDelete,
    /// Time for a connection, with its TLS handshake.
    pub connect_timeout: Duration,
    /// Time from the beginning of one request to the head of its response.
    pub request_timeout: Duration,
    /// Time between two chunks of a download.
    pub idle_timeout: Duration,
    /// Time for one request with all its repetitions, and before that, for its turn.
    pub budget: Duration,
    /// How often one request is made at most.
    pub attempts: u32,
    /// Requests of the store at the same time, up to the heads of their responses. Others wait for their turn.
    pub max_requests: usize,
    /// When a failing server is left alone.
    pub breaker: BreakerOptions,
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
    /// Says whether blobs have expired.
    pub clock: Clock,
    /// Where requests are counted. Makes no difference when options are compared.
    pub metrics: Option<StoreMetrics>,
}

/// When requests to a failing server are given up at once, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// After this many failures in a row; 0 for never.
    pub failures: u32,
    /// If the first of them began this long ago, so that a server that is restarted is waited for.
    pub after: Duration,
    /// Until a trial request. If that fails too, for as long again.
    pub pause: Duration,
}

/// Object lock: the bucket itself keeps each blob for a time, whoever asks to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who can shorten it.
    pub mode: LockMode,
    /// For how long after it was stored a blob is kept.
    pub period: Duration,
    /// Keys that are not locked, as patterns: `*` is any part of a name, `**/` any folders.
    pub except: Vec<String>,
}

/// Who can end a retention early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody.
    Compliance,
}

/// What removing a blob does in a bucket with versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// The blob is hidden, and its versions are left to the bucket's own rules.
    #[default]
    Latest,
    /// All versions of the blob are removed for good.
    AllVersions,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 10, after: Duration::from_secs(5), pause: Duration::from_secs(5) }
    }
}

/// Where requests are counted makes no difference.
impl PartialEq for S3Options {
    fn eq(&self, other: &Self) -> bool {
        // Without `..`, so that none is forgotten.
        let Self {
            bucket,
            prefix,
            endpoint,
            region,
            path_style,
            credentials,
            trust,
            proxy,
            read_only,
            single_writer,
            coordinator,
            lock,
            delete,
            connect_timeout,
            request_timeout,
            idle_timeout,
            budget,
            attempts,
            max_requests,
            breaker,
            single_put,
            part_size,
            parallel_parts,
            memory,
            abandoned_after,
            clock,
            metrics: _,
        } = self;
        *bucket == other.bucket
            && *prefix == other.prefix
            && *endpoint == other.endpoint
            && *region == other.region
            && *path_style == other.path_style
            && *credentials == other.credentials
            && *trust == other.trust
            && *proxy == other.proxy
            && *read_only == other.read_only
            && *single_writer == other.single_writer
            && coordinator.as_ref().map(|it| it.place())
                == other.coordinator.as_ref().map(|it| it.place())
            && *lock == other.lock
            && *delete == other.delete
            && *connect_timeout == other.connect_timeout
            && *request_timeout == other.request_timeout
            && *idle_timeout == other.idle_timeout
            && *budget == other.budget
            && *attempts == other.attempts
            && *max_requests == other.max_requests
            && *breaker == other.breaker
            && *single_put == other.single_put
            && *part_size == other.part_size
            && *parallel_parts == other.parallel_parts
            && *memory == other.memory
            && *abandoned_after == other.abandoned_after
            && *clock == other.clock
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
            proxy: None,
            read_only: false,
            single_writer: false,
            coordinator: None,
            lock: None,
            delete: OnDelete::Latest,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            budget: Duration::from_secs(120),
            attempts: 6,
            max_requests: 64,
            breaker: BreakerOptions::default(),
            // restic's packs have up to 24 MiB.
            single_put: 32 * MIB,
            part_size: 16 * MIB,
            parallel_parts: 4,
            memory: 256 * MIB,
            abandoned_after: Duration::from_secs(48 * 60 * 60),
            clock: Clock::default(),
            metrics: None,
        }
    }

    /// Whether nobody else changes a key while this gateway has its turn, whatever the server does.
    pub(crate) fn keeps_writers_apart(&self) -> bool {
        self.single_writer || self.coordinator.is_some()
    }

    /// Bucket and endpoint, for messages.
    pub(crate) fn place(&self) -> String {
        let endpoint = self.endpoint.as_deref().unwrap_or("AWS");
        format!("bucket \"{}\" at {endpoint}", self.bucket)
    }

    /// What the names of all objects begin with: empty, or with a slash at its end.
    pub(crate) fn folder(&self) -> String {
        match self.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// Why these options cannot work, if they cannot. Reaches nothing but files with keys.
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
        if let Some(endpoint) = &self.endpoint
            && !is_url(endpoint, &["http", "https"])
        {
            return Some(format!(
                "expected an endpoint such as \"https://s3.example.org\", found \"{endpoint}\""
            ));
        }
        if let Some(proxy) = &self.proxy
            && !is_url(proxy, &["http"])
        {
            // It may hold a password, so it is not repeated.
            return Some(
                "expected a proxy such as \"http://proxy.example.org:3128\"; others than HTTP proxies are not supported"
                    .to_owned(),
            );
        }
        if let Some(lock) = &self.lock {
            if lock.period < Duration::from_secs(1) {
                return Some("a lock of less than a second protects nothing".to_owned());
            }
            if let Err(problem) = lock.excepted() {
                return Some(problem);
            }
        }
        self.credentials.problem()
    }
}

impl Lock {
    /// Keys that are not locked.
    pub(crate) fn excepted(&self) -> Result<GlobSet, String> {
        let mut set = GlobSetBuilder::new();
        for pattern in &self.except {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            set.add(glob.map_err(|error| format!("pattern {pattern:?}: {error}"))?);
        }
        set.build().map_err(|error| format!("patterns: {error}"))
    }
}

/// Whether this is a URL of one of these schemes, with a host and without a path.
fn is_url(url: &str, schemes: &[&str]) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && uri.host().is_some_and(|host| !host.is_empty())
    })
}
