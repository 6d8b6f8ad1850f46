//! What the host allocates for a guest outside the guest's own memory: bodies made of its bytes, states
//! of compressors, open files. wasmtime's limits do not count it, so it is counted here, for each call
//! separately. What each of them counts is said by the capability that makes it.
//!
//! A [`Charge`] travels with what it pays for: into a pipe, into a store, into the reply. It is returned
//! when the last part of that is dropped.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use keepgate_store::{Body, BodyError};

use crate::shares::{MountShare, Taken};
use keepgate_core::Limit;

/// The most handles that a guest has at once: bodies, stores, meters and so on.
pub(crate) const MAX_HANDLES: usize = 20_000;
/// The most blobs and snapshots that a call has open at once: each holds a file or a connection.
pub(crate) const MAX_OPEN: usize = 256;
/// The most pipes that a body passes through, one inside the other.
const MAX_LAYERS: u32 = 16;

/// What one call has allocated.
#[derive(Debug)]
pub(crate) struct HostAllocation {
    /// In bytes.
    limit: u64,
    bytes: AtomicU64,
    open: AtomicUsize,
    over_bytes: AtomicBool,
    over_open: AtomicBool,
    over_layers: AtomicBool,
    /// What the mount has of what mounts share.
    share: Option<Arc<MountShare>>,
    /// What there was no more of for this mount, for operators.
    crowded: OnceLock<String>,
}

/// The guest exceeded a limit, which ends the call; [`HostAllocation::over`] and [`HostAllocation::crowded`] say which.
#[derive(Debug, thiserror::Error)]
#[error("the host has allocated as much for this call as it may")]
pub(crate) struct OverAllocated;

impl HostAllocation {
    pub(crate) fn new(limit: u64, share: Option<Arc<MountShare>>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            bytes: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            over_bytes: AtomicBool::new(false),
            over_open: AtomicBool::new(false),
            over_layers: AtomicBool::new(false),
            share,
            crowded: OnceLock::new(),
        })
    }

    /// Checks how many pipes a body passes through.
    pub(crate) fn layers(&self, layers: u32) -> Result<(), OverAllocated> {
        if layers > MAX_LAYERS {
            self.over_layers.store(true, Ordering::Relaxed);
            return Err(OverAllocated);
        }
        Ok(())
    }

    /// The limit that the guest exceeded, if it did.
    pub(crate) fn over(&self) -> Option<Limit> {
        let bytes = self.over_bytes.load(Ordering::Relaxed).then_some(Limit::Held(self.limit));
        let open = self.over_open.load(Ordering::Relaxed).then_some(Limit::Open(MAX_OPEN));
        let layers = self.over_layers.load(Ordering::Relaxed).then_some(Limit::Layers(MAX_LAYERS));
        bytes.or(open).or(layers)
    }

    /// Whether the call has exceeded a limit, or the mount its share.
    pub(crate) fn is_over(&self) -> bool {
        self.over().is_some() || self.crowded.get().is_some()
    }

    /// Charges host memory.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, OverAllocated> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut charge = Charge { allocation: self.clone(), bytes, open: 0, taken: None };
        if before.saturating_add(bytes) > self.limit {
            self.over_bytes.store(true, Ordering::Relaxed);
            return Err(OverAllocated);
        }
        charge.taken = self.take(|share| share.memory(bytes))?;
        Ok(charge)
    }

    /// Counts what is read for the guest piece by piece: the function that it returns charges so many bytes more, and says
    /// whether that was possible; what has been charged is returned with the [`Counted`].
    pub(crate) fn counting(self: &Arc<Self>) -> (Counted, impl FnMut(u64) -> bool + Send + use<>) {
        let counted = Counted(Arc::default());
        let (allocation, charges) = (self.clone(), counted.0.clone());
        let admits = move |bytes| {
            let charge = allocation.charge(bytes);
            let admitted = charge.is_ok();
            charges.lock().unwrap_or_else(PoisonError::into_inner).extend(charge);
            admitted
        };
        (counted, admits)
    }

    /// Takes memory of the mount's share for bytes that the guest has just had in its own memory, so that they are within
    /// its limits in any case.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Option<Taken>, OverAllocated> {
        self.take(|share| share.memory(bytes as u64))
    }

    /// Charges something that is open for as long as it exists.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Charge, OverAllocated> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let mut charge = Charge { allocation: self.clone(), bytes: 0, open: 1, taken: None };
        if before >= MAX_OPEN {
            self.over_open.store(true, Ordering::Relaxed);
            return Err(OverAllocated);
        }
        charge.taken = self.take(MountShare::file)?;
        Ok(charge)
    }

    /// Takes something of the mount's share.
    fn take(
        &self,
        what: impl FnOnce(&MountShare) -> Result<Taken, String>,
    ) -> Result<Option<Taken>, OverAllocated> {
        let taken = self.share.as_deref().map(what).transpose();
        taken.map_err(|why| {
            // The first reason is the one that ends the call.
            let _ = self.crowded.set(why);
            OverAllocated
        })
    }

    /// What there was no more of for this mount, if there was not.
    pub(crate) fn crowded(&self) -> Option<String> {
        self.crowded.get().cloned()
    }
}

/// What has been counted, until it is dropped.
#[must_use = "what is dropped is no longer counted"]
pub(crate) struct Counted(Arc<Mutex<Vec<Charge>>>);

/// Part of a call's allocation, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    allocation: Arc<HostAllocation>,
    bytes: u64,
    open: usize,
    /// Of the mount's share.
    taken: Option<Taken>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.allocation.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.allocation.open.fetch_sub(self.open, Ordering::Relaxed);
    }
}

/// Bytes that own something until the last of them is dropped.
pub(crate) fn bytes_with<K: Send + 'static>(
    bytes: impl AsRef<[u8]> + Send + 'static,
    keep: K,
) -> Bytes {
    struct Keeps<B, K>(B, K);
    impl<B: AsRef<[u8]>, K> AsRef<[u8]> for Keeps<B, K> {
        fn as_ref(&self) -> &[u8] {
            self.0.as_ref()
        }
    }
    Bytes::from_owner(Keeps(bytes, keep))
}

/// A body that owns a charge until it is dropped. A body that is all in memory has nothing open, so the
/// charge is returned at once.
pub(crate) fn body_with(mut body: Body, charge: Charge) -> Body {
    if let Some(bytes) = body.take_at_hand(usize::MAX) {
        return Body::from_bytes(bytes);
    }
    Body::from_stream(body.length(), Keeping { body, _charge: charge })
}

struct Keeping {
    body: Body,
    _charge: Charge,
}

impl Stream for Keeping {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.poll_next_unpin(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_charge_lasts_as_long_as_its_bytes() {
        let allocation = HostAllocation::new(100, None);
        let bytes = bytes_with(vec![1_u8; 60], allocation.charge(60).unwrap());
        let part = bytes.slice(10..20);
        drop(bytes);
        assert!(allocation.charge(60).is_err(), "a part keeps the whole");
        assert_eq!(allocation.over(), Some(Limit::Held(100)));
        drop(part);
        let body = Body::from_stream(None, stream::iter([Ok(Bytes::from_static(b"abc"))]));
        let body = body_with(body, allocation.charge(100).unwrap());
        assert!(allocation.charge(1).is_err());
        assert_eq!(body.collect(10).await.unwrap(), "abc");
        assert!(allocation.charge(100).is_ok());
    }

    #[test]
    fn open_blobs_are_counted() {
        let allocation = HostAllocation::new(0, None);
        let kept: Vec<_> = (0..MAX_OPEN).map(|_| allocation.open().unwrap()).collect();
        assert!(allocation.open().is_err());
        assert_eq!(allocation.over(), Some(Limit::Open(MAX_OPEN)));
        drop(kept);
        assert!(allocation.open().is_ok());
    }
}
