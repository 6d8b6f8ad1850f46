//! [`StoreLayer`]: a policy around a store, such as append-only or a quota, states only what it
//! changes; everything else is forwarded here.
//!
//! # No policy is bypassed by accident
//!
//! A layer does not decide about methods but about [`Operation`]s: storing a blob, deleting one,
//! making folders. [`StoreLayer::authorize`] has no default, and the forwarding methods below call
//! it before every change. So a new method of [`BlobStore`] is added in three places, the trait,
//! its forwarding method here and the stores, and every policy already applies to it: `rename`, for
//! example, is an [`Operation::Store`] followed by an [`Operation::Delete`]. If a
//! new method does something that no operation describes, add a variant: layers match operations
//! without a wildcard, so each of them has to decide before it compiles again.
//!
//! Two rules for whoever adds a method here: authorize every operation that it performs before
//! calling the inner store, and pass every key and folder through `scoped` so that a
//! [`Subfolder`](crate::guard::Subfolder) cannot be left.
//!
//! Forwarding costs nothing beyond the one boxed future that every `BlobStore` method has.

pub(crate) mod scoped;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::body::Body;
use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{
    BlobStore, Condition, DeleteOptions, Download, Due, FolderObserver, FolderVisitor, Info,
    Listing, Part, Piece, PutOptions, RenameOptions, Stored,
};

/// A change that a layer has to decide about before the store makes it. A layer may change the
/// options, to restrict the call or to observe its commit.
#[derive(Debug)]
pub enum Operation<'a> {
    /// A blob is stored under a key. Whether it may replace one is up to `options.condition`.
    Store {
        /// The key, as the layer's caller names it.
        key: &'a Key,
        /// The key of the blob that moves here, as the caller names it. Its [`Delete`](Self::Delete)
        /// follows. What is kept with the blob stays, whatever the options say.
        from: Option<&'a Key>,
        /// The bytes, if they come from the caller and not from blobs in the store.
        body: Option<&'a mut Body>,
        /// How it is stored.
        options: &'a mut PutOptions,
    },
    /// The blob under a key is removed.
    Delete {
        /// The key, as the layer's caller names it.
        key: &'a Key,
        /// How it is removed.
        options: &'a mut DeleteOptions,
    },
    /// Folders are made.
    MakeFolders {
        /// The folders, as the layer's caller names them.
        folders: &'a [Folder],
        /// Who is told which of them were missing.
        observer: &'a mut Option<Arc<dyn FolderObserver>>,
    },
}

/// What the caller of a failed operation had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To store a blob only if none is there.
    Create,
    /// To store a blob and replace the one that may be there.
    Replace,
    /// To delete a blob.
    Delete,
}

/// A [`BlobStore`] around another one that changes some of what it does. Every layer is a store.
pub trait StoreLayer: Send + Sync + fmt::Debug + 'static {
    /// The store that this layer is around.
    fn inner(&self) -> &Arc<dyn BlobStore>;

    /// Decides whether an operation may happen, and may change its options. An error ends the call
    /// before the inner store hears of it. Match operations without a wildcard.
    fn authorize(&self, operation: Operation<'_>) -> impl Future<Output = Result<()>> + Send;

    /// The error that the caller gets if the inner store refused an authorized operation.
    fn explain(&self, _key: &Key, _intent: Intent, error: StoreError) -> StoreError {
        error
    }

    /// The folder of the inner store that all names are relative to; none by default.
    fn folder(&self) -> Option<&Folder> {
        None
    }
}

impl Intent {
    fn of(condition: &Condition) -> Self {
        match condition {
            Condition::Absent | Condition::AbsentOrIdentical => Self::Create,
            Condition::Always | Condition::Matches(_) => Self::Replace,
        }
    }
}

#[async_trait]
impl<L: StoreLayer> BlobStore for L {
    async fn head(&self, key: &Key) -> Result<Info> {
        let inner = scoped::key(self.folder(), key)?;
        let info = self.inner().head(&inner).await?;
        Ok(scoped::info(key, &inner, info))
    }

    async fn head_any(&self, key: &Key) -> Result<Info> {
        let inner = scoped::key(self.folder(), key)?;
        let info = self.inner().head_any(&inner).await?;
        Ok(scoped::info(key, &inner, info))
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        let inner = scoped::key(self.folder(), key)?;
        let mut download = self.inner().get(&inner, part).await?;
        download.info = scoped::info(key, &inner, download.info);
        Ok(download)
    }

    async fn put(&self, key: &Key, mut body: Body, mut options: PutOptions) -> Result<Stored> {
        let inner = scoped::key(self.folder(), key)?;
        let intent = Intent::of(&options.condition);
        let (bytes, settings) = (Some(&mut body), &mut options);
        self.authorize(Operation::Store { key, from: None, body: bytes, options: settings })
            .await?;
        let stored = self.inner().put(&inner, body, options).await;
        let Stored { info, change } = stored.map_err(|error| self.explain(key, intent, error))?;
        Ok(Stored { info: scoped::info(key, &inner, info), change })
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], mut options: PutOptions) -> Result<Stored> {
        let inner = scoped::key(self.folder(), key)?;
        let pieces = scoped::pieces(self.folder(), pieces)?;
        let intent = Intent::of(&options.condition);
        self.authorize(Operation::Store { key, from: None, body: None, options: &mut options })
            .await?;
        let stored = self.inner().concat(&inner, &pieces, options).await;
        let Stored { info, change } = stored.map_err(|error| self.explain(key, intent, error))?;
        Ok(Stored { info: scoped::info(key, &inner, info), change })
    }

    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored> {
        let inner = scoped::key(self.folder(), key)?;
        let inner_to = scoped::key(self.folder(), to)?;
        let RenameOptions { condition, comes, goes } = options;
        let intent = Intent::of(&condition);
        let mut store = PutOptions { condition, observer: comes, ..PutOptions::default() };
        let operation =
            Operation::Store { key: to, from: Some(key), body: None, options: &mut store };
        self.authorize(operation).await?;
        let mut delete = DeleteOptions { matches: None, observer: goes };
        self.authorize(Operation::Delete { key, options: &mut delete }).await?;
        let (condition, comes, goes) = (store.condition, store.observer, delete.observer);
        let options = RenameOptions { condition, comes, goes };
        let stored = self.inner().rename(&inner, &inner_to, options).await;
        let Stored { info, change } = stored.map_err(|error| self.explain(to, intent, error))?;
        Ok(Stored { info: scoped::info(to, &inner_to, info), change })
    }

    async fn delete_with(&self, key: &Key, mut options: DeleteOptions) -> Result<Option<u64>> {
        let inner = scoped::key(self.folder(), key)?;
        self.authorize(Operation::Delete { key, options: &mut options }).await?;
        let deleted = self.inner().delete_with(&inner, options).await;
        deleted.map_err(|error| self.explain(key, Intent::Delete, error))
    }

    async fn due(&self, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
        // Markers have names of the whole store.
        match self.folder() {
            None => self.inner().due(after, max).await,
            Some(_) => Ok(Vec::new()),
        }
    }

    async fn expire(&self, due: &Due, mut options: DeleteOptions) -> Result<Option<u64>> {
        let inner = scoped::key(self.folder(), &due.key)?.into_owned();
        self.authorize(Operation::Delete { key: &due.key, options: &mut options }).await?;
        let inner = Due { marker: due.marker.clone(), key: inner };
        let removed = self.inner().expire(&inner, options).await;
        removed.map_err(|error| self.explain(&due.key, Intent::Delete, error))
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        scoped::list(self.folder(), &**self.inner(), folder, recursive, after).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        self.prepare_with(folders, None).await
    }

    async fn prepare_with(
        &self,
        folders: &[Folder],
        mut observer: Option<Arc<dyn FolderObserver>>,
    ) -> Result<()> {
        let inner = scoped::folders(self.folder(), folders)?;
        self.authorize(Operation::MakeFolders { folders, observer: &mut observer }).await?;
        self.inner().prepare_with(&inner, observer).await
    }

    async fn each_folder(&self, below: &Folder, found: FolderVisitor) -> Result<()> {
        scoped::each_folder(self.folder(), &**self.inner(), below, found).await
    }

    async fn markers(&self) -> Result<u64> {
        // As for `due`.
        match self.folder() {
            None => self.inner().markers().await,
            Some(_) => Ok(0),
        }
    }

    async fn check_metadata(&self) -> Result<()> {
        self.inner().check_metadata().await
    }

    async fn epoch(&self) -> Result<u64> {
        self.inner().epoch().await
    }
}
