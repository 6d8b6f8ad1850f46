//! The store as one principal sees it: everything they store is admitted by the quota first and is
//! counted for them.

use std::fmt;
use std::sync::Arc;

use futures_util::stream;

use super::reservation::{FolderReservation, Reservation};
use super::{OWNER, Quota};
use crate::body::{Body, BodyError};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::layer::{Intent, Operation, StoreLayer};
use crate::{BlobStore, Condition, ObserverHandle, PutOptions};

/// A store under a quota, for one principal.
pub(super) struct QuotaView {
    pub(super) quota: Arc<Quota>,
    pub(super) user: Option<Arc<str>>,
}

impl QuotaView {
    /// Registers the call, reserves what its body needs, and makes `options` those of a blob that
    /// counts for this user.
    async fn admit(
        &self,
        key: &Key,
        from: Option<&Key>,
        body: Option<&mut Body>,
        options: &mut PutOptions,
    ) -> Result<()> {
        let shared = &self.quota.shared;
        shared.until_counted().await?;
        // A blob that moves stays its owner's.
        let owner = self.user.clone().filter(|_| from.is_none() && shared.ledger().keeps_owners());
        if let Some(owner) = &owner {
            options.metadata.push((OWNER.to_owned(), owner.to_string()));
        }
        let next = options.observer.take();
        let call = Arc::new(Reservation::new(shared, key, from, owner, next));
        // Without a body only the store knows the size: it asks `CommitObserver::admit`.
        if let Some(body) = body {
            match body.length() {
                Some(length) => match call.reserve(length).await {
                    // A client that lost the first answer must be able to repeat its upload even if
                    // the quota is full by now.
                    Err(StoreError::QuotaExceeded(_))
                        if self.may_be_stored_already(key, length, options).await =>
                    {
                        call.reserve_at_commit(length);
                    }
                    outcome => outcome?,
                },
                None => {
                    // Its entry, even if no byte comes.
                    call.reserve(0).await?;
                    let unmeasured = std::mem::replace(body, Body::empty());
                    *body = reserving(unmeasured, Arc::clone(&call));
                }
            }
        }
        // The store holds the last reference, so the call is over when the store returns.
        options.observer = Some(ObserverHandle::new(call));
        Ok(())
    }

    /// Whether the blob to be stored may turn out to be the one that is there.
    async fn may_be_stored_already(&self, key: &Key, length: u64, options: &PutOptions) -> bool {
        options.condition == Condition::AbsentOrIdentical
            && self.inner().head(key).await.is_ok_and(|info| info.size == length)
    }
}

impl fmt::Debug for QuotaView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = f.debug_struct("QuotaView");
        view.field("store", self.inner()).field("user", &self.user).finish_non_exhaustive()
    }
}

impl StoreLayer for QuotaView {
    fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.quota.shared.store
    }

    async fn authorize(&self, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Store { key, from, body, options } => {
                self.admit(key, from, body, options).await
            }
            Operation::Delete { key, options } => {
                self.quota.shared.until_counted().await?;
                let next = options.observer.take();
                let call = Reservation::new(&self.quota.shared, key, None, None, next);
                options.observer = Some(ObserverHandle::new(Arc::new(call)));
                Ok(())
            }
            Operation::MakeFolders { folders, observer } => {
                let shared = &self.quota.shared;
                shared.until_counted().await?;
                let call = FolderReservation::new(shared, folders, observer.take())?;
                *observer = Some(Arc::new(call));
                Ok(())
            }
        }
    }

    fn explain(&self, _key: &Key, _intent: Intent, error: StoreError) -> StoreError {
        match error {
            StoreError::Body(BodyError::QuotaExceeded(text)) => StoreError::QuotaExceeded(text),
            error => error,
        }
    }
}

/// A body of unknown length. Each chunk is reserved before the store sees it.
fn reserving(body: Body, call: Arc<Reservation>) -> Body {
    let chunks = stream::unfold(Some((body, call)), |state| async move {
        let (mut body, call) = state?;
        let chunk = match body.chunk().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(error), None)),
        };
        match call.reserve(chunk.len() as u64).await {
            Ok(()) => Some((Ok(chunk), Some((body, call)))),
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
