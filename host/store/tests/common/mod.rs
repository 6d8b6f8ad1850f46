//! Helpers for the tests of stores: bodies of every kind, and shorthands.

#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use keepgate_store::{
    BlobStore, Body, BodyError, Condition, Entry, Folder, Key, Part, Piece, PutOptions, Result,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub type Store = Arc<dyn BlobStore>;

/// Temporary folders on a disk and in memory: at least one of the two supports files without a name,
/// and at least one may not.
pub fn places() -> Vec<TempDir> {
    let mut places = vec![TempDir::new().unwrap()];
    places.extend(in_memory());
    places
}

/// A temporary folder on tmpfs, if there is one.
pub fn in_memory() -> Option<TempDir> {
    let place = TempDir::new_in("/dev/shm").ok();
    if place.is_none() {
        eprintln!("SKIPPED on tmpfs: /dev/shm is missing or not writable");
    }
    place
}

pub fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// The whole of each of these blobs.
pub fn pieces(keys: &[Key]) -> Vec<Piece> {
    keys.iter().cloned().map(Piece::from).collect()
}

pub fn folder(name: &str) -> Folder {
    Folder::new(name).unwrap()
}

/// Bytes that differ by position and by seed.
pub fn bytes(length: usize, seed: usize) -> Bytes {
    (0..length).map(|at| ((at * 31 + at / 251 + seed * 7) % 251) as u8).collect()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn when(condition: Condition) -> PutOptions {
    PutOptions { condition, ..PutOptions::default() }
}

pub fn verified(bytes: &[u8]) -> PutOptions {
    PutOptions { sha256: Some(sha256(bytes)), ..PutOptions::default() }
}

/// A body in chunks of `size` bytes.
pub fn chunked(bytes: &Bytes, size: usize) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Body::from_stream(Some(bytes.len() as u64), stream::iter(chunks))
}

/// A body that announces more bytes than it has.
pub fn short(bytes: &Bytes, announced: u64) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Body::from_stream(Some(announced), stream::iter(chunks))
}

/// A body that fails after these bytes.
pub fn broken(bytes: &Bytes) -> Body {
    let chunks = vec![Ok(bytes.clone()), Err(BodyError::TimedOut)];
    Body::from_stream(None, stream::iter(chunks))
}

/// A body that records whether it was read.
pub fn watched(bytes: &Bytes) -> (Body, Arc<AtomicBool>) {
    let read = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&read);
    let chunks =
        stream::iter([Ok(bytes.clone())]).inspect(move |_| seen.store(true, Ordering::Relaxed));
    (Body::from_stream(Some(bytes.len() as u64), chunks), read)
}

/// A body that yields its chunks and then waits forever; the counter says how many were taken.
pub fn stalling(chunks: Vec<Bytes>) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&taken);
    let given = stream::iter(chunks).map(move |chunk| {
        seen.fetch_add(1, Ordering::Relaxed);
        Ok(chunk)
    });
    (Body::from_stream(None, given.chain(stream::pending())), taken)
}

pub async fn put(store: &Store, name: &str, bytes: &Bytes) {
    let stored =
        store.put(&key(name), bytes.clone().into_body(), PutOptions::default()).await.unwrap();
    assert_eq!(stored.info.size, bytes.len() as u64);
}

pub async fn read(store: &Store, name: &str) -> Bytes {
    read_part(store, name, Part::Whole).await.unwrap()
}

pub async fn read_part(store: &Store, name: &str, part: Part) -> Result<Bytes> {
    let download = store.get(&key(name), part).await?;
    assert_eq!(download.body.length(), Some(download.length));
    let bytes = download.body.collect(u64::MAX).await?;
    assert_eq!(bytes.len() as u64, download.length);
    Ok(bytes)
}

pub async fn entries(store: &Store, name: &str, recursive: bool, max: usize) -> Result<Vec<Entry>> {
    entries_after(store, name, recursive, max, None).await
}

pub async fn entries_after(
    store: &Store,
    name: &str,
    recursive: bool,
    max: usize,
    after: Option<&str>,
) -> Result<Vec<Entry>> {
    let mut listing = store.list_after(&folder(name), recursive, after).await?;
    let mut all = Vec::new();
    loop {
        let some = listing.next(max).await?;
        assert!(some.len() <= max);
        if some.is_empty() {
            assert!(listing.next(max).await?.is_empty(), "the end stays the end");
            return Ok(all);
        }
        all.extend(some);
    }
}

/// The names in a listing; folders end with a slash.
pub async fn names(store: &Store, name: &str, recursive: bool) -> Vec<String> {
    let entries = entries(store, name, recursive, 100).await.unwrap();
    entries
        .into_iter()
        .map(|entry| format!("{}{}", entry.key, if entry.folder { "/" } else { "" }))
        .collect()
}

pub trait IntoBody {
    fn into_body(self) -> Body;
}

impl IntoBody for Bytes {
    fn into_body(self) -> Body {
        Body::from_bytes(self)
    }
}

impl IntoBody for &'static str {
    fn into_body(self) -> Body {
        Body::from_bytes(self)
    }
}
