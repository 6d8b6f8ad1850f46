//! One blob, from the source to the target.
//!
//! A blob streams through and is never held whole, except a small one whose SHA-256 is not known by
//! its name. What is known goes to the target with the bytes, so that a blob which is not what its
//! name says is never visible in the copy. A large blob whose SHA-256 is not known is hashed on its
//! way and read back from the target afterwards; such blobs are few (etcd's snapshots).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use keepgate_store::{
    Body, BodyError, Condition, DeleteOptions, Download, Info, Key, Part, PutOptions, StoreError,
};
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::error::{CopyError, Result};
use crate::order::sha256_of_name;
use crate::plan::Item;

/// How often a blob is tried.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// Blobs of an unknown SHA-256 up to this size are read before they are written.
const SMALL: u64 = 1024 * 1024;
/// Kept with a blob that may change: the etag of the source's blob that it is a copy of.
pub(crate) const SOURCE_ETAG: &str = "keepgate-copied-etag";

/// What came of one blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Copied(u64),
    /// Somebody else stored it meanwhile.
    Present(u64),
    /// The source no longer has it.
    Vanished,
    /// The target has another content under the name.
    Conflict(String),
    /// The source's blob is not what its name says, or cannot be read.
    Damaged(String),
    /// The target's policy forbids it.
    Refused(String),
    /// Another run may succeed.
    Failed(String),
}

/// Copies one blob.
pub(crate) async fn transfer(context: &Arc<Context>, item: &Item) -> Result<Outcome> {
    let key = match Key::new(item.key.as_str()) {
        Ok(key) => key,
        Err(error) => return Ok(Outcome::Refused(error.to_string())),
    };
    let mut pause = PAUSE;
    for attempt in 1.. {
        let outcome = once(context, item, &key).await?;
        let again = matches!(outcome, Outcome::Failed(_) | Outcome::Damaged(_));
        if !again || attempt >= ATTEMPTS {
            return Ok(outcome);
        }
        tokio::time::sleep(pause).await;
        pause *= 4;
    }
    Ok(Outcome::Failed("was not tried".to_owned()))
}

async fn once(context: &Arc<Context>, item: &Item, key: &Key) -> Result<Outcome> {
    let Download { info, offset, length, body } = match context.from.get(key, Part::Whole).await {
        Ok(download) => download,
        Err(StoreError::NotFound) => return Ok(Outcome::Vanished),
        Err(error @ StoreError::Unavailable(_)) => return Err(CopyError::Source(error)),
        Err(error) => return Ok(Outcome::Failed(format!("cannot read: {error}"))),
    };
    if (offset, length) != (0, info.size) {
        return Ok(Outcome::Failed(format!("the source sent {length} bytes of {}", info.size)));
    }
    let named = sha256_of_name(key);
    let meter = Arc::new(Meter::new(named.is_none()));
    let mut body = metered(body, length, &meter, context);
    let mut sha256 = named;
    if sha256.is_none() && length <= SMALL {
        let bytes = match body.collect(SMALL).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(unreadable(&error)),
        };
        sha256 = Some(Sha256::digest(&bytes).into());
        body = Body::from_bytes(bytes);
    }
    let put = context.to.put(key, body, options(context, item, &info, sha256)).await;
    match put {
        Ok(stored) if stored.info.size != length => {
            let reason = format!("the target stored {} bytes of {length}", stored.info.size);
            Ok(withdraw(context, key, &stored.info, reason).await)
        }
        Ok(stored) if sha256.is_none() => check(context, key, &stored.info, meter.digest()).await,
        Ok(_) => Ok(Outcome::Copied(length)),
        Err(error) => explain(context, key, length, &meter, error).await,
    }
}

/// How a blob is stored: with everything that the source keeps with it.
fn options(context: &Context, item: &Item, info: &Info, sha256: Option<[u8; 32]>) -> PutOptions {
    let mut metadata = info.metadata.clone();
    metadata.retain(|(name, _)| name != SOURCE_ETAG);
    if may_change(context, &item.key) {
        metadata.push((SOURCE_ETAG.to_owned(), info.etag.clone()));
    }
    let condition = match &item.replaces {
        Some(etag) => Condition::Matches(etag.clone()),
        None => Condition::Absent,
    };
    PutOptions {
        condition,
        sha256,
        content_type: info.content_type.clone(),
        metadata,
        tags: info.tags.clone(),
        // A copy is removed as the copy's settings say, when its source is gone.
        expires: None,
        observer: None,
    }
}

/// Whether the content under a key may change.
pub(crate) fn may_change(context: &Context, key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    context.options.replace.iter().any(|replaced| replaced == name)
}

/// Reads a blob back that the target could not verify.
async fn check(
    context: &Context,
    key: &Key,
    stored: &Info,
    expected: Option<[u8; 32]>,
) -> Result<Outcome> {
    let body = match context.to.get(key, Part::Whole).await {
        Ok(download) => download.body,
        Err(error @ StoreError::Unavailable(_)) => return Err(CopyError::Target(error)),
        Err(error) => return Ok(Outcome::Failed(format!("cannot be read back: {error}"))),
    };
    match digest(body).await {
        Ok((_, digest)) if Some(digest) == expected => Ok(Outcome::Copied(stored.size)),
        Ok(_) => {
            let reason = "the target holds other bytes than were sent".to_owned();
            Ok(withdraw(context, key, stored, reason).await)
        }
        Err(error) => Ok(Outcome::Failed(format!("cannot be read back: {error}"))),
    }
}

/// Removes what this run has just stored and what turned out to be wrong.
async fn withdraw(context: &Context, key: &Key, stored: &Info, reason: String) -> Outcome {
    let options = DeleteOptions { matches: Some(stored.etag.clone()), observer: None };
    match context.to.delete_with(key, options).await {
        Ok(_) => Outcome::Failed(reason),
        Err(error) => Outcome::Conflict(format!("{reason}, and it cannot be removed: {error}")),
    }
}

/// What it means that the target did not store a blob.
async fn explain(
    context: &Context,
    key: &Key,
    length: u64,
    meter: &Meter,
    error: StoreError,
) -> Result<Outcome> {
    if let Some(outcome) = meter.failure() {
        return Ok(outcome);
    }
    Ok(match error {
        StoreError::AlreadyExists => match context.to.head(key).await {
            Ok(there) if there.size == length => Outcome::Present(length),
            Ok(there) => Outcome::Conflict(sizes(length, there.size)),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        StoreError::PreconditionFailed => {
            Outcome::Failed("the target's blob changed while it was replaced".to_owned())
        }
        // Either the source is damaged, or the bytes were changed on their way.
        StoreError::ChecksumMismatch { .. } => match source_digest(context, key).await {
            Ok(actual) if Some(actual) == sha256_of_name(key) => {
                Outcome::Failed("the target received other bytes than were sent".to_owned())
            }
            Ok(actual) => Outcome::Damaged(format!("its SHA-256 is {}", hex::encode(actual))),
            Err(outcome) => outcome,
        },
        StoreError::NoSpace | StoreError::QuotaExceeded(_) | StoreError::Unavailable(_) => {
            return Err(CopyError::Target(error));
        }
        StoreError::Denied(_) | StoreError::Unsupported(_) | StoreError::Invalid(_) => {
            Outcome::Refused(error.to_string())
        }
        error => Outcome::Failed(format!("cannot store: {error}")),
    })
}

/// The text of a conflict of sizes.
pub(crate) fn sizes(from: u64, to: u64) -> String {
    format!("{from} bytes in the source, {to} in the copy")
}

/// Whether the source is wrong about a blob whose size differs in the copy: its name tells which of the
/// two is damaged.
pub(crate) async fn source_damage(context: &Context, key: &Key) -> Option<String> {
    let named = sha256_of_name(key)?;
    match source_digest(context, key).await {
        Ok(actual) if actual == named => None,
        Ok(actual) => Some(format!("its SHA-256 is {}", hex::encode(actual))),
        Err(Outcome::Damaged(reason)) => Some(reason),
        Err(_) => None,
    }
}

async fn source_digest(context: &Context, key: &Key) -> Result<[u8; 32], Outcome> {
    match context.from.get(key, Part::Whole).await {
        Ok(download) => match digest(download.body).await {
            Ok((_, digest)) => Ok(digest),
            Err(error) => Err(unreadable(&error)),
        },
        Err(StoreError::NotFound) => Err(Outcome::Vanished),
        Err(error) => Err(Outcome::Failed(format!("cannot read: {error}"))),
    }
}

/// Length and SHA-256 of a body.
pub(crate) async fn digest(mut body: Body) -> Result<(u64, [u8; 32]), BodyError> {
    let (mut length, mut hasher) = (0, Sha256::new());
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        length += chunk.len() as u64;
        hasher.update(&chunk);
    }
    Ok((length, hasher.finalize().into()))
}

/// A disk that cannot read what it has opened has lost it; a connection that broke has not.
fn unreadable(error: &BodyError) -> Outcome {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, OutOfMemory, TimedOut,
        UnexpectedEof,
    };
    match error {
        BodyError::Io(error) => match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | OutOfMemory
            | TimedOut | UnexpectedEof => Outcome::Failed(format!("the source: {error}")),
            _ => Outcome::Damaged(error.to_string()),
        },
        BodyError::Invalid(_) | BodyError::Mismatch { .. } => Outcome::Damaged(error.to_string()),
        _ => Outcome::Failed(format!("the source: {error}")),
    }
}

/// What is learnt about a body while it streams.
#[derive(Debug)]
struct Meter(Mutex<(Option<Sha256>, Option<Outcome>)>);

impl Meter {
    fn new(hashes: bool) -> Self {
        Self(Mutex::new((hashes.then(Sha256::new), None)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<Sha256>, &mut Option<Outcome>) -> T) -> T {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (hasher, failure) = &mut *state;
        work(hasher, failure)
    }

    fn digest(&self) -> Option<[u8; 32]> {
        self.with(|hasher, _| hasher.take().map(|hasher| hasher.finalize().into()))
    }

    /// What is wrong with the source, if its body failed.
    fn failure(&self) -> Option<Outcome> {
        self.with(|_, failure| failure.take())
    }

    fn fail(&self, error: BodyError) -> BodyError {
        self.with(|_, failure| *failure = Some(unreadable(&error)));
        error
    }
}

/// A body of known length that is counted, hashed and slowed down on its way.
fn metered(body: Body, length: u64, meter: &Arc<Meter>, context: &Arc<Context>) -> Body {
    let state = Some((body, 0_u64, Arc::clone(meter), Arc::clone(context)));
    let chunks = stream::unfold(state, move |state| async move {
        let (mut body, before, meter, context) = state?;
        let chunk = match body.chunk().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Some((Err(meter.fail(error)), None)),
            None if before < length => {
                return Some((Err(meter.fail(BodyError::Truncated)), None));
            }
            None => return None,
        };
        let taken = before + chunk.len() as u64;
        if taken > length {
            let error = BodyError::TooLarge { limit: length };
            return Some((Err(meter.fail(error)), None));
        }
        meter.with(|hasher, _| {
            if let Some(hasher) = hasher {
                hasher.update(&chunk);
            }
        });
        if let Some(limiter) = &context.limiter {
            limiter.take(chunk.len()).await;
        }
        context.read(chunk.len() as u64);
        Some((Ok(chunk), Some((body, taken, meter, context))))
    });
    Body::from_stream(Some(length), chunks)
}
