//! The store of a world: the memory store, with times that the case's clock tells and with faults
//! that happen when the case says so. Policies are the host's own, around this store.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use globset::{GlobBuilder, GlobMatcher};
use keepgate_jobs::Clock;
use keepgate_store::error::Result;
use keepgate_store::memory::MemoryStore;
use keepgate_store::{
    BlobStore, Body, BodyError, DeleteOptions, Download, Entry, Folder, Info, Key, Listing, Part,
    Piece, PutOptions, StoreError, Stored,
};

use super::ear::WorldClock;
use crate::case::{Failing, Fault, Operation};

/// Longer than anything that waits: what is silent for so long, is silent for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A fault, and how often it has been met.
#[derive(Debug)]
pub(crate) struct ArmedFault {
    told: Fault,
    key: Option<GlobMatcher>,
    met: AtomicU32,
}

impl ArmedFault {
    pub(crate) fn new(told: &Fault) -> std::result::Result<Self, String> {
        let glob = |pattern: &String| {
            let built = GlobBuilder::new(pattern).literal_separator(true).build();
            built.map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
        };
        let key = told.key.as_ref().map(glob).transpose()?;
        Ok(Self { told: told.clone(), key, met: AtomicU32::new(0) })
    }

    /// In words, where it never happened.
    pub(crate) fn unmet(&self) -> Option<String> {
        let Fault { on, fails, key, skip, .. } = &self.told;
        let met = self.met.load(Ordering::Relaxed);
        let key = key.as_deref().unwrap_or("any key");
        (met <= *skip).then(|| format!("the fault {fails:?} in {on:?} of {key} never happened"))
    }

    /// Whether it happens in this call.
    fn strikes(&self, operation: Operation, key: &str) -> bool {
        if self.told.on != operation || self.key.as_ref().is_some_and(|glob| !glob.is_match(key)) {
            return false;
        }
        let met = self.met.fetch_add(1, Ordering::Relaxed);
        let times = self.told.times;
        met >= self.told.skip && (times == 0 || met < self.told.skip.saturating_add(times))
    }

    fn error(&self) -> StoreError {
        match self.told.fails {
            Failing::NotFound => StoreError::NotFound,
            Failing::AlreadyExists => StoreError::AlreadyExists,
            Failing::PreconditionFailed => StoreError::PreconditionFailed,
            Failing::ChecksumMismatch => {
                StoreError::ChecksumMismatch { expected: "0".repeat(64), actual: "1".repeat(64) }
            }
            Failing::NoSpace => StoreError::NoSpace,
            Failing::Quota => StoreError::QuotaExceeded("the case's quota is full".to_owned()),
            Failing::Denied => StoreError::Denied("the case denies it".to_owned()),
            Failing::Truncated => BodyError::Truncated.into(),
            Failing::Io | Failing::Stall => StoreError::Io {
                action: "case's fault",
                path: self.told.store.clone().into(),
                source: io::Error::other("the case's disk is broken"),
            },
        }
    }

    /// What the middle of a body that is read ends with.
    fn body_error(&self) -> BodyError {
        match self.told.fails {
            Failing::Truncated => BodyError::Truncated,
            _ => BodyError::Io(io::Error::other("the case's disk is broken")),
        }
    }

    /// Fails now, or never comes back.
    async fn fail<T>(&self) -> Result<T> {
        if self.told.fails == Failing::Stall {
            tokio::time::sleep(FOR_EVER).await;
        }
        Err(self.error())
    }
}

/// A store of a world.
#[derive(Debug)]
pub(crate) struct WorldStore {
    memory: MemoryStore,
    clock: WorldClock,
    modified: Arc<Mutex<BTreeMap<String, SystemTime>>>,
    faults: Vec<Arc<ArmedFault>>,
}

impl WorldStore {
    pub(crate) fn new(clock: WorldClock, faults: Vec<Arc<ArmedFault>>) -> Arc<Self> {
        let (memory, modified) = Default::default();
        Arc::new(Self { memory, clock, modified, faults })
    }

    /// Puts a blob there, as the case says; no fault strikes.
    pub(crate) async fn place(
        &self,
        key: &Key,
        bytes: Vec<u8>,
        options: PutOptions,
        modified: Option<SystemTime>,
    ) -> Result<()> {
        self.memory.put(key, Body::from_bytes(bytes), options).await?;
        self.stamp(key, modified.unwrap_or_else(|| self.clock.now()));
        Ok(())
    }

    pub(crate) async fn make(&self, folders: &[Folder]) -> Result<()> {
        self.memory.prepare(folders).await
    }

    pub(crate) async fn remove(&self, key: &Key) -> Result<()> {
        self.memory.delete(key).await.map(|_| ())
    }

    /// All blobs, as they are, by their keys.
    pub(crate) async fn blobs(&self) -> Result<BTreeMap<String, (Info, Bytes)>> {
        let mut all = BTreeMap::new();
        let mut listing = self.memory.list(&Folder::top(), true).await?;
        loop {
            let entries = listing.next(1000).await?;
            if entries.is_empty() {
                return Ok(all);
            }
            for entry in entries {
                let key = Key::new(&*entry.key)?;
                let found = self.memory.get(&key, Part::Whole).await?;
                let bytes = found.body.collect(u64::MAX).await?;
                all.insert(entry.key, (self.at(found.info), bytes));
            }
        }
    }

    pub(crate) async fn has_folder(&self, folder: &str) -> bool {
        let Ok(folder) = Folder::new(folder) else { return false };
        self.memory.list(&folder, false).await.is_ok()
    }

    fn stamp(&self, key: &Key, time: SystemTime) {
        let mut modified = self.modified.lock().unwrap_or_else(PoisonError::into_inner);
        modified.insert(key.as_str().to_owned(), time);
    }

    fn at(&self, mut info: Info) -> Info {
        info.modified = told(&self.modified, info.key.as_str()).unwrap_or(info.modified);
        info
    }

    fn fault(&self, operation: Operation, key: &str) -> Option<&Arc<ArmedFault>> {
        self.faults.iter().find(|fault| fault.strikes(operation, key))
    }

    async fn check(&self, operation: Operation, key: &str) -> Result<()> {
        match self.fault(operation, key) {
            Some(fault) => fault.fail().await,
            None => Ok(()),
        }
    }

    fn stored(&self, key: &Key, mut stored: Stored) -> Stored {
        if stored.change != keepgate_store::Change::Unchanged {
            self.stamp(key, self.clock.now());
        }
        stored.info = self.at(stored.info);
        stored
    }
}

fn told(modified: &Mutex<BTreeMap<String, SystemTime>>, key: &str) -> Option<SystemTime> {
    modified.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
}

#[async_trait]
impl BlobStore for WorldStore {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.check(Operation::Head, key.as_str()).await?;
        Ok(self.at(self.memory.head(key).await?))
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        let fault = self.fault(Operation::Get, key.as_str()).cloned();
        let passes = fault.as_ref().and_then(|fault| fault.told.after);
        if let (Some(fault), None) = (&fault, passes) {
            return fault.fail().await;
        }
        let mut found = self.memory.get(key, part).await?;
        found.info = self.at(found.info);
        if let (Some(fault), Some(passes)) = (fault, passes) {
            found.body = broken_off(found.body, passes, fault);
        }
        Ok(found)
    }

    async fn put(&self, key: &Key, mut body: Body, options: PutOptions) -> Result<Stored> {
        if let Some(fault) = self.fault(Operation::Put, key.as_str()) {
            let all = fault.told.fails == Failing::ChecksumMismatch;
            let passes = fault.told.after.or(all.then_some(u64::MAX)).unwrap_or(0);
            let mut passed = 0;
            while passed < passes {
                match body.chunk().await {
                    Some(chunk) => passed += chunk?.len() as u64,
                    None => break,
                }
            }
            return fault.fail().await;
        }
        let stored = self.memory.put(key, body, options).await?;
        Ok(self.stored(key, stored))
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        self.check(Operation::Concat, key.as_str()).await?;
        let stored = self.memory.concat(key, pieces, options).await?;
        Ok(self.stored(key, stored))
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        self.check(Operation::Delete, key.as_str()).await?;
        self.memory.delete_with(key, options).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        self.check(Operation::List, folder.as_str()).await?;
        let inner = self.memory.list_after(folder, recursive, after).await?;
        Ok(Box::new(WorldListing { inner, modified: self.modified.clone() }))
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        let first = folders.first().map_or("", Folder::as_str);
        self.check(Operation::Prepare, first).await?;
        self.memory.prepare(folders).await
    }

    async fn check_metadata(&self) -> Result<()> {
        Ok(())
    }
}

struct WorldListing {
    inner: Box<dyn Listing>,
    modified: Arc<Mutex<BTreeMap<String, SystemTime>>>,
}

#[async_trait]
impl Listing for WorldListing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        let mut entries = self.inner.next(max).await?;
        for entry in &mut entries {
            entry.modified = told(&self.modified, &entry.key).unwrap_or(entry.modified);
        }
        Ok(entries)
    }
}

/// A body whose source fails after so many bytes.
fn broken_off(body: Body, passes: u64, fault: Arc<ArmedFault>) -> Body {
    let length = body.length();
    let stalls = fault.told.fails == Failing::Stall;
    let end = stream::once(async move {
        if stalls {
            tokio::time::sleep(FOR_EVER).await;
        }
        Err(fault.body_error())
    });
    Body::from_stream(length, first(body, passes).chain(end))
}

/// The first bytes of a body.
pub(crate) fn first(
    body: Body,
    passes: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    stream::unfold((body, passes), |(mut body, left)| async move {
        if left == 0 {
            return None;
        }
        let chunk = body.chunk().await?.map(|mut chunk| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            chunk
        });
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Some((chunk, (body, left - length)))
    })
}
