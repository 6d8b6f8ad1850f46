//! Uploads are stored without comparing their SHA-256.

use std::sync::Arc;

use async_trait::async_trait;

use crate::body::Body;
use crate::error::Result;
use crate::key::{Folder, Key};
use crate::{BlobStore, Download, Info, Listing, Observer, Part, PutOptions, Stored};

/// A store that does not compare the SHA-256 of what it is given. Everything else stays.
#[derive(Debug)]
pub struct Unverified {
    store: Arc<dyn BlobStore>,
}

impl Unverified {
    /// Spares a store the hashing.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl BlobStore for Unverified {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.store.head(key).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        self.store.get(key, part).await
    }

    async fn put(&self, key: &Key, body: Body, mut options: PutOptions) -> Result<Stored> {
        options.sha256 = None;
        self.store.put(key, body, options).await
    }

    async fn concat(&self, key: &Key, parts: &[Key], mut options: PutOptions) -> Result<Stored> {
        options.sha256 = None;
        self.store.concat(key, parts, options).await
    }

    async fn delete_observed(&self, key: &Key, witness: Option<Observer>) -> Result<Option<u64>> {
        self.store.delete_observed(key, witness).await
    }

    async fn list(&self, folder: &Folder, recursive: bool) -> Result<Box<dyn Listing>> {
        self.store.list(folder, recursive).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        self.store.prepare(folders).await
    }

    async fn check_metadata(&self) -> Result<()> {
        self.store.check_metadata().await
    }
}
