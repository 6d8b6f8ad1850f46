//! Stores in memory, and methods for tests to fill them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use super::memory_store::MemoryStore;
use super::{Condition, Entry, Info, Part, Piece, PutOptions, Received, Stored};
use crate::testing::{Host, with};
use crate::{Body, Failure, Timestamp, environment};

/// The stores of a test's mount, by name. `main` always exists.
#[derive(Debug)]
struct Stores(BTreeMap<String, MemoryStore>);

impl Default for Stores {
    fn default() -> Self {
        Self(BTreeMap::from([("main".to_owned(), MemoryStore::default())]))
    }
}

impl Stores {
    fn named(&mut self, name: &str) -> &mut MemoryStore {
        let store = self.0.entry(name.to_owned()).or_default();
        store.now = environment::now();
        store
    }
}

/// A blob, or a part of it, opened for reading.
#[derive(Debug)]
pub struct Download {
    /// What is known about the whole blob.
    pub info: Info,
    /// The offset of the body in the blob.
    pub offset: u64,
    /// The length of the body in bytes.
    pub length: u64,
    /// The body.
    pub data: Body,
}

/// A store that the mount grants.
#[derive(Debug)]
pub struct Store(String);

impl Store {
    /// Opens the store that the mount grants under this name. Fails with [`Failure::Denied`] if there is
    /// none.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let there = with(|stores: &mut Stores| stores.0.contains_key(name));
        let refused = || Failure::Denied(format!("the mount grants no store named {name:?}"));
        if there { Ok(Self(name.to_owned())) } else { Err(refused()) }
    }

    /// What is known about a blob. Fails with [`Failure::NotFound`] if it does not exist.
    pub fn head(&self, key: &str) -> Result<Info, Failure> {
        self.with(|store| store.head(key))
    }

    /// The same for many blobs, in the order of their keys; `None` for a blob that does not exist. A bucket is asked for
    /// several at the same time. Fails with [`Failure::Invalid`] for more than 1000 keys.
    pub fn heads(&self, keys: &[String]) -> Result<Vec<Option<Info>>, Failure> {
        if keys.len() > 1000 {
            return Err(Failure::Invalid(format!("{} keys in one call", keys.len())));
        }
        let head = |key: &String| match self.head(key) {
            Ok(info) => Ok(Some(info)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        };
        keys.iter().map(head).collect()
    }

    /// Opens a blob or a part of it. Fails with [`Failure::NotFound`] if it does not exist, and with
    /// [`Failure::OutOfRange`] if no byte of the part is in the blob.
    pub fn get(&self, key: &str, part: Part) -> Result<Download, Failure> {
        let (info, offset, bytes) = self.with(|store| store.get(key, part))?;
        let (length, data) = (bytes.len() as u64, Body::from_bytes(&bytes));
        Ok(Download { info, offset, length, data })
    }

    /// Stores a body completely or not at all. Durable when it returns. The result says what changed: with
    /// [`PutOptions::absent_or_identical`], a success may have written nothing.
    pub fn put(&self, key: &str, data: Body, options: &PutOptions) -> Result<Stored, Failure> {
        self.with(|store| store.put(key, || data.into_bytes(), options, None))
    }

    /// Stores a blob that expires, as [`put`](Self::put) does: from `until` on it is not there, and no condition minds it.
    /// The host removes it within an hour or so; until then listings may name it. Another blob under the key revokes
    /// that, and a [`rename`](Self::rename) takes it along. A time that has passed is no failure.
    pub fn put_until(
        &self,
        key: &str,
        data: Body,
        options: &PutOptions,
        until: Timestamp,
    ) -> Result<Stored, Failure> {
        self.with(|store| store.put(key, || data.into_bytes(), options, Some(until.0)))
    }

    /// Stores as [`put`](Self::put) does, except that what came of a body that broke off, or whose sender fell silent, is
    /// kept, without a look at its SHA-256. If nothing came, it fails as `put` does. The host goes on with it when the
    /// client is gone, and with it this call: choose a key by which you find the blob then.
    #[expect(clippy::needless_pass_by_value, reason = "a handle is given away, as to the host")]
    pub fn receive(
        &self,
        key: &str,
        data: Body,
        options: &PutOptions,
    ) -> Result<Received, Failure> {
        let (mut came, mut complete) = (Vec::new(), false);
        loop {
            match data.read(1 << 16) {
                Ok(Some(bytes)) => came.extend(bytes),
                Ok(None) => {
                    complete = true;
                    break;
                }
                Err(Failure::Truncated | Failure::TimedOut) if !came.is_empty() => break,
                Err(failure) => return Err(failure),
            }
        }
        let mut options = options.clone();
        options.sha256 = options.sha256.filter(|_| complete);
        let stored = self.with(|store| store.put(key, || Ok(came), &options, None))?;
        Ok(Received { stored, complete })
    }

    /// Joins pieces of blobs into one, in order, with the same guarantees as [`put`](Self::put). The blobs
    /// stay. Fails with [`Failure::OutOfRange`] if no byte of a piece is in its blob.
    pub fn concat(
        &self,
        key: &str,
        pieces: &[Piece],
        options: &PutOptions,
    ) -> Result<Stored, Failure> {
        self.with(|store| store.concat(key, pieces, options))
    }

    /// Moves a blob to another key, with content type, metadata, tags and expiry. Durable when it returns. A disk moves it in
    /// one step, without copying; a bucket copies it and then removes it, and may have both if the gateway dies in
    /// between. The condition is about the new key. Fails with [`Failure::NotFound`] if there is no blob, and with
    /// [`Failure::Invalid`] for [`Condition::AbsentOrIdentical`] or if both keys are the same.
    pub fn rename(&self, key: &str, to: &str, condition: &Condition) -> Result<Stored, Failure> {
        self.with(|store| store.rename(key, to, condition))
    }

    /// Deletes a blob and returns its size in bytes, or `None` if it did not exist. Durable when it returns.
    pub fn delete(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.with(|store| store.delete(key, None))
    }

    /// Deletes a blob if it still has this etag. Fails with [`Failure::PreconditionFailed`] if it was
    /// replaced or deleted.
    pub fn delete_matching(&self, key: &str, etag: &str) -> Result<Option<u64>, Failure> {
        self.with(|store| store.delete(key, Some(etag)))
    }

    /// Lists the blobs below a folder, ascending by the bytes of their keys. Fails with [`Failure::NotFound`]
    /// if the folder does not exist. The top, which is the empty text, always exists.
    pub fn list(&self, folder: &str, recursive: bool) -> Result<Listing, Failure> {
        let entries = self.with(|store| store.list(folder, recursive, None))?;
        Ok(Listing(RefCell::new(entries.into())))
    }

    /// Like [`list`](Self::list), but starts after a [place](Entry::place), for the next page of a list. What
    /// comes before costs nothing.
    pub fn list_after(
        &self,
        folder: &str,
        recursive: bool,
        after: &str,
    ) -> Result<Listing, Failure> {
        let entries = self.with(|store| store.list(folder, recursive, Some(after)))?;
        Ok(Listing(RefCell::new(entries.into())))
    }

    /// Creates folders with their parents, for protocols in which an empty folder means something; `put` does
    /// not need them. Durable when it returns.
    pub fn prepare(&self, folders: &[String]) -> Result<(), Failure> {
        self.with(|store| store.prepare(folders))
    }

    fn with<T>(&self, work: impl FnOnce(&mut MemoryStore) -> T) -> T {
        with(|stores: &mut Stores| work(stores.named(&self.0)))
    }
}

/// A listing in progress.
#[derive(Debug)]
pub struct Listing(RefCell<VecDeque<Entry>>);

impl Listing {
    /// The next entries, at most `max`; an empty list is the end.
    pub fn next(&self, max: u32) -> Result<Vec<Entry>, Failure> {
        let mut rest = self.0.borrow_mut();
        let length = rest.len().min(usize::try_from(max.max(1)).unwrap_or(1));
        Ok(rest.drain(..length).collect())
    }
}

impl Host {
    /// With another empty store.
    #[must_use]
    pub fn store(self, name: &str) -> Self {
        with(|stores: &mut Stores| {
            stores.named(name);
        });
        self
    }

    /// Stores a blob in `main`.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.main(|store| store.set(key, bytes));
    }

    /// A blob of `main`.
    pub fn blob(&self, key: &str) -> Option<Vec<u8>> {
        self.main(|store| store.bytes(key))
    }

    /// The keys of `main`, in order.
    pub fn keys(&self) -> Vec<String> {
        self.main(|store| store.keys())
    }

    /// From now on `main` refuses to remove or replace blobs, as an append-only mount does, except those whose
    /// key `except` is true for.
    pub fn append_only(&self, except: fn(&str) -> bool) {
        self.main(|store| store.append_only(except));
    }

    /// From now on changes of these keys in `main` fail: `put` and `delete`, but nothing that reads.
    pub fn refuse_changes(&self, of: fn(&str) -> bool, with: Failure) {
        self.main(|store| store.refuses(of, with));
    }

    /// From now on `main` is full.
    pub fn full(&self) {
        self.main(MemoryStore::full);
    }

    fn main<T>(&self, work: impl FnOnce(&mut MemoryStore) -> T) -> T {
        with(|stores: &mut Stores| work(stores.named("main")))
    }
}
