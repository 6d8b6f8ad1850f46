//! Limits on how many bytes of blobs a store holds: in all, below folders, for users. The guard
//! sits around a store, outside of every plugin, and knows nothing of who calls it but a name.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `rules` | what is limited, and what a blob counts for |
//! | `tally`, `ledger` | the counts, reservations and calls under way; all under one lock |
//! | `census`, `recount` | counting while the store is in use |
//! | `ticket`, `view` | one call; the store as one principal sees it |
//! | `file` | the state file |
//!
//! # What is admitted
//!
//! A body of known length is reserved before a byte of it is read, and then streamed untouched. A
//! body of unknown length reserves each chunk. Joined blobs reserve the sum that the store found
//! ([`Witness::admit`](crate::Witness::admit)). A call reserves until the store drops its witness,
//! which is when nothing can come of it any more, also where its caller went away long before.
//!
//! `used` changes with the blob: the store tells the witness while it holds its lock on the key.
//! So `used + reserved` is at least what is there at every moment, and it is never let beyond a
//! limit; what other programs store is the exception, until the next count. A blob that goes stays
//! reserved until its call is over, since a power cut might bring it back before.
//!
//! # Why a count is exact though the store is in use
//!
//! A walk lists all blobs in ascending order. What it saw of a key it saw at some moment between
//! its beginning and the moment when it *passes* the key: when the batch that reaches to the key or
//! beyond is taken under the lock. For a missing key this holds too. Each change by this process
//! lies between `before` and `after`, two steps under the same lock, and the store lets one change
//! of a key happen at a time. So a change of a key is one of these:
//!
//! 1. Its `after` comes before the walk begins: the walk sees its outcome.
//! 2. Its `before` comes after the walk passed the key: the walk saw what was there before, and
//!    `after` corrects the count by the difference.
//! 3. Its `after` comes between the beginning and the passing: the walk may have seen either. But
//!    `after` tells what is there now, so the key is set aside with that, and what the walk sees of
//!    it does not count.
//! 4. It is open, between `before` and `after`, at the moment of passing: the key is set aside as
//!    well, and the count is not complete until `after` has told what is there; or that nothing
//!    changed, in which case what the walk saw is right, or what an earlier change had told.
//!
//! A key that was set aside stays so: each later change replaces what is known of it. In the end
//! what is known of keys set aside is added, and the sum is what is there, in one step under the
//! lock. An upload that is under way but not at its commit delays nothing: it is a case 2 or 3
//! later. Only programs that change the folder beside this process make a count inexact.
//!
//! # What survives
//!
//! The state file holds a count and `ahead`, by how many bytes every sum of it may be too low. All
//! that is reserved is taken from `ahead`; before it is used up the file is written anew, mostly in
//! the background when half is left, so that hardly any upload waits for it. While it is written,
//! both the old and the new file allow what is reserved. A call that does not fit into `ahead`
//! waits until a state with its own reservation is in the file, as one of many that may wait. At an orderly end the file says that it is
//! exact. After any other end, all sums are taken as too low by `ahead`, and a count begins at once.
//! The file may be deleted while the gateway does not run: then `open` counts.

mod census;
mod file;
mod ledger;
mod recount;
mod rules;
mod tally;
#[cfg(test)]
mod tests;
mod ticket;
mod view;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::file::{Saved, StateFile};
use self::ledger::{Due, Ledger};
use self::rules::Compiled;
use self::view::View;
use crate::BlobStore;
use crate::error::{Result, StoreError};

pub use self::ledger::Drift;
pub use self::rules::{FolderRule, Rules, Scope, UserRule};

/// The metadata name under which a blob's owner is kept. Like all names that begin with
/// [`RESERVED_METADATA`](crate::RESERVED_METADATA), it is not for plugins: whoever stands between
/// them and a store hides it, and takes it from nobody.
pub const OWNER: &str = "keepgate-owner";

/// How to open a [`Quota`].
#[derive(Debug)]
pub struct QuotaOptions {
    /// Where the counts are kept; `<name>.new` beside it is used too. One for each store.
    pub state_file: PathBuf,
    /// A locked file that keeps others from the state file, where there may be others. It is closed
    /// when nothing can write the state any more.
    pub lock: Option<File>,
    /// How often to count anew, since other programs may change the store.
    pub recount_every: Option<Duration>,
}

/// What a scope holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What is counted.
    pub scope: Scope,
    /// Bytes of blobs; at most so many after an unclean end ([`Quota::is_exact`]).
    pub used: u64,
    /// Bytes that calls under way may add, or remove but have not removed durably.
    pub reserved: u64,
    /// In bytes; none where it is only counted.
    pub limit: Option<u64>,
}

/// Limits around a store. All that changes the store should go through its views.
pub struct Quota {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What calls hold on to, also when the quota itself is gone.
struct Shared {
    store: Arc<dyn BlobStore>,
    ledger: Mutex<Ledger>,
    /// Locked before the ledger.
    file: Mutex<StateFile>,
    /// The state file is about to be written.
    writing: AtomicBool,
    /// A call's change is over, or the call is.
    changed: Notify,
    /// Somebody wants a count.
    wanted: Arc<Notify>,
    /// Held by whoever counts.
    counting: tokio::sync::Mutex<()>,
    /// Held by whoever changes the rules; locked before `counting`.
    changing: tokio::sync::Mutex<()>,
}

impl Quota {
    /// Puts limits around a store. Counts all of it before it returns where the state file is
    /// missing or was written under rules that count something else; after an unclean end it counts
    /// in the background.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] where a rule is wrong, [`StoreError::Unsupported`] where there are
    /// rules for users and the store cannot keep metadata, and what reading or writing the state
    /// file and counting may fail with.
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
        let saved = saved.and_then(|saved| Some((saved.tally(&rules)?, saved)));
        let shared = Arc::new(Shared {
            store,
            ledger: Mutex::new(Ledger::new(Arc::clone(&rules))),
            file: Mutex::new(file),
            writing: AtomicBool::new(false),
            changed: Notify::new(),
            wanted: Arc::default(),
            counting: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        match saved {
            None => {
                recount::count(&shared, None).await?;
            }
            Some((tally, saved)) => {
                {
                    let mut ledger = shared.ledger();
                    ledger.used = tally;
                    ledger.surplus = saved.ahead;
                }
                // From now on the file says that the end was not orderly.
                let writing = Arc::clone(&shared);
                blocking(move || writing.write_state(None)).await?;
                if !saved.clean {
                    shared.want_recount();
                }
            }
        }
        let task = recount::keep_counting(Arc::downgrade(&shared), options.recount_every);
        let task = tokio::spawn(task).abort_handle();
        Ok(Arc::new(Self { shared, task }))
    }

    /// The store as a principal sees it; what is stored without a user counts for none.
    pub fn store(self: &Arc<Self>, user: Option<&str>) -> Arc<dyn BlobStore> {
        Arc::new(View { quota: Arc::clone(self), user: user.map(Into::into) })
    }

    /// What is used: of the store, of all folders and users that have something, and of those that
    /// a rule names. In order.
    pub fn usage(&self) -> Vec<Usage> {
        self.shared.ledger().usage()
    }

    /// False after an unclean end until everything was counted; until then, [`Usage::used`] is too
    /// high.
    pub fn is_exact(&self) -> bool {
        self.shared.ledger().surplus == 0
    }

    /// Puts other rules in force. Counts are kept; where the new rules count something else than
    /// the old ones, everything is counted first, while the old rules stay in force.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the old rules stay in force then.
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

    /// Counts everything, while the store is in use, and returns what was wrong before.
    ///
    /// # Errors
    ///
    /// What listing the store may fail with; the counts stay what they were.
    pub async fn recount(&self) -> Result<Vec<Drift>> {
        recount::recount(&self.shared).await
    }

    /// Writes the counts as exact, so that nothing needs counting when the quota is opened next.
    /// To be called when no view is used any more: with calls under way, or before a count after an
    /// unclean end is complete, they are not exact, and false is returned.
    ///
    /// # Errors
    ///
    /// What writing the state file may fail with.
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

    fn want_recount(&self) {
        self.wanted.notify_one();
    }

    fn call_changed(&self) {
        self.changed.notify_one();
    }

    /// Reserves bytes for a call; the state after which another must be in the file first, if so.
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

    /// Writes the state file in the background, so that nobody needs to wait for it.
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
                tracing::error!(%error, "uploads will be refused until it can be written");
            }
            shared.writing.store(false, Ordering::Relaxed);
        });
    }

    /// Writes the state file, unless [it needs not be](Ledger::take_state). Blocks.
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

/// Whether the store can do what rules for users need.
async fn check_owners(store: &dyn BlobStore, rules: &Compiled) -> Result<()> {
    if !rules.counts_users() {
        return Ok(());
    }
    store.check_metadata().await.map_err(|error| match error {
        StoreError::Unsupported(why) => StoreError::Unsupported(format!(
            "quotas for users need metadata, to remember who stored a blob: {why}; use quotas for \
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
            action: "waiting for a thread",
            path: PathBuf::new(),
            source: std::io::Error::other(error),
        })
    })
}
