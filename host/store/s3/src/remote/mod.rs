//! The requests of S3 that a store needs, one function each, in the store's own terms. Only this folder knows the
//! SDK.

mod connector;
mod failure;
mod listing;
mod multipart;
mod signing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::DateTime;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub(crate) use failure::Failure;
pub(crate) use listing::{Found, Page};
pub(crate) use multipart::Part;

use crate::options::{Credentials, S3Options};
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
}

/// Milliseconds in which a bucket that was seen is taken to be there.
const BUCKET_KNOWN: u64 = 5_000;
/// Bytes per second that a line must carry.
const SLOWEST: u64 = 128 * 1024;

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
    pub(crate) md5: [u8; 16],
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
}

/// A part of an object that is being sent by the server.
pub(crate) struct Sending {
    pub(crate) object: Object,
    /// Where it begins in the object.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) bytes: ByteStream,
}

impl Digests {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        use md5::Digest as _;

        let sha256 = Sha256::digest(bytes).into();
        Self { sha256, md5: md5::Md5::digest(bytes).into(), checksum: sha256 }
    }
}

impl Remote {
    /// Reaches nothing yet. The text says what is wrong with the options.
    pub(crate) async fn new(options: S3Options) -> Result<Self, String> {
        let http = connector::Http::new(&options.trust, options.connect_timeout)?;
        let region = aws_sdk_s3::config::Region::new(options.region.clone());
        let mut config = aws_sdk_s3::Config::builder();
        match &options.credentials {
            Credentials::Keys { id, secret, token } => {
                let keys = aws_sdk_s3::config::Credentials::new(
                    id,
                    secret,
                    token.clone(),
                    None,
                    "configuration",
                );
                config.set_credentials_provider(Some(
                    aws_sdk_s3::config::SharedCredentialsProvider::new(keys),
                ));
            }
            Credentials::Chain { profile } => {
                let mut chain = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(http.clone())
                    .region(region.clone());
                if let Some(profile) = profile {
                    chain = chain.profile_name(profile);
                }
                let chain = Box::pin(chain.load()).await;
                config.set_credentials_provider(chain.credentials_provider());
            }
        }
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
            .force_path_style(options.path_style)
            .timeout_config(timeouts)
            .retry_config(retries)
            // Bytes are sent with the digests that this crate computes. Downloads have a limit of their own.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let place = options.place();
        let (opened, bucket_seen) = (Instant::now(), AtomicU64::new(0));
        Ok(Self { client: Client::from_conf(config), options, place, opened, bucket_seen })
    }

    /// What the server knows about an object, if there is one.
    pub(crate) async fn head(&self, object: &str) -> Result<Option<Object>, Failure> {
        let head = self.client.head_object().bucket(&self.options.bucket).key(object);
        match Box::pin(head.send()).await {
            Ok(found) => self.seen(Some(Object {
                etag: unquoted(found.e_tag()),
                size: length(found.content_length()),
                seconds: found.last_modified().map_or(0, DateTime::secs),
                content_type: found.content_type,
                metadata: found.metadata.unwrap_or_default(),
            })),
            Err(error) => match self.failure("cannot look up a blob", &error) {
                // Some servers keep files, and find one where the path wants a folder.
                Failure::Missing | Failure::Occupied => {
                    self.must_have_bucket().await?;
                    Ok(None)
                }
                failure => Err(failure),
            },
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
        let head = self.client.head_bucket().bucket(&self.options.bucket);
        match Box::pin(head.send()).await {
            Ok(_) => self.seen(None).map(|_| ()),
            Err(error) => match self.failure("cannot look up the bucket", &error) {
                Failure::Missing => Err(Failure::Unavailable(format!(
                    "{}: no such bucket; create it, or correct its name",
                    self.place
                ))),
                // Not everybody may ask.
                Failure::Refused(_) => self.seen(None).map(|_| ()),
                failure => Err(failure),
            },
        }
    }

    /// Limits in time for a request that carries bytes: a slow line gets time for them, and a dead one is given up.
    fn patience(&self, bytes: usize) -> aws_sdk_s3::config::Builder {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let attempt = self.options.request_timeout + Duration::from_secs(bytes / SLOWEST);
        let timeouts = TimeoutConfig::builder()
            .read_timeout(attempt)
            .operation_attempt_timeout(attempt)
            .operation_timeout(self.options.budget.max(attempt * 2))
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
        let got = Box::pin(get.send()).await;
        let got = got.map_err(|error| self.failure("cannot read a blob", &error))?;
        let sent = length(got.content_length());
        let (offset, size) = match got.content_range().and_then(parse_range) {
            Some(range) => range,
            None => (0, sent),
        };
        let object = Object {
            etag: unquoted(got.e_tag()),
            size,
            seconds: got.last_modified().map_or(0, DateTime::secs),
            content_type: got.content_type,
            metadata: got.metadata.unwrap_or_default(),
        };
        Ok(Sending { object, offset, length: sent, bytes: got.body })
    }

    /// Stores an object in one request, and returns its etag.
    pub(crate) async fn put(
        &self,
        capabilities: &Capabilities,
        object: &str,
        (bytes, digests): (Bytes, Digests),
        kept: &Kept,
        guard: &Guard,
    ) -> Result<String, Failure> {
        let put = self.client.put_object().bucket(&self.options.bucket).key(object);
        let (sha256, md5) = checksums(capabilities, &digests);
        let put = put
            .set_checksum_sha256(sha256)
            .set_content_md5(md5)
            .content_type(&kept.content_type)
            .set_metadata(Some(kept.metadata.clone()))
            .set_tagging(kept.tagging.clone());
        let put = match guard {
            Guard::None => put,
            Guard::Absent => put.if_none_match("*"),
            Guard::Is(etag) => put.if_match(capabilities.if_match.value(etag)),
        };
        let patience = self.patience(bytes.len());
        let put = put.body(ByteStream::from(bytes)).customize().config_override(patience);
        let put = put.interceptor(signing::SignedDigest::of(&digests));
        let stored = Box::pin(put.send()).await;
        let stored = stored.map_err(|error| self.failure("cannot store a blob", &error))?;
        Ok(unquoted(stored.e_tag()))
    }

    /// Stores a small object of the gateway's own.
    pub(crate) async fn put_own(
        &self,
        capabilities: &Capabilities,
        object: &str,
        bytes: impl Into<Bytes>,
        guard: &Guard,
    ) -> Result<String, Failure> {
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
        let deleted = match guard {
            Guard::Is(_) => {
                let once = aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled());
                Box::pin(delete.customize().config_override(once).send()).await
            }
            _ => Box::pin(delete.send()).await,
        };
        match deleted {
            Ok(_) => Ok(()),
            Err(error) => match self.failure("cannot remove a blob", &error) {
                Failure::Missing if *guard == Guard::None => Ok(()),
                failure => Err(failure),
            },
        }
    }

    /// The tags of an object, in the server's order.
    pub(crate) async fn tags(&self, object: &str) -> Result<Vec<(String, String)>, Failure> {
        let get = self.client.get_object_tagging().bucket(&self.options.bucket).key(object);
        let got = Box::pin(get.send()).await;
        let got = got.map_err(|error| self.failure("cannot read a blob's tags", &error))?;
        Ok(got.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }
}

/// The checksum of a request: SHA-256 if the server takes it, otherwise MD5. Its SHA-256 is signed in any case.
fn checksums(capabilities: &Capabilities, digests: &Digests) -> (Option<String>, Option<String>) {
    if capabilities.sha256 {
        (Some(BASE64_STANDARD.encode(digests.checksum)), None)
    } else {
        (None, Some(BASE64_STANDARD.encode(digests.md5)))
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
