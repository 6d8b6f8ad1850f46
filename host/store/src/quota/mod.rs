//! Limits on what a store holds, in bytes of blobs and in entries: in total, below folders, and for users. The
//! quota wraps a store outside of every plugin, and knows nothing about callers but a name.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `rules` | what is limited, and which scopes a blob counts for |
//! | `totals`, `ledger` | the sums, reservations and calls in progress, all under one lock |
//! | `admission` | whether more fits |
//! | `scan`, `recount` | counting while the store is in use |
//! | `reservation`, `view` | one call; the store as one principal sees it |
//! | `state_file` | the file that survives a restart |
//!
//! # Admission
//!
//! A body of known length is reserved before a byte of it is read, and then streamed unchanged. For
//! a body of unknown length, each chunk is reserved. Joined blobs reserve the sum that the store
//! found ([`CommitObserver::admit`](crate::CommitObserver::admit)). A call keeps its reservation
//! until the store drops its observer, which is when nothing can come of the call any more, even if
//! its caller went away long before.
//!
//! `used` changes together with the blob: the store calls the observer while it holds its lock on
//! the key. So `used + reserved` is at least what is there at every moment, and it is never allowed
//! beyond a limit. The exception is what other programs store, until the next count. A removed blob
//! stays reserved until its call is over, because a power cut might bring it back until then. To a disk,
//! a call that removed a blob is not over while somebody reads that blob, because its file takes up space.
//!
//! # Entries
//!
//! A blob is an entry, and so is on a disk each folder, and each marker of a blob that expires: they take up inodes,
//! of which a disk has a limited number, and time of everybody who lists them. Blobs are counted as exactly as their
//! bytes. Folders and markers are counted when the store reports them; a count that runs meanwhile may count one twice.
//! Entries that were added before an unclean shutdown are unknown until the count after it.
//!
//! # Why a count is exact although the store is in use
//!
//! A walk lists all blobs in ascending order. What it sees of a key, it sees at some moment between
//! its start and the moment when it *passes* the key: when a batch that reaches to the key or beyond
//! is added under the lock. This also holds for a key that is missing. Each change by this process
//! lies between `before_commit` and `after_commit`, two steps under the same lock, and the store
//! lets only one change of a key happen at a time. So every change of a key is one of these:
//!
//! 1. Its `after_commit` comes before the walk starts: the walk sees the result.
//! 2. Its `before_commit` comes after the walk has passed the key: the walk saw what was there
//!    before, and `after_commit` corrects the count by the difference.
//! 3. Its `after_commit` comes between the start and the passing: the walk may have seen either
//!    state. But `after_commit` says what is there now, so this is recorded as an override for the
//!    key, and what the walk sees of the key is not counted.
//! 4. It is open, between `before_commit` and `after_commit`, at the moment of passing: the key gets
//!    an override too, and the count is not complete until `after_commit` says what is there, or
//!    that nothing changed, in which case what the walk saw is right, or what an earlier change
//!    recorded.
//!
//! A key keeps its override; each later change replaces the override's content. In the end the
//! overrides are added, and the sum is what is there, in one step under the lock. An upload that is
//! in progress but not at its commit delays nothing: it becomes a case 2 or 3 later. Only programs
//! that change the folder beside this process can make a count inexact.
//!
//! # A store that is replaced
//!
//! If another folder or disk is at the store's place ([`BlobStore::epoch`]), the sums say nothing about
//! it. A call waits for a while until the new epoch was counted, so a small store is usable at once. Each
//! commit names the epoch it is made in, and is refused as unavailable if that one was not counted.
//!
//! # What survives a restart
//!
//! The state file holds the sums and `ahead`: the number of bytes by which any sum may be too low.
//! Every reservation is taken from `ahead`. Before it is used up the file is written again, mostly
//! in the background when half is left, so hardly any upload waits for it. While it is being
//! written, both the old and the new file allow for what is reserved. A call that does not fit into
//! `ahead` waits until a state that includes its own reservation is in the file; many calls may wait
//! for the same one. An orderly shutdown records that the sums are exact. After any other end, all
//! sums are taken to be too low by `ahead`, and a count starts at once. The file may be deleted
//! while the gateway is not running: `open` then counts.

mod admission;
mod ledger;
mod recount;
mod reservation;
mod rules;
mod scan;
mod state_file;
#[cfg(test)]
mod tests;
mod totals;
mod view;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::ledger::{Due, Ledger};
use self::rules::Compiled;
use self::state_file::{Saved, StateFile};
use self::view::QuotaView;
use crate::BlobStore;
use crate::error::{Result, StoreError};

pub use self::ledger::Drift;
pub use self::rules::{FolderRule, Rules, Scope, UserRule};
pub use self::totals::Amount;

/// The metadata name under which a blob's owner is stored. Like all names that begin with
/// [`RESERVED_METADATA`](crate::RESERVED_METADATA), it is hidden from plugins, which can neither
/// read nor set it.
pub const OWNER: &str = "keepgate-owner";

/// How to open a [`Quota`].
#[derive(Debug)]
pub struct QuotaOptions {
    /// The state file, one for each store; `<name>.new` beside it is used too.
    pub state_file: PathBuf,
    /// A lock that keeps other processes from the state file, if there may be any. It is
    /// closed when nothing can write the state any more.
    pub lock: Option<OwnedFd>,
    /// How often to count again, in case other programs change the store.
    pub recount_every: Option<Duration>,
}

/// How much a scope uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What is counted.
    pub scope: Scope,
    /// Bytes of blobs; an upper bound after an unclean shutdown ([`Quota::is_exact`]).
    pub used: u64,
    /// Bytes that calls in progress may add, or that they have removed but not durably.
    pub reserved: u64,
    /// The limit in bytes; `None` if the scope is only counted.
    pub limit: Option<u64>,
    /// Blobs, folders and markers, with those that calls in progress may add.
    pub entries: u64,
    /// The limit of these; `None` if the scope is only counted.
    pub max_entries: Option<u64>,
}

/// Limits around a store. Every change of the store should go through the quota's views.
pub struct Quota {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What calls hold on to, even after the quota itself is dropped.
struct Shared {
    store: Arc<dyn BlobStore>,
    ledger: Mutex<Ledger>,
    /// Locked before the ledger.
    file: Mutex<StateFile>,
    /// Whether the state file is about to be written.
    writing: AtomicBool,
    /// A call's change, or the call itself, is over.
    changed: Notify,
    /// A count was requested.
    wanted: Arc<Notify>,
    /// Held during a count.
    counting: tokio::sync::Mutex<()>,
    /// Held while the rules are changed; locked before `counting`.
    changing: tokio::sync::Mutex<()>,
    /// The [epoch](BlobStore::epoch) whose blobs the sums are of, or [`UNCOUNTED`].
    epoch: AtomicU64,
    /// Tells those who wait that the epoch has changed.
    counted: Notify,
}

/// How long a call waits for the count of a store that was replaced.
const PATIENCE: Duration = Duration::from_secs(10);

/// No epoch: nothing was counted yet.
const UNCOUNTED: u64 = u64::MAX;

impl Quota {
    /// Puts limits around a store. If the state file is missing, or was written under rules that
    /// count something else, this counts the whole store before it returns; after an unclean
    /// shutdown it counts in the background.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if a rule is invalid, [`StoreError::Unsupported`] if there are rules
    /// for users and the store cannot keep metadata, and any error of reading or writing the state
    /// file or of counting.
    pub async fn open(
        store: Arc<dyn BlobStore>,
        rules: Rules,
        options: QuotaOptions,
    ) -> Result<Arc<Self>> {
        let rules = Arc::new(Compiled::new(rules)?);
        check_owners(&*store, &rules).await?;
        let (path, lock) = (options.state_file, options.lock);
        let (file, saved) = blocking(move || {
            let saved = Saved::read(&path)?;
            Ok((StateFile::new(path, lock)?, saved))
        })
        .await?;
        let saved = saved.and_then(|saved| Some((saved.totals(&rules)?, saved)));
        let shared = Arc::new(Shared {
            store,
            ledger: Mutex::new(Ledger::new(Arc::clone(&rules))),
            file: Mutex::new(file),
            writing: AtomicBool::new(false),
            changed: Notify::new(),
            wanted: Arc::default(),
            counting: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            epoch: UNCOUNTED.into(),
            counted: Notify::new(),
        });
        match saved {
            None => match recount::count(&shared, None).await {
                // Its disk is not there yet. Until it is counted, nothing can be stored.
                Err(StoreError::Unavailable(_)) => shared.want_recount(),
                counted => drop(counted?),
            },
            Some((totals, saved)) => {
                {
                    let mut ledger = shared.ledger();
                    ledger.used = totals;
                    ledger.max_undercount = saved.ahead;
                }
                // From now on the file says that the shutdown was not orderly.
                let writing = Arc::clone(&shared);
                blocking(move || writing.write_state(None)).await?;
                match shared.store.epoch().await {
                    Ok(epoch) => shared.epoch.store(epoch, Ordering::Relaxed),
                    Err(_) => shared.want_recount(),
                }
                if !saved.clean || !saved.has_entries() {
                    shared.want_recount();
                }
            }
        }
        let task = recount::keep_counting(Arc::downgrade(&shared), options.recount_every);
        let task = tokio::spawn(task).abort_handle();
        Ok(Arc::new(Self { shared, task }))
    }

    /// The store as a principal sees it. What is stored without a user counts for no user.
    pub fn store(self: &Arc<Self>, user: Option<&str>) -> Arc<dyn BlobStore> {
        Arc::new(QuotaView { quota: Arc::clone(self), user: user.map(Into::into) })
    }

    /// What is used by the store, by all folders and users that have blobs, and by those that a
    /// rule names, sorted.
    pub fn usage(&self) -> Vec<Usage> {
        self.shared.ledger().usage()
    }

    /// False after an unclean shutdown until everything was counted; until then [`Usage::used`] is
    /// an upper bound.
    pub fn is_exact(&self) -> bool {
        self.shared.ledger().max_undercount == 0
    }

    /// Replaces the rules. The sums are kept; if the new rules count something else than the old
    /// ones, everything is counted first, and the old rules stay in force meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open); the old rules stay in force then.
    pub async fn change(&self, rules: Rules) -> Result<()> {
        let rules = Arc::new(Compiled::new(rules)?);
        check_owners(&*self.shared.store, &rules).await?;
        let _only = self.shared.changing.lock().await;
        if !self.shared.ledger().change_rules(&rules) {
            let _only = self.shared.counting.lock().await;
            recount::count(&self.shared, Some(rules)).await?;
        }
        Ok(())
    }

    /// Counts everything while the store is in use, and returns which sums were wrong before.
    ///
    /// # Errors
    ///
    /// Any error of listing the store; the sums stay what they were.
    pub async fn recount(&self) -> Result<Vec<Drift>> {
        recount::recount(&self.shared).await
    }

    /// Records the sums as exact, so that nothing needs counting when the quota is opened next.
    /// Call it when no view is used any more: with calls in progress, or before the count after an
    /// unclean shutdown is complete, the sums are not exact, and this returns false.
    ///
    /// # Errors
    ///
    /// Any error of writing the state file.
    pub async fn close(&self) -> Result<bool> {
        self.task.abort();
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut file = shared.file();
            let saved = shared.ledger().save_at_end();
            file.write(&saved)?;
            Ok(saved.clean)
        })
        .await
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, StateFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the sums are those of the blobs that are in the store now. If that takes too long, the
    /// call is refused.
    async fn until_counted(&self) -> Result<()> {
        let epoch = self.store.epoch().await?;
        if self.epoch.load(Ordering::Relaxed) != epoch {
            self.want_recount();
            let counted = async {
                loop {
                    let counted = self.counted.notified();
                    if self.epoch.load(Ordering::Relaxed) == epoch {
                        break;
                    }
                    counted.await;
                }
            };
            // The check below says whether it was counted.
            let _ = tokio::time::timeout(PATIENCE, counted).await;
        }
        self.must_be_counted(epoch)
    }

    /// Checks that the sums are those of this epoch's blobs, and has them counted if not.
    fn must_be_counted(&self, epoch: u64) -> Result<()> {
        if self.epoch.load(Ordering::Relaxed) == epoch {
            return Ok(());
        }
        self.want_recount();
        Err(StoreError::Unavailable(
            "the store was replaced, and its quota is being counted; try it again".to_owned(),
        ))
    }

    fn want_recount(&self) {
        self.wanted.notify_one();
    }

    fn call_changed(&self) {
        self.changed.notify_one();
    }

    /// Reserves bytes for a call. Returns the number of a state, if a later one must be in the file
    /// before the call goes on.
    fn reserve(self: &Arc<Self>, id: u64, bytes: u64) -> Result<Option<u64>> {
        let due = self.ledger().reserve(id, bytes).map_err(StoreError::QuotaExceeded)?;
        Ok(match due {
            Due::Nothing => None,
            Due::WriteSoon => {
                self.write_soon();
                None
            }
            Due::WriteAfter(state) => Some(state),
        })
    }

    /// Writes the state file in the background, so that no call has to wait for it.
    fn write_soon(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.writing.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(self);
        runtime.spawn_blocking(move || {
            if let Err(error) = shared.write_state(None) {
                tracing::error!(%error, "cannot write the quota state; uploads may be refused");
            }
            shared.writing.store(false, Ordering::Relaxed);
        });
    }

    /// Writes the state file if [it is due](Ledger::take_state). Blocks.
    fn write_state(&self, after: Option<u64>) -> Result<()> {
        let mut file = self.file();
        let Some(saved) = self.ledger().take_state(after) else {
            return Ok(());
        };
        let outcome = file.write(&saved);
        self.ledger().state_written(outcome.is_ok());
        outcome
    }
}

/// Checks that the store supports what rules for users need.
async fn check_owners(store: &dyn BlobStore, rules: &Compiled) -> Result<()> {
    if !rules.counts_users() {
        return Ok(());
    }
    store.check_metadata().await.map_err(|error| match error {
        StoreError::Unsupported(why) => StoreError::Unsupported(format!(
            "quotas for users need metadata to remember who stored a blob: {why}; use quotas for \
             folders, or another file system"
        )),
        error => error,
    })
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::Io {
            action: "cannot run a blocking step",
            path: PathBuf::new(),
            source: std::io::Error::other(error),
        })
    })
}
