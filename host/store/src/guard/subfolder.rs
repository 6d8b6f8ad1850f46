//! A folder of a store as a store of its own: nothing outside can be named through it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::body::Body;
use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{
    BlobStore, DeleteOptions, Download, Entry, Info, Listing, Part, Piece, PutOptions, Stored,
};

/// A folder of a store as a store of its own.
///
/// Keys are as much shorter than 1024 bytes as the folder's name is long;
/// [`StoreError::Invalid`](crate::StoreError::Invalid) says so of longer ones.
#[derive(Debug)]
pub struct Subfolder {
    store: Arc<dyn BlobStore>,
    folder: Folder,
}

impl Subfolder {
    /// The store below `folder`, which need not exist yet.
    pub fn new(store: Arc<dyn BlobStore>, folder: Folder) -> Self {
        Self { store, folder }
    }

    fn inner(&self, key: &Key) -> Result<Key> {
        self.folder.key(key.as_str())
    }

    fn inner_folder(&self, folder: &Folder) -> Result<Folder> {
        if folder.as_str().is_empty() {
            Ok(self.folder.clone())
        } else {
            Folder::new(self.folder.join(folder.as_str()))
        }
    }
}

fn outer(key: &Key, mut info: Info) -> Info {
    info.key = key.clone();
    info
}

#[async_trait]
impl BlobStore for Subfolder {
    async fn head(&self, key: &Key) -> Result<Info> {
        Ok(outer(key, self.store.head(&self.inner(key)?).await?))
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        let mut download = self.store.get(&self.inner(key)?, part).await?;
        download.info = outer(key, download.info);
        Ok(download)
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        let Stored { info, change } = self.store.put(&self.inner(key)?, body, options).await?;
        Ok(Stored { info: outer(key, info), change })
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        let inner = |piece: &Piece| Ok(Piece { key: self.inner(&piece.key)?, part: piece.part });
        let pieces = pieces.iter().map(inner).collect::<Result<Vec<_>>>()?;
        let stored = self.store.concat(&self.inner(key)?, &pieces, options).await?;
        let Stored { info, change } = stored;
        Ok(Stored { info: outer(key, info), change })
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        self.store.delete_with(&self.inner(key)?, options).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        let after = after.map(|after| self.folder.join(after));
        let inner = self.inner_folder(folder)?;
        let listed = self.store.list_after(&inner, recursive, after.as_deref()).await;
        let inner = match listed {
            // The top of a store is always there, also before anything was stored below it.
            Err(StoreError::NotFound) if folder.as_str().is_empty() => None,
            listed => Some(listed?),
        };
        Ok(Box::new(Below { inner, prefix: self.folder.join("") }))
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        let inner = folders.iter().map(|folder| self.inner_folder(folder));
        self.store.prepare(&inner.collect::<Result<Vec<_>>>()?).await
    }

    async fn check_metadata(&self) -> Result<()> {
        self.store.check_metadata().await
    }
}

/// A listing without the folder's own name.
struct Below {
    /// None where the folder is not there.
    inner: Option<Box<dyn Listing>>,
    /// With a slash at its end; empty for the store's top.
    prefix: String,
}

#[async_trait]
impl Listing for Below {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        let Some(inner) = &mut self.inner else {
            return Ok(Vec::new());
        };
        let mut entries = inner.next(max).await?;
        for entry in &mut entries {
            if let Some(rest) = entry.key.strip_prefix(&self.prefix) {
                entry.key = rest.to_owned();
            }
        }
        Ok(entries)
    }
}
