//! Which bucket this is: a random number in an object of the gateway's own. A bucket that was removed and made again,
//! or emptied, has another one, and what was counted before no longer counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keepgate_store::{Result, StoreError};

use crate::Inner;
use crate::attributes;
use crate::probe::Capabilities;
use crate::remote::{Failure, Guard, Remote};

/// The bucket's number, and whether it should be read again.
#[derive(Debug)]
pub(crate) struct Identity {
    number: AtomicU64,
    doubtful: AtomicBool,
}

impl Identity {
    /// Reads the number, and makes one if there is none.
    pub(crate) async fn find(
        remote: &Remote,
        capabilities: &Capabilities,
        prefix: &str,
    ) -> Result<Self, Failure> {
        let number = AtomicU64::new(read(remote, capabilities, prefix).await?);
        Ok(Self { number, doubtful: AtomicBool::new(false) })
    }

    /// The server could not be used: it may come back with another bucket.
    pub(crate) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// The bucket's number.
    pub(crate) async fn epoch(&self) -> Result<u64> {
        if self.identity.doubtful.swap(false, Ordering::Relaxed) {
            let read = read(&self.remote, &self.capabilities, &self.prefix).await;
            let number = read.map_err(|failure| self.told(failure))?;
            if self.identity.number.swap(number, Ordering::Relaxed) != number {
                self.folders.forget();
            }
        }
        Ok(self.identity.number.load(Ordering::Relaxed))
    }

    /// The bucket's number as it was read last.
    pub(crate) fn known_epoch(&self) -> u64 {
        self.identity.number.load(Ordering::Relaxed)
    }
}

/// The number follows from the object's own bytes, its etag and its time, so that reading it takes a HEAD.
async fn read(remote: &Remote, capabilities: &Capabilities, prefix: &str) -> Result<u64, Failure> {
    let object = format!("{prefix}{}/store", keepgate_store::key::RESERVED);
    for _ in 0..3 {
        if let Some(found) = remote.head(&object).await? {
            let digest = crate::remote::Digests::of(found.store_etag().as_bytes()).sha256;
            return Ok(u64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default()));
        }
        if remote.options.read_only {
            return Ok(0);
        }
        let token = attributes::token().map_err(Failure::Store)?;
        let guard = if capabilities.put_if_absent && capabilities.absent_after_removal {
            Guard::Absent
        } else {
            Guard::None
        };
        match remote.put_own(capabilities, &object, token, &guard).await {
            Ok(_) | Err(Failure::Condition | Failure::Conflict) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Store(StoreError::Unavailable("the store changes all the time".to_owned())))
}
