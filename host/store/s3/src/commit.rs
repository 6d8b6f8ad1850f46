//! The step that makes a blob visible, with its condition and its observer.
//!
//! It runs in a task of its own, to its end, whoever is still interested. Each attempt looks at what is there, asks the
//! server to replace exactly that, and looks again: the answer of the server may be lost, and a refusal may mean that an
//! earlier attempt of this very upload succeeded. The token that is kept with the object tells.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keepgate_store::commit_observer::admit_removal;
use keepgate_store::{
    Change, CommittedChange, Condition, Info, Key, PutOptions, RemovedBlob, Result, StoreError,
    Stored,
};

use crate::claim::{self, Claimed};
use crate::parts::Parts;
use crate::probe::IfMatch;
use crate::remote::{Digests, Failure, Guard, Kept, Object};
use crate::source::Piece;
use crate::turns::Turn;
use crate::{Inner, attributes, expiry, put, repeats};

/// How often a change is tried if others change the key at the same time.
const ATTEMPTS: u32 = 60;
/// The pause before the second attempt; later ones are longer, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// An upload that is complete but for its commit.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) key: Key,
    pub(crate) object: String,
    pub(crate) payload: Payload,
    pub(crate) size: u64,
    /// Known unless the server copied the bytes.
    pub(crate) sha256: Option<[u8; 32]>,
    /// What is kept with the object to know it again.
    pub(crate) token: String,
    pub(crate) options: PutOptions,
}

/// What is to become visible.
#[derive(Debug)]
pub(crate) enum Payload {
    Whole { piece: Piece, digests: Digests, kept: Box<Kept> },
    Parts(Parts),
}

/// What a write left behind.
enum Outcome {
    /// Our object.
    Ours(Object),
    /// Our object was there, and was replaced or removed at once.
    Gone,
    /// Nothing of ours: something else is there than the condition wants.
    NotWritten,
}

/// Runs a change to its end, even if its caller goes away.
pub(crate) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(change).await;
    done.map_err(|error| StoreError::Unavailable(format!("the gateway is stopping: {error}")))?
}

/// Commits an upload.
pub(crate) async fn run(store: &Arc<Inner>, commit: Commit) -> Result<Stored> {
    let store = Arc::clone(store);
    to_its_end(async move { Box::pin(commit.run(&store)).await }).await
}

impl Commit {
    async fn run(self, store: &Arc<Inner>) -> Result<Stored> {
        // Folders are remembered of this bucket, not of one that was here before.
        store.epoch().await?;
        store.make_folder(self.key.folder().as_str()).await?;
        if let Some(expires) = self.options.expires {
            expiry::mark(store, &self.key, expires).await?;
        }
        let turn = store.turn(&self.object).await?;
        let stored = Box::pin(self.run_in_turn(store, &turn)).await;
        turn.release().await;
        stored
    }

    async fn run_in_turn(&self, store: &Arc<Inner>, turn: &Turn) -> Result<Stored> {
        let create =
            matches!(self.options.condition, Condition::Absent | Condition::AbsentOrIdentical);
        // The server itself says whether a new key is taken.
        let mut blind =
            create && store.capabilities.put_if_absent && store.capabilities.put_is_atomic;
        let (mut pause, mut refused) = (PAUSE, false);
        for _ in 0..ATTEMPTS {
            let there = if blind { None } else { store.look(&self.object).await? };
            blind = false;
            let live = there.as_ref().filter(|there| !store.has_expired(there));
            if let Some(there) = live {
                match &self.options.condition {
                    Condition::Absent => return Err(StoreError::AlreadyExists),
                    Condition::AbsentOrIdentical => return self.compare(store, there).await,
                    Condition::Matches(etag) if there.store_etag() != *etag => {
                        return Err(StoreError::PreconditionFailed);
                    }
                    Condition::Matches(_) | Condition::Always => {
                        store.check_lock(&self.key, there)?;
                        admit_removal(self.options.observer.as_ref(), Some(there.modified()))?;
                    }
                }
            } else if matches!(self.options.condition, Condition::Matches(_)) {
                return Err(StoreError::PreconditionFailed);
            } else if let Some(expired) = &there {
                store.check_lock(&self.key, expired)?;
            }
            let over_mark = there.is_none() && refused && store.is_removed(&self.object).await?;
            if let Some(stored) = self.publish(store, turn, there, over_mark).await? {
                return Ok(stored);
            }
            refused = true;
            // Somebody else was faster, or is about to be: a refusal does not mean that the other object is there.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        Err(StoreError::Unavailable("other writes of this blob are in progress".to_owned()))
    }

    /// Finishes an upload whose key is taken, and may be if the bytes are the same.
    async fn compare(&self, store: &Arc<Inner>, there: &Object) -> Result<Stored> {
        let Some(sha256) = self.sha256 else {
            return Err(StoreError::AlreadyExists);
        };
        let info = put::identical(store, &self.key, there, self.size, sha256).await?;
        Ok(Stored { info, change: Change::Unchanged })
    }

    /// Makes the blob visible instead of what is there; `None` if that has changed. `over_mark` says that nothing is
    /// there but the mark of a removal, which this server takes for a blob.
    async fn publish(
        &self,
        store: &Arc<Inner>,
        turn: &Turn,
        there: Option<Object>,
        over_mark: bool,
    ) -> Result<Option<Stored>> {
        // While the mark is there, all other writers are refused or need the claim too.
        let guard = if over_mark { Guard::None } else { store.guard(there.as_ref()) };
        let etag = match &self.payload {
            Payload::Whole { digests, .. } => digests.md5.map(repeats::etag_of),
            Payload::Parts(parts) => parts.etag(),
        };
        // Parts that have no such etag have a random one.
        if etag.is_some() || matches!(self.payload, Payload::Whole { .. }) {
            store.repeats.wait(&self.object, etag.as_deref(), there.as_ref()).await;
        }
        let in_parts = matches!(self.payload, Payload::Parts(_));
        let needed = over_mark || claim::is_needed(store, there.as_ref(), in_parts);
        let claim = match claim::take(store, &self.object, there.as_ref(), needed).await? {
            Claimed::NotNeeded => None,
            Claimed::Held(claim) => Some(claim),
            Claimed::Changed => return Ok(None),
        };
        let outcome = match turn.check(store.remote.longest(self.bytes())) {
            Ok(()) => self.write_observed(store, &guard, there.as_ref()).await,
            Err(error) => Err(error),
        };
        if let Some(claim) = claim {
            claim.release(store).await;
        }
        let outcome = outcome?;
        if let (Payload::Parts(parts), Outcome::Ours(_) | Outcome::Gone) = (&self.payload, &outcome)
        {
            parts.completed();
        }
        let info = match outcome {
            Outcome::NotWritten => return Ok(None),
            Outcome::Ours(object) => {
                store.repeats.note(&self.object, &object.etag);
                store.info(&self.key, &object).await?
            }
            Outcome::Gone => self.info_of_the_past(etag),
        };
        let replaced = there.filter(|there| !store.has_expired(there));
        let change =
            replaced.map_or(Change::Created, |there| Change::Replaced { size: there.size });
        Ok(Some(Stored { info, change }))
    }

    async fn write_observed(
        &self,
        store: &Arc<Inner>,
        guard: &Guard,
        there: Option<&Object>,
    ) -> Result<Outcome> {
        let Some(observer) = &self.options.observer else {
            return self.write(store, guard).await;
        };
        observer.place(store.known_epoch())?;
        let wanted = observer.before_commit()?;
        let outcome = self.write(store, guard).await;
        let changed = match &outcome {
            Ok(Outcome::Ours(_) | Outcome::Gone) => Some(CommittedChange {
                removed: there.map(|there| removed(there, wanted)),
                size: Some(self.size),
            }),
            Ok(Outcome::NotWritten) | Err(_) => None,
        };
        observer.after_commit(changed);
        outcome
    }

    /// Writes, and finds out what came of it.
    async fn write(&self, store: &Arc<Inner>, guard: &Guard) -> Result<Outcome> {
        let (remote, capabilities) = (&store.remote, &store.capabilities);
        let written = match &self.payload {
            Payload::Whole { piece, digests, kept } => {
                let bytes = (piece.bytes.clone(), *digests);
                Box::pin(remote.put(capabilities, &self.object, bytes, kept, guard))
                    .await
                    .map(|_| ())
            }
            Payload::Parts(parts) => Box::pin(parts.complete(guard)).await,
        };
        let failure = match written {
            Ok(()) => None,
            Err(failure @ (Failure::Condition | Failure::Conflict | Failure::Missing)) => {
                Some(failure)
            }
            Err(failure) if failure.is_ambiguous() => Some(failure),
            Err(failure) => return Err(store.told(failure)),
        };
        let there = match remote.head(&self.object).await {
            Ok(there) => there,
            // Written it may be; acknowledged it is not.
            Err(other) => return Err(store.told(failure.unwrap_or(other))),
        };
        match (failure, there) {
            (_, Some(there)) if attributes::token_of(&there.metadata) == Some(&self.token) => {
                if there.size != self.size {
                    let _ = remote.delete(&self.object, &Guard::None).await;
                    return Err(StoreError::Unavailable(format!(
                        "the store's server kept {} of {} bytes, so they were removed",
                        there.size, self.size
                    )));
                }
                Ok(Outcome::Ours(there))
            }
            (None, _) => Ok(Outcome::Gone),
            (Some(failure), _) if failure.is_ambiguous() => Err(store.told(failure)),
            (Some(_), _) => Ok(Outcome::NotWritten),
        }
    }

    /// Bytes that the request of the commit carries.
    fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Whole { piece, .. } => piece.bytes.len(),
            Payload::Parts(_) => 0,
        }
    }

    /// What was stored and is there no more.
    fn info_of_the_past(&self, etag: Option<String>) -> Info {
        let now = std::time::SystemTime::now();
        let seconds =
            now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(seconds).unwrap_or_default();
        Info {
            key: self.key.clone(),
            size: self.size,
            modified: crate::remote::time(seconds),
            etag: crate::remote::store_etag(&etag.unwrap_or_else(|| self.token.clone()), seconds),
            content_type: self.options.content_type.clone(),
            metadata: self.options.metadata.clone(),
            tags: self.options.tags.clone(),
            expires: self.options.expires,
        }
    }
}

impl Inner {
    /// Whether nothing is under a name but the mark of a removal that keeps the server from creating an object there.
    async fn is_removed(&self, object: &str) -> Result<bool> {
        if self.capabilities.absent_after_removal {
            return Ok(false);
        }
        let versions = self.remote.versions(object).await.map_err(|failure| self.told(failure))?;
        Ok(versions.iter().any(|version| version.is_latest && version.is_removal))
    }

    /// The server's condition for replacing exactly this, as far as it minds conditions.
    pub(crate) fn guard(&self, there: Option<&Object>) -> Guard {
        match there {
            Some(there) if self.capabilities.if_match != IfMatch::Ignored => {
                Guard::Is(there.etag.clone())
            }
            None if self.capabilities.put_if_absent => Guard::Absent,
            _ => Guard::None,
        }
    }
}

/// What an observer is told about an object that is no more.
pub(crate) fn removed(there: &Object, wanted: bool) -> RemovedBlob {
    let metadata = if wanted { attributes::fields(&there.metadata) } else { Vec::new() };
    RemovedBlob { size: there.size, metadata }
}
