//! A store in memory, for tests. It keeps the same promises as the disk store, and one test suite
//! (`tests/conformance`) checks both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use sha2::{Digest, Sha256};

use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::commit_observer::{MovedBlob, admit_removal};
use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{
    BlobStore, Change, CommittedChange, Condition, DeleteOptions, Download, Due, Entry, Info,
    Listing, ObserverHandle, Part, Piece, PutOptions, RemovedBlob, RenameOptions, Stored,
};

/// Bytes of one chunk of a body: small, so that readers see more than one chunk.
const CHUNK: usize = 64 * 1024;

/// A store in memory. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<String, (Info, Bytes)>,
    /// Each ends with a slash. A folder stays once it is made.
    folders: BTreeSet<String>,
    stored: u64,
    clock: Clock,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose blobs expire by this clock.
    pub fn with_clock(clock: Clock) -> Self {
        let state = State { clock, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &Key) -> Result<(Info, Bytes)> {
        let state = self.state();
        let found = state.there(key).cloned();
        found.ok_or(StoreError::NotFound)
    }

    /// A blob's info, where the part begins in it, and the part's bytes.
    fn find_part(&self, key: &Key, part: Part) -> Result<(Info, u64, Bytes)> {
        let (info, mut bytes) = self.find(key)?;
        let (offset, length) =
            part.within(info.size).ok_or(StoreError::OutOfRange { size: info.size })?;
        // Neither exceeds the number of bytes in memory.
        let _ = bytes.split_to(usize::try_from(offset).unwrap_or(usize::MAX));
        bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok((info, offset, bytes))
    }
}

impl State {
    /// The blob under a key, unless it has expired.
    fn there(&self, key: &Key) -> Option<&(Info, Bytes)> {
        let found = self.blobs.get(key.as_str());
        found.filter(|(info, _)| !self.clock.has_passed(info.expires))
    }

    /// Checks what must hold before a body is read.
    fn check(&self, key: &Key, condition: &Condition) -> Result<()> {
        self.check_folders(key.folder().as_str())?;
        if self.folders.contains(&format!("{key}/")) {
            return Err(StoreError::Invalid(format!(
                "{key} is a folder, so no blob can be stored there"
            )));
        }
        let there = self.there(key).map(|(info, _)| &info.etag);
        match (condition, there) {
            (Condition::Absent, Some(_)) => Err(StoreError::AlreadyExists),
            (Condition::Matches(etag), there) if there != Some(etag) => {
                Err(StoreError::PreconditionFailed)
            }
            _ => Ok(()),
        }
    }

    fn check_folders(&self, folder: &str) -> Result<()> {
        match prefixes(folder).find(|prefix| self.blobs.contains_key(*prefix)) {
            Some(blob) => Err(StoreError::Invalid(format!(
                "{blob} is a blob, so no folder can be made there"
            ))),
            None => Ok(()),
        }
    }

    fn make_folder(&mut self, folder: &str) {
        self.folders.extend(prefixes(folder).map(|prefix| format!("{prefix}/")));
    }

    fn commit(&mut self, key: &Key, bytes: Bytes, options: PutOptions) -> Result<Stored> {
        let actual: [u8; 32] = Sha256::digest(&bytes).into();
        let wrong = options.sha256.filter(|expected| *expected != actual);
        if options.condition == Condition::AbsentOrIdentical
            && let Some((info, there)) = self.there(key)
        {
            return if *there == bytes && wrong.is_none() {
                Ok(Stored { info: info.clone(), change: Change::Unchanged })
            } else {
                Err(StoreError::AlreadyExists)
            };
        }
        if let Some(expected) = wrong {
            return Err(StoreError::ChecksumMismatch {
                expected: hex::encode(expected),
                actual: hex::encode(actual),
            });
        }
        self.check(key, &options.condition)?;
        self.make_folder(key.folder().as_str());
        self.stored += 1;
        let info = Info {
            key: key.clone(),
            size: bytes.len() as u64,
            modified: SystemTime::now(),
            etag: format!("{:x}", self.stored),
            content_type: options.content_type,
            metadata: options.metadata,
            tags: options.tags,
            expires: options.expires,
        };
        let replaced = self.there(key).map(|(info, _)| info.modified);
        admit_removal(options.observer.as_ref(), replaced)?;
        let replaces = replaced.is_some();
        let name = key.as_str().to_owned();
        let came = Some(info.size);
        let gone = self.change(options.observer.as_ref(), came, |blobs| {
            blobs.insert(name, (info.clone(), bytes))
        })?;
        let gone = gone.filter(|_| replaces);
        let change = gone.map_or(Change::Created, |size| Change::Replaced { size });
        Ok(Stored { info, change })
    }

    fn rename(&mut self, key: &Key, to: &Key, options: &RenameOptions) -> Result<Stored> {
        let there = self.there(key).map(|(info, _)| info.clone()).ok_or(StoreError::NotFound)?;
        options.admit(there.size, &there.metadata)?;
        self.check(to, &options.condition)?;
        self.make_folder(to.folder().as_str());
        let replaced = self.there(to).map(|(info, _)| info.modified);
        options.admit_removals(there.modified, replaced)?;
        let replaces = replaced.is_some();
        let wanted = options.before_commit()?;
        let Some((_, bytes)) = self.blobs.remove(key.as_str()) else {
            options.after_commit(None);
            return Err(StoreError::NotFound);
        };
        self.stored += 1;
        // A bucket keeps neither, so nobody must rely on them.
        let (modified, etag) = (SystemTime::now(), format!("{:x}", self.stored));
        let info = Info { key: to.clone(), modified, etag, ..there.clone() };
        let replaced = self.blobs.insert(to.as_str().to_owned(), (info.clone(), bytes));
        let removed = |info: Info| RemovedBlob {
            size: info.size,
            metadata: if wanted { info.metadata } else { Vec::new() },
        };
        let replaced = replaced.map(|(info, _)| removed(info));
        let change = replaced.as_ref().filter(|_| replaces);
        let change = change.map_or(Change::Created, |gone| Change::Replaced { size: gone.size });
        options.after_commit(Some(MovedBlob { blob: removed(there), replaced }));
        Ok(Stored { info, change })
    }

    /// Changes a blob and tells the observer. Returns the size of the removed blob.
    fn change(
        &mut self,
        observer: Option<&ObserverHandle>,
        came: Option<u64>,
        step: impl FnOnce(&mut BTreeMap<String, (Info, Bytes)>) -> Option<(Info, Bytes)>,
    ) -> Result<Option<u64>> {
        let wanted = observer.map_or(Ok(false), |observer| observer.before_commit())?;
        let gone = step(&mut self.blobs).map(|(info, _)| info);
        let size = gone.as_ref().map(|info| info.size);
        if let Some(observer) = observer {
            let gone = gone.map(|info| RemovedBlob {
                size: info.size,
                metadata: if wanted { info.metadata } else { Vec::new() },
            });
            let changed = gone.is_some() || came.is_some();
            observer.after_commit(changed.then_some(CommittedChange { removed: gone, size: came }));
        }
        Ok(size)
    }

    fn list(&self, folder: &str, recursive: bool, after: Option<&str>) -> Result<VecDeque<Entry>> {
        let top = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if !top.is_empty() && !self.folders.contains(&top) {
            return Err(StoreError::NotFound);
        }
        let inside = |name: &str| {
            name.strip_prefix(&top).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
        };
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        // Keyed by sort key, so a folder's ends with a slash.
        let mut found = BTreeMap::new();
        for (key, (info, _)) in self.blobs.range::<str, _>((begin, Bound::Unbounded)) {
            if inside(key) || (recursive && key.starts_with(&top)) {
                found.insert(
                    key.clone(),
                    Entry {
                        key: key.clone(),
                        size: info.size,
                        modified: info.modified,
                        etag: info.etag.clone(),
                        folder: false,
                    },
                );
            }
        }
        for folder in self.folders.range::<str, _>((begin, Bound::Unbounded)) {
            let name = folder.trim_end_matches('/');
            if !recursive && inside(name) {
                found.insert(
                    folder.clone(),
                    Entry {
                        key: name.to_owned(),
                        size: 0,
                        modified: SystemTime::UNIX_EPOCH,
                        etag: String::new(),
                        folder: true,
                    },
                );
            }
        }
        Ok(found.into_values().collect())
    }
}

/// `a`, `a/b` and `a/b/c` for `a/b/c`.
fn prefixes(folder: &str) -> impl Iterator<Item = &str> {
    let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
    ends.filter_map(|end| folder.get(..end)).filter(|prefix| !prefix.is_empty())
}

async fn read(mut body: Body) -> Result<Bytes> {
    let length = body.length();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.chunk().await {
        bytes.extend_from_slice(&chunk?);
        if let Some(limit) = length.filter(|limit| bytes.len() as u64 > *limit) {
            return Err(BodyError::TooLarge { limit }.into());
        }
    }
    if length.is_some_and(|length| (bytes.len() as u64) < length) {
        return Err(BodyError::Truncated.into());
    }
    Ok(bytes.freeze())
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn head(&self, key: &Key) -> Result<Info> {
        Ok(self.find(key)?.0)
    }

    async fn head_any(&self, key: &Key) -> Result<Info> {
        let found = self.state().blobs.get(key.as_str()).map(|(info, _)| info.clone());
        found.ok_or(StoreError::NotFound)
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        let (info, offset, mut bytes) = self.find_part(key, part)?;
        let length = bytes.len() as u64;
        let chunks = stream::iter(std::iter::from_fn(move || {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            (!chunk.is_empty()).then_some(Ok(chunk))
        }));
        Ok(Download { info, offset, length, body: Body::from_stream(Some(length), chunks) })
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        self.state().check(key, &options.condition)?;
        let bytes = read(body).await?;
        self.state().commit(key, bytes, options)
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        let mut bytes = BytesMut::new();
        for piece in pieces {
            bytes.extend_from_slice(&self.find_part(&piece.key, piece.part)?.2);
        }
        if let Some(observer) = &options.observer {
            observer.admit(bytes.len() as u64)?;
        }
        let mut state = self.state();
        state.check(key, &options.condition)?;
        state.commit(key, bytes.freeze(), options)
    }

    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored> {
        options.check(key, to)?;
        self.state().rename(key, to, &options)
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        let mut state = self.state();
        options.check(state.there(key).map(|(info, _)| &*info.etag))?;
        let there = state.there(key).map(|(info, _)| info.modified);
        admit_removal(options.observer.as_ref(), there)?;
        let there = there.is_some();
        let removed =
            state.change(options.observer.as_ref(), None, |blobs| blobs.remove(key.as_str()))?;
        Ok(removed.filter(|_| there))
    }

    async fn due(&self, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
        // Its blobs are their own markers.
        let state = self.state();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let expired = state.blobs.range::<str, _>((begin, Bound::Unbounded));
        let expired = expired.filter(|(_, (info, _))| state.clock.has_passed(info.expires));
        let due =
            expired.map(|(name, (info, _))| Due { marker: name.clone(), key: info.key.clone() });
        Ok(due.take(max).collect())
    }

    async fn expire(&self, due: &Due, options: DeleteOptions) -> Result<Option<u64>> {
        let mut state = self.state();
        if state.there(&due.key).is_some() {
            return Ok(None);
        }
        let name = due.key.as_str();
        state.change(options.observer.as_ref(), None, |blobs| blobs.remove(name))
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        let entries = self.state().list(folder.as_str(), recursive, after)?;
        Ok(Box::new(MemoryListing { entries }))
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        let mut state = self.state();
        for folder in folders {
            state.check_folders(folder.as_str())?;
        }
        for folder in folders {
            state.make_folder(folder.as_str());
        }
        Ok(())
    }

    async fn check_metadata(&self) -> Result<()> {
        Ok(())
    }
}

struct MemoryListing {
    entries: VecDeque<Entry>,
}

#[async_trait]
impl Listing for MemoryListing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        // An empty list would mean the end.
        let count = max.max(1).min(self.entries.len());
        Ok(self.entries.drain(..count).collect())
    }
}
