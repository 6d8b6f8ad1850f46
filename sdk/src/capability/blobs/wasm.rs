//! Stores of the host. The methods are documented in `native.rs`.

pub use crate::bindings::keepgate::plugin::blobs::{Download, Listing};

use super::{Condition, Info, Part, Piece, PutOptions, Received, Stored};
use crate::bindings::keepgate::plugin::blobs;
use crate::{Body, Failure, Timestamp};

/// A store that the mount grants.
#[derive(Debug)]
pub struct Store(blobs::Store);

#[allow(missing_docs, reason = "the documentation is made of the native ones")]
impl Store {
    pub fn open(name: &str) -> Result<Self, Failure> {
        blobs::Store::open(name).map(Self)
    }

    pub fn head(&self, key: &str) -> Result<Info, Failure> {
        self.0.head(key)
    }

    pub fn heads(&self, keys: &[String]) -> Result<Vec<Option<Info>>, Failure> {
        self.0.heads(keys)
    }

    pub fn get(&self, key: &str, part: Part) -> Result<Download, Failure> {
        self.0.get(key, part)
    }

    pub fn put(&self, key: &str, data: Body, options: &PutOptions) -> Result<Stored, Failure> {
        self.0.put(key, data, options)
    }

    pub fn put_until(
        &self,
        key: &str,
        data: Body,
        options: &PutOptions,
        until: Timestamp,
    ) -> Result<Stored, Failure> {
        self.0.put_until(key, data, options, until.0)
    }

    pub fn receive(
        &self,
        key: &str,
        data: Body,
        options: &PutOptions,
    ) -> Result<Received, Failure> {
        self.0.receive(key, data, options)
    }

    pub fn concat(
        &self,
        key: &str,
        pieces: &[Piece],
        options: &PutOptions,
    ) -> Result<Stored, Failure> {
        self.0.concat(key, pieces, options)
    }

    pub fn rename(&self, key: &str, to: &str, condition: &Condition) -> Result<Stored, Failure> {
        self.0.rename(key, to, condition)
    }

    pub fn delete(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.0.delete(key, &Condition::Always)
    }

    pub fn delete_matching(&self, key: &str, etag: &str) -> Result<Option<u64>, Failure> {
        self.0.delete(key, &Condition::Matches(etag.to_owned()))
    }

    pub fn list(&self, folder: &str, recursive: bool) -> Result<Listing, Failure> {
        self.0.list(folder, recursive, None)
    }

    pub fn list_after(
        &self,
        folder: &str,
        recursive: bool,
        after: &str,
    ) -> Result<Listing, Failure> {
        self.0.list(folder, recursive, Some(after))
    }

    pub fn prepare(&self, folders: &[String]) -> Result<(), Failure> {
        self.0.prepare(folders)
    }
}
