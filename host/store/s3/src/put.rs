//! A body on its way into an object, up to the commit.
//!
//! A small body is received whole, checked, and sent in one request. A larger one is sent in parts while it is
//! received; nobody sees them before they are completed, which is the commit. A body that must be identical to a blob
//! that is there is only hashed.

use std::sync::Arc;

use keepgate_store::{Body, Condition, Info, Key, PutOptions, Result, StoreError, Stored};
use sha2::{Digest as _, Sha256};

use crate::commit::{Commit, Payload};
use crate::parts::Parts;
use crate::remote::Object;
use crate::source::{self, Source};
use crate::{Inner, attributes, commit};

/// Parts that S3 takes, with some room for unknown lengths.
const MAX_PARTS: u64 = 9_999;
/// Parts of the same size in a body of unknown length; then they grow.
const STEADY: u64 = 1_000;

/// Stores a body.
pub(crate) async fn put(
    store: &Arc<Inner>,
    key: &Key,
    body: Body,
    options: PutOptions,
) -> Result<Stored> {
    let object = store.object(key)?;
    let mut source = Source::new(body);
    if let Some(there) = first_look(store, key, &object, &options.condition).await? {
        return compare(store, key, source, &options, there).await;
    }
    let limit = store.remote.options.single_put;
    if let Some(piece) = source.at_hand(limit) {
        store.check_place(key).await?;
        return single(store, key, object, piece, options).await;
    }
    let first = match source.length() {
        Some(length) if length <= limit => length,
        Some(length) => part_size(store, Some(length), 1),
        None => part_size(store, None, 1),
    };
    let reading = source.take(first, &store.memory);
    let (piece, ()) = futures_util::future::try_join(reading, store.check_place(key)).await?;
    if piece.last {
        return single(store, key, object, piece, options).await;
    }
    in_parts(store, key, object, source, piece, options).await
}

/// Checks a condition before the body is read. Returns the object that an identical body is compared with.
pub(crate) async fn first_look(
    store: &Inner,
    key: &Key,
    object: &str,
    condition: &Condition,
) -> Result<Option<Object>> {
    if *condition == Condition::Always {
        return Ok(None);
    }
    let there = store.look_for_blob(object).await?;
    match (condition, there) {
        (Condition::Absent, Some(_)) => Err(StoreError::AlreadyExists),
        (Condition::AbsentOrIdentical, there) => Ok(there),
        (Condition::Matches(etag), there) => {
            if there.is_some_and(|there| there.store_etag() == *etag) {
                return Ok(None);
            }
            // Whether the name could be stored at all comes first only where nothing is expected to be there.
            tracing::trace!(%key, "blob changed");
            Err(StoreError::PreconditionFailed)
        }
        (Condition::Absent | Condition::Always, _) => Ok(None),
    }
}

async fn single(
    store: &Arc<Inner>,
    key: &Key,
    object: String,
    piece: source::Piece,
    options: PutOptions,
) -> Result<Stored> {
    // A new name that was not changed a moment ago needs no etag, see `repeats`.
    let is_new = matches!(options.condition, Condition::Absent | Condition::AbsentOrIdentical);
    let with_md5 = !store.capabilities.sha256 || !is_new || store.repeats.has(&object);
    let digests = source::digests(&piece.bytes, with_md5).await?;
    check(options.sha256, digests.sha256)?;
    let token = attributes::token()?;
    let sha256 = Some(digests.sha256);
    let mut kept = attributes::encode(&options, &token, sha256, &store.capabilities, false)?;
    kept.retention = store.retention(key);
    let size = piece.bytes.len() as u64;
    let payload = Payload::Whole { piece, digests, kept: Box::new(kept) };
    let commit = Commit { key: key.clone(), object, payload, size, sha256, token, options };
    commit::run(store, commit).await
}

async fn in_parts(
    store: &Arc<Inner>,
    key: &Key,
    object: String,
    mut source: Source,
    mut piece: source::Piece,
    options: PutOptions,
) -> Result<Stored> {
    let token = attributes::token()?;
    let mut kept = attributes::encode(&options, &token, options.sha256, &store.capabilities, true)?;
    kept.retention = store.retention(key);
    let mut parts = Parts::begin(store, &object, &token, &kept, false).await?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    loop {
        size += piece.bytes.len() as u64;
        let last = piece.last;
        let bytes = piece.bytes.clone();
        let hashing = source::busy(move || {
            hasher.update(&bytes);
            hasher
        });
        if last {
            hasher = hashing.await?;
            parts.send(piece).await?;
            break;
        }
        let sending = parts.send(piece);
        let next = part_size(store, source.length(), parts_of(size, store));
        let reading = source.take(next, &store.memory);
        // A part that fails ends the upload even while its sender is silent.
        let hashing_and_sending = futures_util::future::try_join(hashing, sending);
        let ((hashed, ()), read) =
            futures_util::future::try_join(hashing_and_sending, reading).await?;
        (hasher, piece) = (hashed, read);
    }
    let actual: [u8; 32] = hasher.finalize().into();
    check(options.sha256, actual)?;
    parts.sent().await?;
    let payload = Payload::Parts(parts);
    let sha256 = Some(actual);
    let commit = Commit { key: key.clone(), object, payload, size, sha256, token, options };
    commit::run(store, commit).await
}

/// Which part comes after so many bytes, about.
fn parts_of(size: u64, store: &Inner) -> u64 {
    size / store.remote.options.part_size + 1
}

/// How many bytes the next part has. All parts of a body of known length have the same size, as some servers want.
fn part_size(store: &Inner, length: Option<u64>, number: u64) -> u64 {
    let options = &store.remote.options;
    let size = match length {
        Some(length) => options.part_size.max(length.div_ceil(MAX_PARTS)),
        None => options.part_size.saturating_mul(1 + number / STEADY),
    };
    // An upload must never need more memory than there is.
    size.min(options.memory / 2).max(options.part_size)
}

/// Compares a body with the blob that is there.
pub(crate) async fn compare(
    store: &Arc<Inner>,
    key: &Key,
    mut source: Source,
    options: &PutOptions,
    there: Object,
) -> Result<Stored> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Some(chunk) = source.chunk().await? {
        size += chunk.len() as u64;
        hasher.update(&chunk);
    }
    let actual: [u8; 32] = hasher.finalize().into();
    if options.sha256.is_some_and(|expected| expected != actual) {
        return Err(StoreError::AlreadyExists);
    }
    let info = identical(store, key, &there, size, actual).await?;
    Ok(Stored { info, change: keepgate_store::Change::Unchanged })
}

/// What is known about the blob that is there, if it has these bytes. One whose SHA-256 is not kept is read.
pub(crate) async fn identical(
    store: &Arc<Inner>,
    key: &Key,
    there: &Object,
    size: u64,
    sha256: [u8; 32],
) -> Result<Info> {
    if there.size != size {
        return Err(StoreError::AlreadyExists);
    }
    let stored = match attributes::sha256_of(&there.metadata) {
        Some(stored) => stored,
        None => hash_of(store, key, there).await?,
    };
    if stored != sha256 {
        return Err(StoreError::AlreadyExists);
    }
    store.info(key, there).await
}

async fn hash_of(store: &Arc<Inner>, key: &Key, there: &Object) -> Result<[u8; 32]> {
    let mut body = crate::read::whole(store, key, there)?;
    let mut hasher = Sha256::new();
    while let Some(chunk) = body.chunk().await {
        hasher.update(&chunk?);
    }
    Ok(hasher.finalize().into())
}

/// Compares the digest of a body with the expected one.
pub(crate) fn check(expected: Option<[u8; 32]>, actual: [u8; 32]) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => Err(StoreError::ChecksumMismatch {
            expected: hex::encode(expected),
            actual: hex::encode(actual),
        }),
        _ => Ok(()),
    }
}
