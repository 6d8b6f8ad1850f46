//! The requests of S3 that a store needs, one function each, in the store's own terms. Only this folder knows the
//! SDK.

mod connector;
mod failure;
mod health;
mod listing;
mod multipart;
mod object;
mod observer;
mod proxy;
mod signing;
mod versions;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

pub(crate) use failure::{BUSY, Failure};
pub(crate) use listing::{Found, Page};
pub(crate) use multipart::Part;
pub(crate) use object::{Digests, Guard, Kept, Object, Retention, store_etag, time};
pub(crate) use versions::{LockState, Versioning};

use crate::metrics::StoreMetrics;
use crate::options::S3Options;
use crate::probe::Capabilities;

/// A bucket, reached.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    pub(crate) options: S3Options,
    /// Bucket and endpoint, for messages.
    place: String,
    opened: Instant,
    /// When the bucket was seen last, in milliseconds after `opened`; 0 for never.
    bucket_seen: AtomicU64,
    health: Arc<health::Health>,
    observer: observer::Observer,
}

/// Milliseconds in which a bucket that was seen is taken to be there.
const BUCKET_KNOWN: u64 = 5_000;
/// Bytes per second that a line must carry.
const SLOWEST: u64 = 128 * 1024;

/// A part of an object that is being sent by the server.
pub(crate) struct Sending {
    pub(crate) object: Object,
    /// Where it begins in the object.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) bytes: ByteStream,
}

impl Remote {
    /// Reaches nothing yet. The text says what is wrong with the options.
    pub(crate) async fn new(options: S3Options) -> Result<Self, String> {
        let proxy = options.proxy.as_deref();
        let http = connector::Http::new(&options.trust, proxy, options.connect_timeout)?;
        let region = aws_sdk_s3::config::Region::new(options.region.clone());
        let health = health::Health::new(&options);
        let observer = observer::Observer::new(Arc::clone(&health), options.metrics.clone());
        let mut config = aws_sdk_s3::Config::builder();
        let provider = options.credentials.provider(http.clone(), region.clone());
        config.set_credentials_provider(Box::pin(provider).await);
        if let Some(endpoint) = &options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let timeouts = TimeoutConfig::builder()
            .read_timeout(options.request_timeout)
            .operation_attempt_timeout(options.request_timeout)
            .operation_timeout(options.budget)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(options.attempts.max(1))
            .with_initial_backoff(Duration::from_millis(100))
            .with_max_backoff(Duration::from_secs(10));
        let config = config
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(region)
            .interceptor(observer.clone())
            .force_path_style(options.path_style)
            .timeout_config(timeouts)
            .retry_config(retries)
            // Without one of its own, a store would share the SDK's budget of retries with all others of the process:
            // a server that fails would take the retries of one that stumbles.
            .retry_partition(RetryPartition::new(options.place()))
            // Bytes are sent with the digests that this crate computes. Downloads have a limit of their own.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let place = options.place();
        let (opened, bucket_seen) = (Instant::now(), AtomicU64::new(0));
        let client = Client::from_conf(config);
        Ok(Self { client, options, place, opened, bucket_seen, health, observer })
    }

    /// Makes a request in its turn. `operation` is what S3 calls it, `action` what fails with it.
    async fn ask<T, E>(
        &self,
        (operation, action): (&'static str, &'static str),
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let metrics = self.options.metrics.as_ref();
        let begun = Instant::now();
        let turn = self.health.turn().await;
        let turn = turn.map_err(|not_now| {
            if let Some(metrics) = metrics {
                metrics.request(operation, "suspended", begun.elapsed());
            }
            Failure::Suspended(format!("{action}: {}: {not_now}", self.place))
        })?;
        let begun = Instant::now();
        let in_flight = metrics.map(StoreMetrics::in_flight);
        let answer = request.await;
        drop((turn, in_flight));
        let answer = answer.map_err(|error| self.failure(action, &error));
        if let Some(metrics) = metrics {
            let outcome = answer.as_ref().map_or_else(Failure::outcome, |_| "ok");
            metrics.request(operation, outcome, begun.elapsed());
        }
        answer
    }

    /// Why requests fail at the moment, if the last ones did.
    pub(crate) fn suspended(&self) -> Option<String> {
        self.health.reason()
    }

    /// Seconds that the server's clock is ahead of this machine's.
    pub(crate) fn skew(&self) -> Option<i64> {
        self.observer.skew()
    }

    /// What the server knows about an object, if there is one.
    pub(crate) async fn head(&self, object: &str) -> Result<Option<Object>, Failure> {
        let head = self.client.head_object().bucket(&self.options.bucket).key(object);
        match self.ask(("HeadObject", "cannot look up a blob"), Box::pin(head.send())).await {
            Ok(found) => self.seen(Some(Object {
                etag: unquoted(found.e_tag()),
                size: length(found.content_length()),
                seconds: found.last_modified().map_or(0, DateTime::secs),
                version: found.version_id,
                content_type: found.content_type,
                metadata: found.metadata.unwrap_or_default(),
            })),
            // Some servers keep files, and find one where the path wants a folder.
            Err(Failure::Missing | Failure::Occupied) => {
                self.must_have_bucket().await?;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn seen(&self, object: Option<Object>) -> Result<Option<Object>, Failure> {
        self.bucket_seen.store(self.now(), Ordering::Relaxed);
        Ok(object)
    }

    /// Milliseconds since the store was opened, and one more.
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Fails if the bucket is gone. The answer to a HEAD does not tell, and a blob that is not found must not mean
    /// that all of them are away. Asks only if nothing was found for a while.
    async fn must_have_bucket(&self) -> Result<(), Failure> {
        let seen = self.bucket_seen.load(Ordering::Relaxed);
        if seen > 0 && self.now().saturating_sub(seen) < BUCKET_KNOWN {
            return Ok(());
        }
        match self.head_bucket().await {
            Ok(()) => self.seen(None).map(|_| ()),
            // Not everybody may ask.
            Err(Failure::Refused(_)) => self.seen(None).map(|_| ()),
            Err(Failure::Missing) => Err(Failure::Refused(format!(
                "{}: no such bucket; create it, or correct its name",
                self.place
            ))),
            Err(failure) => Err(failure),
        }
    }

    /// Looks whether there is the bucket.
    pub(crate) async fn head_bucket(&self) -> Result<(), Failure> {
        let head = self.client.head_bucket().bucket(&self.options.bucket);
        self.ask(("HeadBucket", "cannot look up the bucket"), Box::pin(head.send()))
            .await
            .map(|_| ())
    }

    /// How long one attempt of a request that carries bytes may take: a slow line gets time for them.
    fn attempt(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.options.request_timeout + Duration::from_secs(bytes / SLOWEST)
    }

    /// How long a request that carries bytes may take with all its attempts.
    pub(crate) fn longest(&self, bytes: usize) -> Duration {
        self.options.budget.max(self.attempt(bytes) * 2)
    }

    /// These limits, for a request.
    fn patience(&self, bytes: usize) -> aws_sdk_s3::config::Builder {
        let attempt = self.attempt(bytes);
        let timeouts = TimeoutConfig::builder()
            .read_timeout(attempt)
            .operation_attempt_timeout(attempt)
            .operation_timeout(self.longest(bytes))
            .build();
        aws_sdk_s3::Config::builder().timeout_config(timeouts)
    }

    /// Asks for bytes of an object: `range` as in HTTP, without its unit; only those of the object with this etag.
    pub(crate) async fn get(
        &self,
        object: &str,
        range: Option<&str>,
        etag: Option<&str>,
    ) -> Result<Sending, Failure> {
        let get = self.client.get_object().bucket(&self.options.bucket).key(object);
        let get = get.set_range(range.map(|range| format!("bytes={range}")));
        let get = get.set_if_match(etag.map(quoted));
        let got = self.ask(("GetObject", "cannot read a blob"), Box::pin(get.send())).await?;
        let sent = length(got.content_length());
        let (offset, size) = match got.content_range().and_then(parse_range) {
            Some(range) => range,
            None => (0, sent),
        };
        let object = Object {
            etag: unquoted(got.e_tag()),
            size,
            seconds: got.last_modified().map_or(0, DateTime::secs),
            version: got.version_id,
            content_type: got.content_type,
            metadata: got.metadata.unwrap_or_default(),
        };
        Ok(Sending { object, offset, length: sent, bytes: got.body })
    }

    /// Stores an object in one request. Returns its version in a bucket with versions.
    pub(crate) async fn put(
        &self,
        capabilities: &Capabilities,
        object: &str,
        (bytes, digests): (Bytes, Digests),
        kept: &Kept,
        guard: &Guard,
    ) -> Result<Option<String>, Failure> {
        let put = self.client.put_object().bucket(&self.options.bucket).key(object);
        let (sha256, md5) = checksums(capabilities, &digests);
        let signed = signing::SignedBody::of(&digests, capabilities.unsigned && sha256.is_some());
        let put = put
            .set_checksum_sha256(sha256)
            .set_content_md5(md5)
            .content_type(&kept.content_type)
            .set_metadata(Some(kept.metadata.clone()))
            .set_tagging(kept.tagging.clone())
            .set_object_lock_mode(kept.retention.as_ref().map(Retention::mode))
            .set_object_lock_retain_until_date(kept.retention.as_ref().map(Retention::until));
        let put = match guard {
            Guard::None => put,
            Guard::Absent => put.if_none_match("*"),
            Guard::Is(etag) => put.if_match(capabilities.if_match.value(etag)),
        };
        let patience = self.patience(bytes.len());
        let put = put.body(ByteStream::from(bytes)).customize().config_override(patience);
        let put = put.interceptor(signed);
        let stored = self.ask(("PutObject", "cannot store a blob"), Box::pin(put.send())).await?;
        Ok(stored.version_id)
    }

    /// Stores a small object of the gateway's own. Returns its version in a bucket with versions.
    pub(crate) async fn put_own(
        &self,
        capabilities: &Capabilities,
        object: &str,
        bytes: impl Into<Bytes>,
        guard: &Guard,
    ) -> Result<Option<String>, Failure> {
        let bytes = bytes.into();
        let digests = Digests::of(&bytes);
        let kept = Kept { content_type: "application/octet-stream".to_owned(), ..Kept::default() };
        self.put(capabilities, object, (bytes, digests), &kept, guard).await
    }

    /// Removes an object. It is no error if there is none, unless the guard wants one.
    pub(crate) async fn delete(&self, object: &str, guard: &Guard) -> Result<(), Failure> {
        let delete = self.client.delete_object().bucket(&self.options.bucket).key(object);
        let delete = match guard {
            Guard::Is(etag) => {
                // Repeated after a lost answer, it would find nothing; the caller looks instead.
                delete.if_match(quoted(etag))
            }
            Guard::None | Guard::Absent => delete,
        };
        let name = ("DeleteObject", "cannot remove a blob");
        let deleted = match guard {
            Guard::Is(_) => {
                let once = aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled());
                self.ask(name, Box::pin(delete.customize().config_override(once).send())).await
            }
            _ => self.ask(name, Box::pin(delete.send())).await,
        };
        match deleted {
            Ok(_) => Ok(()),
            Err(Failure::Missing) if *guard == Guard::None => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The tags of an object, in the server's order.
    pub(crate) async fn tags(&self, object: &str) -> Result<Vec<(String, String)>, Failure> {
        let get = self.client.get_object_tagging().bucket(&self.options.bucket).key(object);
        let name = ("GetObjectTagging", "cannot read a blob's tags");
        let got = self.ask(name, Box::pin(get.send())).await?;
        Ok(got.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }
}

/// The checksum of a request: SHA-256 if the server takes it, otherwise MD5.
fn checksums(capabilities: &Capabilities, digests: &Digests) -> (Option<String>, Option<String>) {
    if capabilities.sha256 {
        (Some(BASE64_STANDARD.encode(digests.checksum)), None)
    } else {
        (None, digests.md5.map(|md5| BASE64_STANDARD.encode(md5)))
    }
}

fn length(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}

fn unquoted(etag: Option<&str>) -> String {
    let etag = etag.unwrap_or_default().trim();
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Where a range begins, and how long the whole is, of `bytes BEGIN-END/SIZE`.
fn parse_range(range: &str) -> Option<(u64, u64)> {
    let (place, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((place.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()?))
}
