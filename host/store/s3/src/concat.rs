//! Blobs joined into one: copied by the server if the pieces are large enough for its parts, otherwise read and
//! stored again.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use keepgate_store::{Body, Condition, Key, Piece, PutOptions, Result, StoreError, Stored};

use crate::commit::{self, Commit, Payload};
use crate::options::MIN_PART;
use crate::parts::Parts;
use crate::remote::Object;
use crate::source::Source;
use crate::{Inner, attributes, put, read};

/// Pieces that are looked up at the same time.
const PARALLEL: usize = 16;
/// The server copies no more than 5 GiB at once; smaller copies run side by side.
const MAX_COPY: u64 = 1024 * 1024 * 1024;
/// Parts of an object.
const MAX_PARTS: usize = 10_000;

/// Bytes of an object that was looked at.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) key: Key,
    pub(crate) there: Object,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Joins pieces of blobs.
pub(crate) async fn concat(
    store: &Arc<Inner>,
    key: &Key,
    pieces: &[Piece],
    options: PutOptions,
) -> Result<Stored> {
    let ranges = find(store, pieces).await?;
    let size = size_of(&ranges);
    if let Some(observer) = options.observer.clone() {
        crate::source::busy(move || observer.admit(size)).await??;
    }
    join(store, key, ranges, options).await
}

fn size_of(ranges: &[Range]) -> u64 {
    ranges.iter().fold(0, |sum, range| sum.saturating_add(range.length))
}

/// Joins bytes that were found and admitted.
pub(crate) async fn join(
    store: &Arc<Inner>,
    key: &Key,
    ranges: Vec<Range>,
    options: PutOptions,
) -> Result<Stored> {
    let object = store.object(key)?;
    let size = size_of(&ranges);
    if may_be_copied(&ranges, size, &options) {
        put::first_look(store, key, &object, &options.condition).await?;
        store.check_place(key).await?;
        return copy(store, key, object, &ranges, size, options).await;
    }
    let bodies = ranges
        .iter()
        .map(|range| read::part_of(store, &range.key, &range.there, range.offset, range.length))
        .collect::<Result<Vec<_>>>()?;
    let body = Body::from_stream(Some(size), stream::iter(bodies).flatten());
    let stored = put::put(store, key, body, options).await;
    match stored {
        Err(error @ StoreError::Body(_)) => {
            // Which of the pieces it was does not matter.
            let same = unchanged(store, &ranges).await?;
            Err(if same { error } else { StoreError::PreconditionFailed })
        }
        stored => stored,
    }
}

/// Looks up each blob once, and where its pieces are.
async fn find(store: &Arc<Inner>, pieces: &[Piece]) -> Result<Vec<Range>> {
    let objects = look(store, pieces.iter().map(|piece| &piece.key)).await?;
    let mut ranges = Vec::with_capacity(pieces.len());
    for Piece { key, part } in pieces {
        let there = objects.get(key).cloned().flatten().ok_or(StoreError::NotFound)?;
        let size = there.size;
        let (offset, length) = part.within(size).ok_or(StoreError::OutOfRange { size })?;
        ranges.push(Range { key: key.clone(), there, offset, length });
    }
    Ok(ranges)
}

async fn look<'a>(
    store: &Arc<Inner>,
    keys: impl Iterator<Item = &'a Key>,
) -> Result<HashMap<Key, Option<Object>>> {
    let mut keys: Vec<Key> = keys.cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    let looks: Vec<_> = keys.into_iter().map(|key| look_up(store, key).boxed()).collect();
    stream::iter(looks).buffer_unordered(PARALLEL).try_collect().await
}

async fn look_up(store: &Arc<Inner>, key: Key) -> Result<(Key, Option<Object>)> {
    let there = store.look_for_blob(&store.object(&key)?).await?;
    Ok((key, there))
}

/// Whether all sources are what they were.
async fn unchanged(store: &Arc<Inner>, ranges: &[Range]) -> Result<bool> {
    let now = look(store, ranges.iter().map(|range| &range.key)).await?;
    Ok(ranges.iter().all(|range| {
        let now = now.get(&range.key).and_then(Option::as_ref);
        now.is_some_and(|now| now.store_etag() == range.there.store_etag())
    }))
}

/// Whether the server can copy the pieces: it copies no small parts, except the last one, and tells no digest of the
/// whole.
fn may_be_copied(ranges: &[Range], size: u64, options: &PutOptions) -> bool {
    let Some((_, others)) = ranges.split_last() else {
        return false;
    };
    options.sha256.is_none()
        && options.condition != Condition::AbsentOrIdentical
        && size >= MIN_PART
        && others.iter().all(|range| range.length >= MIN_PART)
        && ranges.len() + usize::try_from(size / MAX_COPY).unwrap_or(usize::MAX) <= MAX_PARTS
}

async fn copy(
    store: &Arc<Inner>,
    key: &Key,
    object: String,
    ranges: &[Range],
    size: u64,
    options: PutOptions,
) -> Result<Stored> {
    let token = attributes::token()?;
    let mut kept = attributes::encode(&options, &token, None, &store.capabilities, true)?;
    kept.retention = store.retention(key);
    let mut parts = Parts::begin(store, &object, &token, &kept, true).await?;
    for range in ranges {
        let source = store.object(&range.key)?;
        if range.length < MIN_PART {
            // Servers copy ranges of small objects only as a whole; this is the last piece, and it is small.
            let body = read::part_of(store, &range.key, &range.there, range.offset, range.length)?;
            let piece = Source::new(body).take(range.length, &store.memory).await?;
            parts.send(piece).await?;
            continue;
        }
        let (mut offset, mut left) = (range.offset, range.length);
        while left > 0 {
            // No remainder that would be too small.
            let length = if left > MAX_COPY + MIN_PART { MAX_COPY } else { left };
            let places = (offset, offset + length - 1);
            parts.copy(&source, &range.there.etag, places).await?;
            (offset, left) = (offset + length, left - length);
        }
    }
    parts.sent().await?;
    // Not every server minds the etag of a copy's source.
    if !unchanged(store, ranges).await? {
        return Err(StoreError::PreconditionFailed);
    }
    let payload = Payload::Parts(parts);
    let commit = Commit { key: key.clone(), object, payload, size, sha256: None, token, options };
    commit::run(store, commit).await
}
