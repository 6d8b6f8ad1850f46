//! Removing a blob, and knowing which call did it.

use std::sync::Arc;
use std::time::Duration;

use keepgate_store::{CommittedChange, DeleteOptions, Key, Result, StoreError};

use crate::Inner;
use crate::commit::removed;
use crate::remote::{Failure, Guard, Object};

/// How often a removal is tried.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Removes a blob. Returns its size if this call removed it.
pub(crate) async fn delete(
    store: &Arc<Inner>,
    key: &Key,
    options: DeleteOptions,
) -> Result<Option<u64>> {
    let object = store.object(key)?;
    let _turn = store.locks.turn(&object).await;
    let observer = options.observer.as_ref();
    for attempt in 0..ATTEMPTS {
        let there = store.look(&object).await?;
        if let Some(etag) = &options.matches
            && there.as_ref().map(Object::store_etag).as_ref() != Some(etag)
        {
            return Err(StoreError::PreconditionFailed);
        }
        let Some(there) = there else {
            return Ok(None);
        };
        let guard = match store.capabilities.delete_if_match {
            true => Guard::Is(there.etag.clone()),
            false => Guard::None,
        };
        let mut wanted = false;
        if let Some(observer) = observer {
            observer.place(store.known_epoch())?;
            wanted = observer.before_commit()?;
        }
        let mut deleted = store.remote.delete(&object, &guard).await;
        if let Err(failure) = &deleted
            && failure.is_ambiguous()
            && let Ok(None) = store.remote.head(&object).await
        {
            // The answer was lost. Nobody else in this process can have removed it.
            deleted = Ok(());
        }
        if let Some(observer) = observer {
            let removed = deleted.is_ok().then(|| removed(&there, wanted));
            let changed =
                removed.map(|removed| CommittedChange { removed: Some(removed), size: None });
            observer.after_commit(changed);
        }
        match deleted {
            Ok(()) => {
                store.repeats.note(&object, &there.etag);
                return Ok(Some(there.size));
            }
            // Another gateway changed it.
            Err(Failure::Condition | Failure::Conflict | Failure::Missing) => {}
            Err(failure) if failure.is_ambiguous() && attempt < 3 => {}
            Err(failure) => return Err(store.told(failure)),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(StoreError::Unavailable("other writes of this blob are in progress".to_owned()))
}
