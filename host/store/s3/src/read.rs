//! Downloads. One that breaks off goes on at the same byte, as long as the blob is the same.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::stream;
use keepgate_store::{Body, BodyError, Download, Key, Part, Result, StoreError};

use crate::Inner;
use crate::remote::{Failure, Object};

/// How often a download goes on without having got any byte in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Numbers that servers take in ranges.
const MAX: u64 = i64::MAX as u64;

/// Opens a blob, or a part of it.
pub(crate) async fn get(store: &Arc<Inner>, key: &Key, part: Part) -> Result<Download> {
    let object = store.object(key)?;
    for _ in 0..ATTEMPTS {
        let Some(range) = range(part) else {
            return Err(outside(store, &object, part)
                .await?
                .unwrap_or(StoreError::OutOfRange { size: 0 }));
        };
        match store.remote.get(&object, range.as_deref(), None).await {
            Ok(sending) if store.has_expired(&sending.object) => return Err(StoreError::NotFound),
            Ok(sending) => {
                let info = store.info(key, &sending.object).await?;
                let size = info.size;
                // Some servers answer with nothing instead of a refusal.
                let expected = part.within(size).ok_or(StoreError::OutOfRange { size })?;
                if expected != (sending.offset, sending.length) {
                    return Err(StoreError::Unavailable(
                        "the store's server sent other bytes than it was asked for".to_owned(),
                    ));
                }
                let reader = Reader {
                    store: Arc::clone(store),
                    object,
                    etag: sending.object.etag,
                    at: sending.offset,
                    left: sending.length,
                    bytes: Some(sending.bytes),
                    failed: 0,
                };
                let (offset, length) = (sending.offset, sending.length);
                return Ok(Download { info, offset, length, body: reader.body() });
            }
            Err(Failure::Range) => {
                if let Some(error) = outside(store, &object, part).await? {
                    return Err(error);
                }
                // It has become longer meanwhile.
            }
            Err(failure) => return Err(store.told(failure)),
        }
    }
    Err(StoreError::Unavailable("the blob changes all the time".to_owned()))
}

/// The whole of an object that was looked at.
pub(crate) fn whole(store: &Arc<Inner>, key: &Key, there: &Object) -> Result<Body> {
    part_of(store, key, there, 0, there.size)
}

/// Bytes of an object that was looked at. Nothing is asked for before the body is read.
pub(crate) fn part_of(
    store: &Arc<Inner>,
    key: &Key,
    there: &Object,
    offset: u64,
    length: u64,
) -> Result<Body> {
    let reader = Reader {
        store: Arc::clone(store),
        object: store.object(key)?,
        etag: there.etag.clone(),
        at: offset,
        left: length,
        bytes: None,
        failed: 0,
    };
    Ok(reader.body())
}

/// The range of a request, without one for the whole; `None` if no blob has a byte in it.
fn range(part: Part) -> Option<Option<String>> {
    match part {
        Part::Whole => Some(None),
        Part::Slice { length: Some(0), .. } | Part::Suffix(0) => None,
        Part::Slice { offset, .. } if offset > MAX => None,
        Part::Slice { offset, length: None } => Some(Some(format!("{offset}-"))),
        Part::Slice { offset, length: Some(length) } => {
            let last = offset.saturating_add(length - 1).min(MAX);
            Some(Some(format!("{offset}-{last}")))
        }
        Part::Suffix(length) => Some(Some(format!("-{}", length.min(MAX)))),
    }
}

/// Why a part cannot be read; nothing if by now it can.
async fn outside(store: &Arc<Inner>, object: &str, part: Part) -> Result<Option<StoreError>> {
    let size = store.look_for_blob(object).await?.ok_or(StoreError::NotFound)?.size;
    Ok(part.within(size).is_none().then_some(StoreError::OutOfRange { size }))
}

/// A download in progress.
struct Reader {
    store: Arc<Inner>,
    object: String,
    etag: String,
    at: u64,
    left: u64,
    /// What is being received; none before the first request and after a failure.
    bytes: Option<ByteStream>,
    /// Failures since the last byte.
    failed: u32,
}

impl Reader {
    fn body(self) -> Body {
        let length = self.left;
        if length == 0 {
            return Body::empty();
        }
        Body::from_stream(Some(length), stream::try_unfold(self, Self::next))
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        while self.left > 0 {
            let reason = match self.receive().await {
                Ok(chunk) => return Ok(Some((chunk, self))),
                Err(reason) => reason,
            };
            self.bytes = None;
            self.failed += 1;
            tracing::debug!(
                object = self.object,
                reason,
                attempt = self.failed,
                "download broke off"
            );
            if self.failed > ATTEMPTS {
                return Err(BodyError::Unavailable(
                    "the store's server stopped sending".to_owned(),
                ));
            }
            if self.failed > 1 {
                tokio::time::sleep(PAUSE * (1 << self.failed.min(6))).await;
            }
            self.resume().await?;
        }
        Ok(None)
    }

    /// The next bytes, or why there are none.
    async fn receive(&mut self) -> Result<Bytes, String> {
        let Some(bytes) = &mut self.bytes else {
            return Err("not begun".to_owned());
        };
        let waiting = tokio::time::timeout(self.store.remote.options.idle_timeout, bytes.next());
        let mut chunk = match waiting.await {
            Err(_) => return Err("the server sent nothing for too long".to_owned()),
            Ok(None) => return Err("the server stopped before the end".to_owned()),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(Some(Ok(chunk))) => chunk,
        };
        // Never more than was announced, whatever the server sends.
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        if let Some(metrics) = &self.store.remote.options.metrics {
            metrics.received(chunk.len() as u64);
        }
        self.at += chunk.len() as u64;
        self.left -= chunk.len() as u64;
        self.failed = 0;
        Ok(chunk)
    }

    /// Asks for the bytes that are left.
    async fn resume(&mut self) -> Result<(), BodyError> {
        let range = format!("{}-{}", self.at, self.at + self.left - 1);
        match self.store.remote.get(&self.object, Some(&range), Some(&self.etag)).await {
            // Not every server minds the etag.
            Ok(sending) if sending.object.etag == self.etag && sending.offset == self.at => {
                self.bytes = Some(sending.bytes);
                Ok(())
            }
            Ok(_) | Err(Failure::Condition | Failure::Missing | Failure::Range) => {
                Err(BodyError::Unavailable("the blob changed while it was read".to_owned()))
            }
            // It was tried several times already.
            Err(failure) => Err(BodyError::Unavailable(self.store.told(failure).to_string())),
        }
    }
}
