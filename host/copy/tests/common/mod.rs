//! Helpers for the tests of copies: repositories as restic lays them out, and stores that fail.

#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_copy::{CopyError, CopyOptions, Report};
use keepgate_store::memory::MemoryStore;
use keepgate_store::{
    BlobStore, Body, BodyError, DeleteOptions, Download, Entry, Folder, Info, Key, Listing, Part,
    Piece, PutOptions, RenameOptions, Result, StoreError, Stored,
};
use sha2::{Digest as _, Sha256};

pub type Store = Arc<dyn BlobStore>;

pub fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub fn memory() -> Store {
    Arc::new(MemoryStore::new())
}

pub fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes that differ by seed.
pub fn bytes(length: usize, seed: usize) -> Bytes {
    (0..length).map(|at| ((at * 31 + at / 251 + seed * 7 + 1) % 251) as u8).collect()
}

pub async fn put(store: &Store, name: &str, bytes: impl Into<Bytes>) {
    let body = Body::from_bytes(bytes.into());
    store.put(&key(name), body, PutOptions::default()).await.unwrap();
}

/// Stores bytes below a folder under their SHA-256; `data/` fans out. Returns the key.
pub async fn put_named(store: &Store, folder: &str, bytes: impl Into<Bytes>) -> String {
    let bytes = bytes.into();
    let hash = sha(&bytes);
    let name = match folder.rsplit('/').next() {
        Some("data") => format!("{folder}/{}/{hash}", &hash[..2]),
        _ => format!("{folder}/{hash}"),
    };
    put(store, &name, bytes).await;
    name
}

pub async fn delete(store: &Store, name: &str) {
    assert!(store.delete(&key(name)).await.unwrap().is_some(), "{name} was there");
}

/// Everything in a store.
pub async fn contents(store: &Store) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    let mut listing = store.list(&Folder::top(), true).await.unwrap();
    loop {
        let page = listing.next(1000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        for entry in page {
            let download = store.get(&key(&entry.key), Part::Whole).await.unwrap();
            all.insert(entry.key, download.body.collect(u64::MAX).await.unwrap());
        }
    }
}

pub async fn run(from: &Store, to: &Store, options: CopyOptions) -> Report {
    let (report, outcome) = keepgate_copy::copy(from.clone(), to.clone(), options).await;
    outcome.unwrap();
    report
}

pub async fn try_run(
    from: &Store,
    to: &Store,
    options: CopyOptions,
) -> (Report, std::result::Result<(), CopyError>) {
    keepgate_copy::copy(from.clone(), to.clone(), options).await
}

/// A repository whose references can be followed: an index lists packs, a snapshot lists what it
/// needs of them. A toy of restic's layout with restic's rules of writing and deleting.
#[derive(Clone)]
pub struct Repository {
    pub store: Store,
    pub folder: String,
}

impl Repository {
    pub async fn create(store: &Store, folder: &str) -> Self {
        let this = Self { store: store.clone(), folder: folder.to_owned() };
        put(store, &this.at("config"), format!("config of {folder}")).await;
        put_named(store, &this.at("keys"), format!("key of {folder}")).await;
        this
    }

    pub fn at(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    /// Writes packs, an index of them, and a snapshot. Returns the snapshot's key.
    pub async fn backup(&self, seed: usize, packs: usize) -> String {
        let mut chunks = Vec::new();
        for at in 0..packs {
            chunks.push(format!("chunk {seed} {at}"));
        }
        self.write_packs(&chunks, 2).await;
        put_named(&self.store, &self.at("snapshots"), chunks.join("\n")).await
    }

    /// Packs of `each` chunks, and one index of them. Returns the names.
    async fn write_packs(&self, chunks: &[String], each: usize) -> Vec<String> {
        let (mut index, mut names) = (Vec::new(), Vec::new());
        for pack in chunks.chunks(each) {
            let name = put_named(&self.store, &self.at("data"), pack.join("\n")).await;
            index.push(format!("{name}\n{}", pack.join("\n")));
            names.push(name);
        }
        if !index.is_empty() {
            names.push(put_named(&self.store, &self.at("index"), index.join("\n\n")).await);
        }
        names
    }

    /// Repacks everything that the snapshots need, as `prune` does: new packs, a new index, then the
    /// old index files go, then the old packs.
    pub async fn prune(&self, each: usize) {
        let old = contents(&self.store).await;
        let mut needed = self.chunks_of_snapshots(&old);
        needed.sort();
        needed.dedup();
        let new = self.write_packs(&needed, each).await;
        for folder in ["index/", "data/"] {
            let folder = self.at(folder);
            for name in old.keys().filter(|name| name.starts_with(&folder)) {
                // What has the same content is the same blob.
                if !new.contains(name) {
                    self.store.delete(&key(name)).await.unwrap();
                }
            }
        }
    }

    /// Removes a snapshot.
    pub async fn forget(&self) {
        let folder = self.at("snapshots/");
        let all = contents(&self.store).await;
        if let Some(name) = all.keys().find(|name| name.starts_with(&folder)) {
            self.store.delete(&key(name)).await.unwrap();
        }
    }

    fn chunks_of_snapshots(&self, all: &BTreeMap<String, Bytes>) -> Vec<String> {
        let folder = self.at("snapshots/");
        all.iter()
            .filter(|(key, _)| key.starts_with(&folder))
            .flat_map(|(_, text)| {
                let text = String::from_utf8_lossy(text).into_owned();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// What cannot be restored from these blobs: chunks of snapshots that no index finds in a pack
    /// that is there. Every index entry must be right, as restic takes any.
    pub fn broken(&self, all: &BTreeMap<String, Bytes>) -> Vec<String> {
        let mut found = BTreeMap::<String, bool>::new();
        let index = self.at("index/");
        for (_, text) in all.iter().filter(|(key, _)| key.starts_with(&index)) {
            for pack in String::from_utf8_lossy(text).split("\n\n") {
                let mut lines = pack.lines();
                let name = lines.next().unwrap();
                for chunk in lines.filter(|line| !line.is_empty()) {
                    let there = all.contains_key(name);
                    let entry = found.entry(chunk.to_owned()).or_insert(there);
                    *entry = *entry && there;
                }
            }
        }
        let chunks = self.chunks_of_snapshots(all).into_iter();
        chunks.filter(|chunk| found.get(chunk) != Some(&true)).collect()
    }
}

/// A call of a store, for a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Head(String),
    Get(String),
    Put(String),
    /// After it was stored.
    Stored(String),
    Delete(String),
    List(String),
    Page(String),
}

type Hook = Box<dyn Fn(u64, &Call) -> Option<StoreError> + Send + Sync>;
type Act = Box<dyn Fn(Call) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A store that asks a function before each call, and may cut bodies.
pub struct Hooked {
    pub inner: Store,
    pub calls: AtomicU64,
    /// Given the number of the call; an error is the answer.
    pub hook: Hook,
    /// What happens before a call; for races.
    pub act: Option<Act>,
    /// Bodies of these keys end early, with an error.
    pub cut: Arc<Mutex<Vec<String>>>,
    /// Pauses between chunks of bodies, so that a drop meets them in the middle.
    pub yields: bool,
    /// Listings look at the store again for each entry, so that what changes before their cursor is
    /// missed, as on a disk or in a bucket.
    pub ragged: bool,
}

impl Hooked {
    pub fn new(
        inner: &Store,
        hook: impl Fn(u64, &Call) -> Option<StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: inner.clone(),
            calls: 0.into(),
            hook: Box::new(hook),
            act: None,
            cut: Arc::default(),
            yields: false,
            ragged: false,
        }
    }

    async fn ask(&self, call: Call) -> Result<()> {
        tokio::task::yield_now().await;
        if let Some(act) = &self.act {
            act(call.clone()).await;
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.hook)(number, &call).map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

struct HookedListing {
    inner: Box<dyn Listing>,
    folder: Folder,
    recursive: bool,
    last: Option<String>,
    store: Arc<Hooked>,
}

#[async_trait]
impl Listing for HookedListing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        self.store.ask(Call::Page(self.folder.to_string())).await?;
        if !self.store.ragged {
            return self.inner.next(max).await;
        }
        let after = self.last.as_deref();
        let again = self.store.inner.list_after(&self.folder, self.recursive, after).await;
        let page = match again {
            Ok(mut listing) => listing.next(1).await?,
            Err(StoreError::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        if let Some(entry) = page.last() {
            self.last = Some(entry.sort_key().into_owned());
        }
        Ok(page)
    }
}

/// A hooked store behind an `Arc`, so that its listings can ask it.
#[derive(Clone, Debug)]
pub struct Hooks(pub Arc<Hooked>);

#[async_trait]
impl BlobStore for Hooks {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.0.ask(Call::Head(key.to_string())).await?;
        self.0.inner.head(key).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        self.0.ask(Call::Get(key.to_string())).await?;
        let mut download = self.0.inner.get(key, part).await?;
        let length = download.body.length();
        if self.0.cut.lock().unwrap().iter().any(|cut| *cut == key.as_str()) {
            let half = download.length / 2;
            let body = std::mem::replace(&mut download.body, Body::empty());
            let bytes = body.collect(u64::MAX).await.unwrap();
            let chunks = [Ok(bytes.slice(..half as usize)), Err(BodyError::Truncated)];
            download.body = Body::from_stream(length, stream::iter(chunks));
        } else if self.0.yields {
            let body = std::mem::replace(&mut download.body, Body::empty());
            let chunks = body.then(|chunk| async {
                tokio::task::yield_now().await;
                chunk
            });
            download.body = Body::from_stream(length, chunks);
        }
        Ok(download)
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        self.0.ask(Call::Put(key.to_string())).await?;
        let stored = self.0.inner.put(key, body, options).await?;
        self.0.ask(Call::Stored(key.to_string())).await?;
        Ok(stored)
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        self.0.inner.concat(key, pieces, options).await
    }

    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored> {
        self.0.inner.rename(key, to, options).await
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        self.0.ask(Call::Delete(key.to_string())).await?;
        self.0.inner.delete_with(key, options).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        self.0.ask(Call::List(folder.to_string())).await?;
        let listing = self.0.inner.list_after(folder, recursive, after).await?;
        Ok(Box::new(HookedListing {
            inner: listing,
            folder: folder.clone(),
            recursive,
            last: after.map(str::to_owned),
            store: self.0.clone(),
        }))
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        self.0.inner.prepare(folders).await
    }

    async fn check_metadata(&self) -> Result<()> {
        self.0.inner.check_metadata().await
    }
}

pub fn hooked(hooked: Hooked) -> Store {
    Arc::new(Hooks(Arc::new(hooked)))
}
