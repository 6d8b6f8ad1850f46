//! The store as one principal sees it: what they store is admitted first and counts for them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream;

use super::ticket::Ticket;
use super::{OWNER, Quota};
use crate::body::{Body, BodyError};
use crate::error::{Result, StoreError};
use crate::key::{Folder, Key};
use crate::{
    BlobStore, Condition, DeleteOptions, Download, Info, Listing, Observer, Part, Piece,
    PutOptions, Stored,
};

/// A store under a quota, for one principal.
pub(super) struct View {
    pub(super) quota: Arc<Quota>,
    pub(super) user: Option<Arc<str>>,
}

impl View {
    /// Registers an upload, and makes `options` those of a blob that counts for this user.
    fn begin(&self, key: &Key, options: &mut PutOptions) -> Ticket {
        let shared = &self.quota.shared;
        let owner = self.user.clone().filter(|_| shared.ledger().keeps_owners());
        if let Some(owner) = &owner {
            options.metadata.push((OWNER.to_owned(), owner.to_string()));
        }
        Ticket::new(shared, key, owner, options.witness.take())
    }

    /// Whether an upload may well turn out to be of what is there already.
    async fn is_there(&self, key: &Key, length: u64, options: &PutOptions) -> bool {
        options.condition == Condition::AbsentOrIdentical
            && self.store().head(key).await.is_ok_and(|info| info.size == length)
    }

    fn store(&self) -> &Arc<dyn BlobStore> {
        &self.quota.shared.store
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = f.debug_struct("QuotaView");
        view.field("store", self.store()).field("user", &self.user).finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for View {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.store().head(key).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        self.store().get(key, part).await
    }

    async fn put(&self, key: &Key, mut body: Body, mut options: PutOptions) -> Result<Stored> {
        let ticket = Arc::new(self.begin(key, &mut options));
        match body.length() {
            Some(length) => match ticket.reserve(length).await {
                // A client whose first answer was lost must be able to go on though all is full.
                Err(StoreError::QuotaExceeded(_)) if self.is_there(key, length, &options).await => {
                    ticket.reserve_late(length);
                }
                outcome => outcome?,
            },
            None => body = reserving(body, Arc::clone(&ticket)),
        }
        // The store's copy is the last one, so that everything is settled when it returns.
        options.witness = Some(Observer::new(ticket));
        done(self.store().put(key, body, options).await)
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], mut options: PutOptions) -> Result<Stored> {
        let ticket = self.begin(key, &mut options);
        options.witness = Some(Observer::new(Arc::new(ticket)));
        done(self.store().concat(key, pieces, options).await)
    }

    async fn delete_with(&self, key: &Key, mut options: DeleteOptions) -> Result<Option<u64>> {
        let ticket = Ticket::new(&self.quota.shared, key, None, options.witness.take());
        options.witness = Some(Observer::new(Arc::new(ticket)));
        self.store().delete_with(key, options).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        self.store().list_after(folder, recursive, after).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        self.store().prepare(folders).await
    }

    async fn check_metadata(&self) -> Result<()> {
        self.store().check_metadata().await
    }
}

fn done(outcome: Result<Stored>) -> Result<Stored> {
    match outcome {
        Err(StoreError::Body(BodyError::QuotaExceeded(text))) => {
            Err(StoreError::QuotaExceeded(text))
        }
        outcome => outcome,
    }
}

/// A body whose length nobody knows, each chunk of which is reserved before the store sees it.
fn reserving(body: Body, ticket: Arc<Ticket>) -> Body {
    let chunks = stream::unfold(Some((body, ticket)), |state| async move {
        let (mut body, ticket) = state?;
        let chunk = match body.chunk().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(error), None)),
        };
        match ticket.reserve(chunk.len() as u64).await {
            Ok(()) => Some((Ok(chunk), Some((body, ticket)))),
            Err(error) => Some((Err(refused(error)), None)),
        }
    });
    Body::from_stream(None, chunks)
}

fn refused(error: StoreError) -> BodyError {
    match error {
        StoreError::QuotaExceeded(text) => BodyError::QuotaExceeded(text),
        StoreError::Io { source, .. } => BodyError::Io(source),
        error => BodyError::Io(std::io::Error::other(error)),
    }
}
