//! Nothing may be changed.

use std::sync::Arc;

use async_trait::async_trait;

use crate::body::Body;
use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{BlobStore, DeleteOptions, Download, Info, Listing, Part, Piece, PutOptions, Stored};

/// A store of which blobs can only be read.
#[derive(Debug)]
pub struct ReadOnly {
    store: Arc<dyn BlobStore>,
}

impl ReadOnly {
    /// Protects a store.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store }
    }
}

fn denied(what: impl std::fmt::Display) -> StoreError {
    StoreError::Denied(format!("read-only: {what}; reading and listing are allowed"))
}

#[async_trait]
impl BlobStore for ReadOnly {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.store.head(key).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        self.store.get(key, part).await
    }

    async fn put(&self, key: &Key, _: Body, _: PutOptions) -> Result<Stored> {
        Err(denied(format_args!("{key} may not be stored")))
    }

    async fn concat(&self, key: &Key, _: &[Piece], _: PutOptions) -> Result<Stored> {
        Err(denied(format_args!("{key} may not be stored")))
    }

    async fn delete_with(&self, key: &Key, _: DeleteOptions) -> Result<Option<u64>> {
        Err(denied(format_args!("{key} may not be deleted")))
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        self.store.list_after(folder, recursive, after).await
    }

    async fn prepare(&self, _: &[Folder]) -> Result<()> {
        Err(denied("no folders may be made"))
    }

    async fn check_metadata(&self) -> Result<()> {
        self.store.check_metadata().await
    }
}
