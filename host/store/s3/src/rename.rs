//! Moving a blob to another key. S3 has no such request: the blob is copied as [`concat`] copies, under the condition
//! for the new key, and then removed, if it is still the one that was copied.
//!
//! A gateway that dies in between leaves both. `CopyObject` is not used: few servers mind conditions for it.

use std::sync::Arc;

use keepgate_store::commit_observer::admit_removal;
use keepgate_store::{
    Change, Condition, DeleteOptions, Info, Key, PutOptions, RenameOptions, Result, StoreError,
    Stored,
};

use crate::concat::{self, Range};
use crate::remote::Object;
use crate::{Inner, delete};

/// How often a blob is copied if others replace it meanwhile.
const ATTEMPTS: u32 = 10;

/// Moves a blob.
pub(crate) async fn rename(
    store: &Arc<Inner>,
    key: &Key,
    to: &Key,
    options: RenameOptions,
) -> Result<Stored> {
    let object = store.object(key)?;
    // Of two renames of one blob, the second finds nothing.
    let _turn = store.renames.turn(&object).await;
    for _ in 0..ATTEMPTS {
        let there = store.look_for_blob(&object).await?.ok_or(StoreError::NotFound)?;
        // Before anything is copied.
        store.check_lock(key, &there)?;
        admit_removal(options.goes.as_ref(), Some(there.modified()))?;
        let etag = there.store_etag();
        let stored = match Box::pin(copy(store, key, there, to, &options)).await {
            // Others have replaced or removed it while it was copied.
            Err(StoreError::PreconditionFailed)
                if !matches!(options.condition, Condition::Matches(_)) =>
            {
                continue;
            }
            copied => copied?,
        };
        let same = DeleteOptions { matches: Some(etag), observer: options.goes.clone() };
        match Box::pin(delete::delete(store, key, same)).await {
            Err(StoreError::PreconditionFailed) if stored.change == Change::Created => {
                // The same, since then.
                let (matches, observer) = (Some(stored.info.etag), options.comes.clone());
                let copy = DeleteOptions { matches, observer };
                Box::pin(delete::delete(store, to, copy)).await?;
            }
            Ok(_) | Err(StoreError::PreconditionFailed) => return Ok(stored),
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Unavailable("the blob changes all the time".to_owned()))
}

/// Copies a blob with all that is kept with it.
async fn copy(
    store: &Arc<Inner>,
    key: &Key,
    there: Object,
    to: &Key,
    options: &RenameOptions,
) -> Result<Stored> {
    let Info { size, content_type, metadata, tags, expires, .. } = store.info(key, &there).await?;
    if let Some(comes) = options.comes.clone() {
        let metadata = metadata.clone();
        let admitting = move || comes.admit_renamed(size, &metadata, false);
        crate::source::busy(admitting).await??;
    }
    let (condition, observer) = (options.condition.clone(), options.comes.clone());
    let options =
        PutOptions { condition, sha256: None, content_type, metadata, tags, expires, observer };
    let whole = Range { key: key.clone(), there, offset: 0, length: size };
    concat::join(store, to, vec![whole], options).await
}
