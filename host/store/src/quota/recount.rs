//! The walk that counts, and the task that has it done: after an unclean end, at intervals, and
//! when a count turns out to be wrong.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::MissedTickBehavior;

use super::census::Seen;
use super::ledger::{Drift, owner_of};
use super::rules::Compiled;
use super::{Shared, blocking};
use crate::error::{Result, StoreError};
use crate::{Entry, Folder, Key, Listing};

/// Blobs passed in one step.
const BATCH: usize = 512;
/// Blobs whose owners are looked at together.
const LOOKS: usize = 16;
/// Until a count that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Takes back a count that is not brought to its end.
struct Attempt<'a>(&'a Shared);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.ledger().give_up_census();
    }
}

/// Counts everything, by rules that come into force with the count or, without any, by those in
/// force; then what was wrong before. The caller holds [`Shared::counting`].
pub(super) async fn count(
    shared: &Arc<Shared>,
    rules: Option<Arc<Compiled>>,
) -> Result<Vec<Drift>> {
    let rules = shared.ledger().begin_census(rules);
    let _attempt = Attempt(shared);
    match shared.store.list(&Folder::top(), true).await {
        Ok(mut listing) => walk(shared, &rules, &mut *listing).await?,
        // A folder as a store, which is yet to be made.
        Err(StoreError::NotFound) => {}
        Err(error) => return Err(error),
    }
    shared.ledger().pass(&[], None);
    let drift = loop {
        let changed = shared.changed.notified();
        if let Some(drift) = shared.ledger().end_census() {
            break drift;
        }
        changed.await;
    };
    let writing = Arc::clone(shared);
    blocking(move || writing.write_state(None)).await?;
    Ok(drift)
}

async fn walk(shared: &Shared, rules: &Compiled, listing: &mut dyn Listing) -> Result<()> {
    let mut last = String::new();
    loop {
        let entries = listing.next(BATCH).await?;
        let Some(end) = entries.last().map(|entry| entry.key.clone()) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut last, end);
        let first = entries.first().is_none_or(|first| first.key > before);
        if !first || !entries.is_sorted_by(|one, other| one.key < other.key) {
            return Err(StoreError::Unsupported(
                "this store does not list its blobs in order, so they cannot be counted".to_owned(),
            ));
        }
        let seen = if rules.counts_users() {
            let looks = entries.into_iter().map(|entry| look_at(shared, entry));
            let seen: Vec<_> = stream::iter(looks).buffered(LOOKS).try_collect().await?;
            seen.into_iter().flatten().collect()
        } else {
            let seen = |Entry { key, size, .. }: Entry| Seen { key, size, owner: None };
            entries.into_iter().map(seen).collect::<Vec<_>>()
        };
        shared.ledger().pass(&seen, Some(&last));
    }
}

/// A blob with its owner; none where it is gone by now.
async fn look_at(shared: &Shared, entry: Entry) -> Result<Option<Seen>> {
    match shared.store.head(&Key::new(entry.key.as_str())?).await {
        Ok(info) => {
            let owner = owner_of(&info.metadata).map(str::to_owned);
            Ok(Some(Seen { key: entry.key, size: info.size, owner }))
        }
        // Another kind of thing is there by now.
        Err(StoreError::NotFound | StoreError::Denied(_) | StoreError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Counts anew whenever somebody wants it, and every so often, for as long as there is a quota.
pub(super) async fn keep_counting(shared: Weak<Shared>, every: Option<Duration>) {
    let wanted = match shared.upgrade() {
        Some(shared) => Arc::clone(&shared.wanted),
        None => return,
    };
    let mut ticks = every.filter(|every| !every.is_zero()).map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is over at once.
        ticks.tick().await;
    }
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wanted.notified() => {}
            () = tick => {}
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if let Err(error) = recount(&shared).await {
            tracing::error!(%error, "counting the blobs for a quota; it is tried again later");
            drop(shared);
            tokio::time::sleep(RETRY).await;
            wanted.notify_one();
        }
    }
}

/// Counts everything by the rules in force.
pub(super) async fn recount(shared: &Arc<Shared>) -> Result<Vec<Drift>> {
    let _only = shared.counting.lock().await;
    let after_unclean_end = shared.ledger().surplus > 0;
    let drift = count(shared, None).await?;
    for Drift { scope, old, new } in &drift {
        if after_unclean_end {
            tracing::info!(%scope, old, new, "counted anew after an unclean end");
        } else {
            tracing::warn!(
                %scope, old, new,
                "a quota's count was wrong, as if another program had changed the store"
            );
        }
    }
    Ok(drift)
}
