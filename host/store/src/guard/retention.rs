//! A store in which no blob can be deleted or replaced before it has been there for a time.
//!
//! How old a blob is, the store itself says at the very step that would remove it
//! ([`CommitObserver::admit_removal`]), so nobody can exchange the blob between the question and the removal. What it is
//! measured by is a [`Clock`] that does not jump. A blob that expires by itself goes when it expires: whoever stored it had
//! said so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use globset::{Glob, GlobMatcher, GlobSet};

use super::patterns;
use crate::clock::Clock;
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::layer::{Operation, StoreLayer};
use crate::{BlobStore, CommitObserver, CommittedChange, Fields, ObserverHandle};

/// How long blobs stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Periods {
    /// All blobs.
    pub all: Option<Duration>,
    /// Blobs in folders that match a pattern. `*` does not match `/`. Of several times, the longest one applies.
    pub folders: Vec<(String, Duration)>,
}

impl Periods {
    /// Whether no blob is retained.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.folders.is_empty()
    }
}

/// A store in which no blob can be deleted, replaced or moved before it has been there for a time, except under keys that
/// match a pattern.
#[derive(Debug)]
pub struct Retention {
    store: Arc<dyn BlobStore>,
    all: Option<Duration>,
    folders: Vec<(GlobMatcher, Duration)>,
    except: GlobSet,
    clock: Clock,
}

impl Retention {
    /// Protects a store, except for keys that match a pattern; see [`Policy::except`](super::Policy::except).
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if a pattern is invalid, or if a period is so long that it has no end.
    pub fn new(
        store: Arc<dyn BlobStore>,
        periods: &Periods,
        except: &[String],
        clock: Clock,
    ) -> Result<Self> {
        let except = patterns::set(except)?;
        let folders = periods.folders.iter().map(|(pattern, period)| {
            let folder = patterns::glob(&format!("{}/**", pattern.trim_matches('/')))?;
            Ok((Glob::compile_matcher(&folder), *period))
        });
        let folders = folders.collect::<Result<Vec<_>>>()?;
        let all = periods.all.iter().chain(folders.iter().map(|(_, period)| period));
        if all.max().is_some_and(|period| clock.now().checked_add(*period).is_none()) {
            return Err(StoreError::Invalid("`retain` is too long a time".to_owned()));
        }
        Ok(Self { store, all: periods.all, folders, except, clock })
    }

    /// How long a blob under this key stays.
    fn period(&self, key: &Key) -> Option<Duration> {
        if self.except.is_match(key.as_str()) {
            return None;
        }
        let folders = self.folders.iter().filter(|(folder, _)| folder.is_match(key.as_str()));
        folders.map(|(_, period)| *period).chain(self.all).max()
    }

    /// Adds itself to the observers of a call.
    fn observe(&self, key: &Key, observer: &mut Option<ObserverHandle>) {
        let Some(period) = self.period(key) else { return };
        let (key, clock, next) = (key.clone(), self.clock.clone(), observer.take());
        let retained = Retained { key, period, clock, is_own: AtomicBool::new(false), next };
        *observer = Some(ObserverHandle::new(Arc::new(retained)));
    }
}

impl StoreLayer for Retention {
    fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    async fn authorize(&self, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Store { key, options, .. } => self.observe(key, &mut options.observer),
            Operation::Delete { key, options } => self.observe(key, &mut options.observer),
            Operation::MakeFolders { .. } => {}
        }
        Ok(())
    }
}

/// One call that may remove a blob.
#[derive(Debug)]
struct Retained {
    key: Key,
    period: Duration,
    clock: Clock,
    /// The blob is the one that this very call has stored, and may take back.
    is_own: AtomicBool,
    /// The observer that the caller passed in.
    next: Option<ObserverHandle>,
}

impl CommitObserver for Retained {
    fn admit(&self, size: u64) -> Result<()> {
        self.next.as_ref().map_or(Ok(()), |next| next.admit(size))
    }

    fn admit_renamed(&self, size: u64, metadata: &Fields, moves: bool) -> Result<()> {
        self.next.as_ref().map_or(Ok(()), |next| next.admit_renamed(size, metadata, moves))
    }

    fn made_folder(&self, above: usize) {
        if let Some(next) = &self.next {
            next.made_folder(above);
        }
    }

    fn markers(&self, came: u64, gone: u64) {
        if let Some(next) = &self.next {
            next.markers(came, gone);
        }
    }

    fn admit_removal(&self, stored: SystemTime) -> Result<()> {
        // One from so late a time that the sum has no value stays.
        let until = stored.checked_add(self.period);
        let is_old = until.is_some_and(|until| until <= self.clock.now());
        if !is_old && !self.is_own.load(Ordering::Relaxed) {
            let key = &self.key;
            return Err(StoreError::Denied(match until.and_then(utc) {
                Some(until) => {
                    format!("retained: {key} may not be deleted or replaced before {until}")
                }
                None => format!("retained: {key} may not be deleted or replaced"),
            }));
        }
        self.next.as_ref().map_or(Ok(()), |next| next.admit_removal(stored))
    }

    fn place(&self, epoch: u64) -> Result<()> {
        self.next.as_ref().map_or(Ok(()), |next| next.place(epoch))
    }

    fn before_commit(&self) -> Result<bool> {
        self.next.as_ref().map_or(Ok(false), |next| next.before_commit())
    }

    fn after_commit(&self, changed: Option<CommittedChange>) {
        if changed.as_ref().is_some_and(|changed| changed.size.is_some()) {
            self.is_own.store(true, Ordering::Relaxed);
        }
        if let Some(next) = &self.next {
            next.after_commit(changed);
        }
    }
}

/// A time as people read it, to the second after it: `2026-12-31 14:05:00 UTC`. None if it has no calendar date.
fn utc(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time.checked_add(Duration::from_secs(1))?).ok()?;
    Some(time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
