//! Blobs may be added, but none deleted or replaced.

use std::sync::Arc;

use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::body::Body;
use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{
    BlobStore, Condition, DeleteOptions, Download, Info, Listing, Part, Piece, PutOptions, Stored,
};

/// A store in which blobs may be added, but none deleted or replaced, except under keys that
/// match a pattern.
#[derive(Debug)]
pub struct AppendOnly {
    store: Arc<dyn BlobStore>,
    except: GlobSet,
    /// What is allowed nevertheless, for messages.
    allowed: String,
}

impl AppendOnly {
    /// Protects a store, except for keys that match a pattern; see
    /// [`Policy::except`](super::Policy::except).
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] where a pattern is wrong.
    pub fn new(store: Arc<dyn BlobStore>, except: &[String]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        for pattern in except {
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|error| StoreError::Invalid(format!("pattern {pattern:?}: {error}")))?;
            set.add(glob);
        }
        let set = set.build().map_err(|error| StoreError::Invalid(format!("patterns: {error}")))?;
        let mut allowed = "adding blobs is allowed".to_owned();
        if !except.is_empty() {
            allowed.push_str(", and everything under keys like ");
            allowed.push_str(&except.join(" or "));
        }
        Ok(Self { store, except: set, allowed })
    }

    fn denied(&self, what: &str, key: &Key) -> StoreError {
        let allowed = &self.allowed;
        StoreError::Denied(format!("append-only: {key} may not be {what}; {allowed}"))
    }

    /// Conditions under which nothing can be replaced, and whether the caller wanted that.
    fn restrict(&self, key: &Key, mut options: PutOptions) -> Result<(PutOptions, bool)> {
        if self.except.is_match(key.as_str()) {
            return Ok((options, false));
        }
        match options.condition {
            Condition::Absent | Condition::AbsentOrIdentical => Ok((options, false)),
            // The store itself sees to it, so that nobody can come between look and write.
            Condition::Always => {
                options.condition = Condition::Absent;
                Ok((options, true))
            }
            Condition::Matches(_) => Err(self.denied("replaced", key)),
        }
    }

    fn explain(&self, key: &Key, replacing: bool, error: StoreError) -> StoreError {
        match error {
            StoreError::AlreadyExists if replacing => self.denied("replaced", key),
            error => error,
        }
    }
}

#[async_trait]
impl BlobStore for AppendOnly {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.store.head(key).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        self.store.get(key, part).await
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        let (options, replacing) = self.restrict(key, options)?;
        let stored = self.store.put(key, body, options).await;
        stored.map_err(|error| self.explain(key, replacing, error))
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        let (options, replacing) = self.restrict(key, options)?;
        let stored = self.store.concat(key, pieces, options).await;
        stored.map_err(|error| self.explain(key, replacing, error))
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        if self.except.is_match(key.as_str()) {
            self.store.delete_with(key, options).await
        } else {
            Err(self.denied("deleted", key))
        }
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
