//! Claims of keys, for servers that complete an object in parts whatever is there.
//!
//! On such a server a completion could replace what another gateway has just stored. So whoever creates a key first
//! stores a small object that says so, on the condition that there is none; all other requests of the commit happen
//! while it is there. One that a killed gateway left is removed when it is old.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use keepgate_store::{Result, StoreError};

use crate::remote::{Digests, Failure, Guard, Object};
use crate::{Inner, attributes};

/// The folder of claims, among the gateway's own objects.
pub(crate) const CLAIMS: &str = "claims";
/// No commit takes longer: its requests have less time.
pub(crate) const OLD: Duration = Duration::from_secs(15 * 60);
/// How long another commit of the same key is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// A claim that was taken. It is to be released.
pub(crate) struct Claim {
    object: String,
    /// In a bucket with versions.
    version: Option<String>,
}

/// What came of asking for a claim.
pub(crate) enum Claimed {
    /// This server needs none.
    NotNeeded,
    Held(Claim),
    /// Something else is under the key by now.
    Changed,
}

/// Whether this server needs a claim to replace what is there by an object in parts, or to create one that an object in
/// parts could replace.
pub(crate) fn is_needed(store: &Inner, there: Option<&Object>, in_parts: bool) -> bool {
    let minded =
        store.capabilities.complete_if_absent || store.remote.options.keeps_writers_apart();
    !minded && (there.is_none() || in_parts)
}

/// Takes the claim of an object, if one is needed.
pub(crate) async fn take(
    store: &Arc<Inner>,
    object: &str,
    there: Option<&Object>,
    needed: bool,
) -> Result<Claimed> {
    if !needed {
        return Ok(Claimed::NotNeeded);
    }
    let name = hex::encode(Digests::of(object.as_bytes()).sha256);
    let mut claim = Claim { object: store.own(&format!("{CLAIMS}/{name}")), version: None };
    claim.wait(store).await?;
    // Somebody may have changed the key between our look and the claim.
    let now = store.look(object).await;
    let same = now
        .as_ref()
        .is_ok_and(|now| now.as_ref().map(Object::store_etag) == there.map(Object::store_etag));
    if !same {
        claim.release(store).await;
        return now.map(|_| Claimed::Changed);
    }
    Ok(Claimed::Held(claim))
}

impl Claim {
    async fn wait(&mut self, store: &Arc<Inner>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let token = attributes::token()?;
        let mine = Digests::of(token.as_bytes()).md5.map(hex::encode);
        loop {
            let (remote, capabilities) = (&store.remote, &store.capabilities);
            let taken = remote.put_own(capabilities, &self.object, token.clone(), &Guard::Absent);
            match taken.await {
                Ok(version) => {
                    self.version = version;
                    return Ok(());
                }
                Err(Failure::Condition | Failure::Conflict) => {}
                Err(failure) => return Err(store.told(failure)),
            }
            let there = store.look(&self.object).await?;
            if there.is_none() && !capabilities.absent_after_removal {
                remove_marks(store, &self.object).await?;
            }
            if let Some(there) = there {
                // The answer to an attempt was lost.
                if Some(&there.etag) == mine.as_ref() {
                    self.version = there.version;
                    return Ok(());
                }
                let age = SystemTime::now().duration_since(there.modified()).unwrap_or_default();
                if age > OLD {
                    // Its bytes are random, so this is exactly the one that is old.
                    let _ = match &there.version {
                        Some(version) => remote.remove_version(&self.object, version).await,
                        None => remote.delete(&self.object, &Guard::Is(there.etag)).await,
                    };
                    continue;
                }
            }
            if Instant::now() > until {
                let reason = "another write of this blob is in progress";
                return Err(StoreError::Unavailable(reason.to_owned()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Claim {
    pub(crate) async fn release(self, store: &Arc<Inner>) {
        // If this fails, others wait until it is old.
        let _ = store.remote.remove_own(&self.object, self.version.as_deref()).await;
    }
}

/// Removes the marks of removals that keep a claim from being made. Claims leave none, so somebody else did.
async fn remove_marks(store: &Arc<Inner>, object: &str) -> Result<()> {
    let versions = store.remote.versions(object).await.map_err(|failure| store.told(failure))?;
    for version in versions.iter().filter(|version| version.is_removal) {
        let removed = store.remote.remove_version(object, &version.id).await;
        removed.map_err(|failure| store.told(failure))?;
    }
    Ok(())
}
