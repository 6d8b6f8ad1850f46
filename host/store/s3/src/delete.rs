//! Removing a blob, and knowing which call did it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keepgate_store::commit_observer::admit_removal;
use keepgate_store::{CommittedChange, DeleteOptions, Key, Result, StoreError};

use crate::Inner;
use crate::commit::removed;
use crate::options::OnDelete;
use crate::remote::{Failure, Guard, Object};
use crate::turns::Turn;

/// How often a removal is tried.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Which blobs a call removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Any. One that has expired goes too, but to the caller it was not there.
    Any,
    Expired,
}

/// Removes a blob. Returns its size if this call removed it.
pub(crate) async fn delete(
    store: &Arc<Inner>,
    key: &Key,
    options: DeleteOptions,
) -> Result<Option<u64>> {
    remove(store, key, options, Which::Any).await
}

/// Removes a blob if it has expired.
pub(crate) async fn expired(
    store: &Arc<Inner>,
    key: &Key,
    options: DeleteOptions,
) -> Result<Option<u64>> {
    remove(store, key, options, Which::Expired).await
}

async fn remove(
    store: &Arc<Inner>,
    key: &Key,
    options: DeleteOptions,
    which: Which,
) -> Result<Option<u64>> {
    let object = store.object(key)?;
    let turn = store.turn(&object).await?;
    let deleted = delete_in_turn(store, key, (&object, &turn), options, which).await;
    turn.release().await;
    deleted
}

async fn delete_in_turn(
    store: &Arc<Inner>,
    key: &Key,
    (object, turn): (&str, &Turn),
    options: DeleteOptions,
    which: Which,
) -> Result<Option<u64>> {
    let (observer, begun) = (options.observer.as_ref(), Instant::now());
    for attempt in 0..ATTEMPTS {
        let there = store.look(object).await?;
        let live = there.as_ref().filter(|there| !store.has_expired(there));
        let is_live = live.is_some();
        if which == Which::Expired && (is_live || there.is_none()) {
            return Ok(None);
        }
        if let Some(etag) = &options.matches
            && live.map(Object::store_etag).as_ref() != Some(etag)
        {
            return Err(StoreError::PreconditionFailed);
        }
        let for_good = store.removes_versions();
        let Some(there) = there else {
            if for_good {
                store.remove_older(object, None).await?;
            }
            return Ok(None);
        };
        store.check_lock(key, &there)?;
        admit_removal(observer, is_live.then(|| there.modified()))?;
        if for_good {
            // Before the newest, so that none of them comes to light.
            store.remove_older(object, there.version.as_deref()).await?;
        }
        let guard = match store.capabilities.delete_if_match {
            true => Guard::Is(there.etag.clone()),
            false => Guard::None,
        };
        turn.check(store.remote.longest(0))?;
        let mut wanted = false;
        if let Some(observer) = observer {
            observer.place(store.known_epoch())?;
            wanted = observer.before_commit()?;
        }
        let mut deleted = match there.version.as_deref().filter(|_| for_good) {
            Some(version) => store.remote.remove_version(object, version).await,
            None => store.remote.delete(object, &guard).await,
        };
        if let Err(failure) = &deleted
            && failure.is_ambiguous()
            && let Ok(None) = store.remote.head(object).await
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
                store.repeats.note(object, &there.etag);
                return Ok(Some(there.size).filter(|_| is_live || which == Which::Expired));
            }
            // Another gateway changed it.
            Err(Failure::Condition | Failure::Conflict | Failure::Missing) => {}
            // A removal on condition is made once by the SDK.
            Err(failure)
                if failure.is_ambiguous()
                    && guard != Guard::None
                    && attempt < 3
                    && begun.elapsed() < store.remote.options.budget / 2 => {}
            Err(failure) => return Err(store.told(failure)),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(StoreError::Unavailable("other writes of this blob are in progress".to_owned()))
}

impl Inner {
    /// Whether a removal takes all versions of a blob.
    fn removes_versions(&self) -> bool {
        self.capabilities.versions && self.remote.options.delete == OnDelete::AllVersions
    }

    /// Removes all versions of a blob but this one, which is the newest; without one, nothing is to be seen of the blob.
    async fn remove_older(&self, object: &str, newest: Option<&str>) -> Result<()> {
        let all = self.remote.versions(object).await.map_err(|failure| self.told(failure))?;
        let (marks, versions): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|version| version.is_removal);
        // Whatever came after our look is another gateway's, and none of this removal.
        let older = match newest {
            Some(newest) => {
                let at = versions.iter().position(|version| version.id == newest);
                at.map_or(versions.len(), |at| at + 1)
            }
            None if versions.iter().any(|version| version.is_latest) => return Ok(()),
            None => 0,
        };
        // The oldest first and marks last, so that none comes to light in between.
        let marks = marks.iter().filter(|mark| newest.is_none() || !mark.is_latest);
        for version in versions.iter().skip(older).rev().chain(marks) {
            let removed = self.remote.remove_version(object, &version.id).await;
            removed.map_err(|failure| self.told(failure))?;
        }
        Ok(())
    }
}
