//! Names below a folder of the inner store, there and back. Without a folder, names are borrowed
//! as they are and nothing is allocated.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{BlobStore, Entry, FolderVisitor, Info, Listing, Piece};

/// A key in the inner store.
pub(super) fn key<'a>(scope: Option<&Folder>, key: &'a Key) -> Result<Cow<'a, Key>> {
    match scope {
        None => Ok(Cow::Borrowed(key)),
        Some(scope) => Ok(Cow::Owned(scope.key(key.as_str())?)),
    }
}

/// A folder in the inner store.
fn folder<'a>(scope: Option<&'a Folder>, folder: &'a Folder) -> Result<Cow<'a, Folder>> {
    match scope {
        None => Ok(Cow::Borrowed(folder)),
        Some(scope) if folder.as_str().is_empty() => Ok(Cow::Borrowed(scope)),
        Some(scope) => Ok(Cow::Owned(Folder::new(scope.join(folder.as_str()))?)),
    }
}

/// Folders in the inner store.
pub(super) fn folders<'a>(
    scope: Option<&Folder>,
    folders: &'a [Folder],
) -> Result<Cow<'a, [Folder]>> {
    let Some(scope) = scope else {
        return Ok(Cow::Borrowed(folders));
    };
    let inner = folders.iter().map(|one| folder(Some(scope), one).map(Cow::into_owned));
    inner.collect::<Result<Vec<_>>>().map(Cow::Owned)
}

/// Pieces of blobs in the inner store.
pub(super) fn pieces<'a>(scope: Option<&Folder>, pieces: &'a [Piece]) -> Result<Cow<'a, [Piece]>> {
    let Some(scope) = scope else {
        return Ok(Cow::Borrowed(pieces));
    };
    let inner = |piece: &Piece| Ok(Piece { key: scope.key(piece.key.as_str())?, part: piece.part });
    pieces.iter().map(inner).collect::<Result<Vec<_>>>().map(Cow::Owned)
}

/// What the inner store said of `inner`, under the caller's key.
pub(super) fn info(key: &Key, inner: &Key, mut info: Info) -> Info {
    // Without a scope the inner key is the caller's own.
    if !std::ptr::eq(key, inner) {
        info.key = key.clone();
    }
    info
}

/// Lists a folder of the inner store, by the caller's names.
pub(super) async fn list(
    scope: Option<&Folder>,
    store: &dyn BlobStore,
    top: &Folder,
    recursive: bool,
    after: Option<&str>,
) -> Result<Box<dyn Listing>> {
    let Some(scope) = scope else {
        return store.list_after(top, recursive, after).await;
    };
    let after = after.map(|after| scope.join(after));
    let inner = folder(Some(scope), top)?;
    let inner = match store.list_after(&inner, recursive, after.as_deref()).await {
        // The top of a store always exists, even before anything was stored below it.
        Err(StoreError::NotFound) if top.as_str().is_empty() => None,
        listed => Some(listed?),
    };
    Ok(Box::new(ScopedListing { inner, prefix: scope.join("") }))
}

/// Calls `found` with each folder of the inner store below one, by the caller's names.
pub(super) async fn each_folder(
    scope: Option<&Folder>,
    store: &dyn BlobStore,
    below: &Folder,
    found: FolderVisitor,
) -> Result<()> {
    let Some(scope) = scope else {
        return store.each_folder(below, found).await;
    };
    let inner = folder(Some(scope), below)?;
    let prefix = scope.join("");
    let found = move |name: &str| found(name.strip_prefix(&prefix).unwrap_or(name));
    store.each_folder(&inner, Arc::new(found)).await
}

/// A listing whose keys have the folder's own name removed.
struct ScopedListing {
    /// `None` if the folder does not exist.
    inner: Option<Box<dyn Listing>>,
    /// Ends with a slash; empty for the store's top.
    prefix: String,
}

#[async_trait]
impl Listing for ScopedListing {
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
