//! The walk that counts, and the task that runs it: after an unclean shutdown, at intervals, and
//! when a sum turns out to be wrong.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::MissedTickBehavior;

use super::ledger::{Drift, owner_of};
use super::rules::Compiled;
use super::scan::Seen;
use super::{Shared, UNCOUNTED, blocking};
use crate::error::{Result, StoreError};
use crate::{Entry, Folder, Key, Listing};

/// Blobs that are passed in one step.
const BATCH: usize = 512;
/// Blobs whose owners are read at once.
const LOOKS: usize = 16;
/// Pause before a failed count is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// The same if the store was not available, which its own log line says.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(2);

/// Abandons a count that does not reach its end.
struct Attempt<'a>(&'a Shared);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.ledger().abandon_scan();
    }
}

/// Counts everything and returns which sums were wrong before. Rules that are given come into force
/// with the count; without any, those in force are used. The caller holds [`Shared::counting`].
pub(super) async fn count(
    shared: &Arc<Shared>,
    rules: Option<Arc<Compiled>>,
) -> Result<Vec<Drift>> {
    let rules = shared.ledger().begin_scan(rules);
    let _attempt = Attempt(shared);
    let epoch = shared.store.epoch().await?;
    let found = Arc::clone(shared);
    let found = Arc::new(move |name: &str| found.ledger().found_folder(name));
    shared.store.each_folder(&Folder::top(), found).await?;
    let markers = shared.store.markers().await?;
    shared.ledger().found_markers(markers);
    match shared.store.list(&Folder::top(), true).await {
        Ok(mut listing) => walk(shared, &rules, &mut *listing).await?,
        // The store is a folder that does not exist yet.
        Err(StoreError::NotFound) => {}
        Err(error) => return Err(error),
    }
    shared.ledger().pass(&[], None);
    if shared.store.epoch().await? != epoch {
        return Err(StoreError::Unavailable("the store was replaced during the count".to_owned()));
    }
    let drift = loop {
        let changed = shared.changed.notified();
        if let Some(drift) = shared.ledger().end_scan() {
            break drift;
        }
        changed.await;
    };
    shared.epoch.store(epoch, Ordering::Relaxed);
    shared.counted.notify_waiters();
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

/// A blob with its owner; `None` if it is gone.
async fn look_at(shared: &Shared, entry: Entry) -> Result<Option<Seen>> {
    match shared.store.head_any(&Key::new(entry.key.as_str())?).await {
        Ok(info) => {
            let owner = owner_of(&info.metadata).map(str::to_owned);
            Ok(Some(Seen { key: entry.key, size: info.size, owner }))
        }
        // Something other than a blob is there by now.
        Err(StoreError::NotFound | StoreError::Denied(_) | StoreError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Counts when requested, and at intervals, for as long as the quota exists.
pub(super) async fn keep_counting(shared: Weak<Shared>, every: Option<Duration>) {
    let wanted = match shared.upgrade() {
        Some(shared) => Arc::clone(&shared.wanted),
        None => return,
    };
    let mut ticks = every.filter(|every| !every.is_zero()).map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick completes at once.
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
            if let StoreError::Unavailable(_) = error {
                drop(shared);
                tokio::time::sleep(RETRY_UNAVAILABLE).await;
                wanted.notify_one();
                continue;
            }
            tracing::error!(%error, "cannot count the blobs for a quota; retrying later");
            drop(shared);
            tokio::time::sleep(RETRY).await;
            wanted.notify_one();
        }
    }
}

/// Counts everything by the rules in force.
pub(super) async fn recount(shared: &Arc<Shared>) -> Result<Vec<Drift>> {
    let _only = shared.counting.lock().await;
    let known = shared.epoch.load(Ordering::Relaxed);
    let replaced = known != UNCOUNTED && shared.store.epoch().await? != known;
    let after_unclean_end = known == UNCOUNTED || shared.ledger().max_undercount > 0;
    let drift = count(shared, None).await?;
    for Drift { scope, old, new } in &drift {
        if replaced {
            tracing::info!(%scope, old, new, "counted a store that was replaced");
        } else if after_unclean_end {
            tracing::info!(%scope, old, new, "recounted after an unclean shutdown");
        } else {
            tracing::warn!(
                %scope, old, new,
                "count of a quota was wrong; did another program change the store?"
            );
        }
    }
    Ok(drift)
}
