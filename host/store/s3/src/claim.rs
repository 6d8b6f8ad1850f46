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
}

/// What came of asking for a claim.
pub(crate) enum Claimed {
    /// This server needs none.
    NotNeeded,
    Held(Claim),
    /// Something else is under the key by now.
    Changed,
}

/// Takes the claim of an object, if this server needs one to replace what is there by an object in parts, or to
/// create one that an object in parts could replace.
pub(crate) async fn take(
    store: &Arc<Inner>,
    object: &str,
    there: Option<&Object>,
    in_parts: bool,
) -> Result<Claimed> {
    let minded = store.capabilities.complete_if_absent || store.remote.options.single_writer;
    if minded || (there.is_some() && !in_parts) {
        return Ok(Claimed::NotNeeded);
    }
    let name = hex::encode(Digests::of(object.as_bytes()).sha256);
    let claim = Claim { object: store.own(&format!("{CLAIMS}/{name}")) };
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
    async fn wait(&self, store: &Arc<Inner>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let token = attributes::token()?;
        let mine = hex::encode(Digests::of(token.as_bytes()).md5);
        loop {
            let (remote, capabilities) = (&store.remote, &store.capabilities);
            let taken = remote.put_own(capabilities, &self.object, token.clone(), &Guard::Absent);
            match taken.await {
                Ok(_) => return Ok(()),
                Err(Failure::Condition | Failure::Conflict) => {}
                Err(failure) => return Err(store.told(failure)),
            }
            if let Some(there) = store.look(&self.object).await? {
                // The answer to an attempt was lost.
                if there.etag == mine {
                    return Ok(());
                }
                let age = SystemTime::now().duration_since(there.modified()).unwrap_or_default();
                if age > OLD {
                    // Its bytes are random, so this is exactly the one that is old.
                    let _ = remote.delete(&self.object, &Guard::Is(there.etag)).await;
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
        let _ = store.remote.delete(&self.object, &Guard::None).await;
    }
}
