//! Blobs that expire.
//!
//! When a blob expires is kept with it, so from that moment on every store treats it as absent, whatever
//! else happens. It is removed later, and nobody lists the store for that: before a blob that expires
//! is committed, the store durably writes a small *marker* with its key, and markers are sorted by time.
//! [`remove_expired`] reads those that are due ([`BlobStore::due`]), and for each of them the store
//! looks at what is under the key, removes it only if that has expired, and then removes the marker
//! ([`BlobStore::expire`]).
//!
//! So a crash leaves at worst a marker of a blob that was never committed, or that is gone, or that was
//! replaced by one that expires later or never. Such a marker does no harm, and goes when it is due.
//!
//! Markers are put into [slots](Slot) of time. A slot is read a while after its end, because a marker is
//! written *before* its blob: by then the blob is there, if it ever comes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{BlobStore, DeleteOptions};

/// How long a slot is. Blobs are removed up to this, [`REST`] and a round of whoever calls
/// [`remove_expired`] after they have expired.
const SLOT: Duration = Duration::from_secs(15 * 60);
/// How long after its end a slot is read: longer than any commit takes.
const REST: Duration = Duration::from_secs(20 * 60);
/// Markers that are read at once.
const BATCH: usize = 256;

/// The folder of markers, among the gateway's own files.
pub const MARKERS: &str = "expiry";

/// Nanoseconds since 1970, as stores keep the time with a blob. Later times than 2554 become that.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The reverse of [`nanoseconds`].
pub fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// The markers of blobs that expire at about the same time, by its end in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u64);

impl Slot {
    /// The slot for a blob that expires at this time. It is never one that may be read by now, even if
    /// the time has passed.
    pub fn of(expires: SystemTime, now: SystemTime) -> Self {
        let since = expires.max(now).duration_since(UNIX_EPOCH).unwrap_or_default();
        let slot = SLOT.as_secs();
        Self((since.as_secs() / slot).saturating_add(1).saturating_mul(slot))
    }

    /// Whether it may be read.
    pub fn is_due(self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs() >= self.0.saturating_add(REST.as_secs())
    }

    /// Its name. Names sort as slots do.
    pub fn name(self) -> String {
        format!("{:012}", self.0)
    }

    /// The slot with this name.
    pub fn named(name: &str) -> Option<Self> {
        let digits = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| name.parse().ok().map(Self)).flatten()
    }
}

/// A marker that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its name. Markers are read in the order of their names.
    pub marker: String,
    /// The blob to look at.
    pub key: Key,
}

/// What [`remove_expired`] has done.
#[derive(Debug, Default)]
pub struct Removed {
    /// Blobs that were removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that could not be removed. They are tried again.
    pub failed: u64,
    /// Why, of one of them.
    pub error: Option<StoreError>,
}

/// Removes what has expired. Give it the store with its quota around it, so that the bytes are counted,
/// and without its policies: the expiry is a part of the blob as it was stored, so an append-only store
/// loses nothing by it that its clients could have kept.
///
/// # Errors
///
/// If markers cannot be read. What was removed by then stays removed.
pub async fn remove_expired(store: &dyn BlobStore) -> Result<Removed> {
    let (mut removed, mut last) = (Removed::default(), None);
    loop {
        let due = store.due(last.as_deref(), BATCH).await?;
        let Some(end) = due.last() else { return Ok(removed) };
        last = Some(end.marker.clone());
        for one in &due {
            match store.expire(one, DeleteOptions::default()).await {
                Ok(None) => {}
                Ok(Some(size)) => {
                    removed.blobs += 1;
                    removed.bytes += size;
                }
                Err(error) => {
                    removed.failed += 1;
                    removed.error = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_after_all_of_its_blobs_have_expired_and_were_committed() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (expires, now) in [(10_000, 0), (10_000, 10_000), (5, 10_000), (9_000, 9_000)] {
            let slot = Slot::of(at(expires), at(now));
            let begin = expires.max(now);
            assert!(!slot.is_due(at(begin)));
            // Whenever the marker is written, its blob has this long.
            assert!(!slot.is_due(at(begin + REST.as_secs())));
            assert!(slot.is_due(at(begin + REST.as_secs() + SLOT.as_secs())));
            assert_eq!(Slot::named(&slot.name()), Some(slot));
        }
        let last = Slot::of(time(u64::MAX), at(0));
        assert!(last.name().len() == 12 && !last.is_due(at(10_000)));
        assert!(Slot::of(at(1_000), at(0)).name() < Slot::of(at(100_000), at(0)).name());
        for name in ["", "12", "12345678901x", "+12345678901", "1234567890123"] {
            assert_eq!(Slot::named(name), None, "{name}");
        }
    }

    #[test]
    fn times_come_back() {
        let now = SystemTime::now();
        assert_eq!(time(nanoseconds(now)), now);
    }
}
