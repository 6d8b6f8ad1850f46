//! Uploads are stored without comparing their SHA-256.

use std::sync::Arc;

use async_trait::async_trait;

use crate::body::Body;
use crate::error::Result;
use crate::key::{Folder, Key};
use crate::{BlobStore, DeleteOptions, Download, Info, Listing, Part, Piece, PutOptions, Stored};

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

    async fn concat(&self, key: &Key, pieces: &[Piece], mut options: PutOptions) -> Result<Stored> {
        options.sha256 = None;
        self.store.concat(key, pieces, options).await
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        self.store.delete_with(key, options).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        self.store.list_after(folder, recursive, after).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        self.store.prepare(folders).await
    }

    async fn check_metadata(&self) -> Result<()> {
        self.store.check_metadata().await
    }
}
