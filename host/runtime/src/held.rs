//! What the host holds for a guest outside the guest's own memory: bodies made of its bytes, states
//! of compressors, open files. No limit of wasmtime counts it, so it is counted here, for each call
//! by itself. Change here what weighs how much.
//!
//! A [`Charge`] travels with what it pays for: into a pipe, into a store, into the reply. It is given
//! back when the last of that is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use keepgate_store::{Body, BodyError};

use crate::call::Limit;

/// Most handles that a guest has at once: bodies, stores, meters and so on.
pub(crate) const MAX_HANDLES: usize = 20_000;
/// Most blobs and snapshots that a call has open at once: each holds a file or a connection.
const MAX_OPEN: usize = 256;
/// Most pipes that a body passes, one in the other.
const MAX_LAYERS: u32 = 16;
/// Bytes that a compressor of gzip's needs, about.
pub(crate) const COMPRESSOR: u64 = 512 << 10;
/// Bytes that a decompressor needs, with a chunk at hand.
pub(crate) const DECOMPRESSOR: u64 = 192 << 10;

/// The account of one call.
#[derive(Debug)]
pub(crate) struct Held {
    /// In bytes.
    limit: u64,
    bytes: AtomicU64,
    open: AtomicUsize,
    over_bytes: AtomicBool,
    over_open: AtomicBool,
    over_layers: AtomicBool,
}

/// The guest wanted more than it may have. What ends it; [`Held::over`] says which.
#[derive(Debug, thiserror::Error)]
#[error("the host holds as much for this call as the mount allows")]
pub(crate) struct OverHeld;

impl Held {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            bytes: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            over_bytes: AtomicBool::new(false),
            over_open: AtomicBool::new(false),
            over_layers: AtomicBool::new(false),
        })
    }

    /// Checks how many pipes a body passes.
    pub(crate) fn layers(&self, layers: u32) -> Result<(), OverHeld> {
        if layers > MAX_LAYERS {
            self.over_layers.store(true, Ordering::Relaxed);
            return Err(OverHeld);
        }
        Ok(())
    }

    /// The limit that a guest went over, if it did.
    pub(crate) fn over(&self) -> Option<Limit> {
        let bytes = self.over_bytes.load(Ordering::Relaxed).then_some(Limit::Held(self.limit));
        let open = self.over_open.load(Ordering::Relaxed).then_some(Limit::Open(MAX_OPEN));
        let layers = self.over_layers.load(Ordering::Relaxed).then_some(Limit::Layers(MAX_LAYERS));
        bytes.or(open).or(layers)
    }

    /// Charges memory of the host's.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, OverHeld> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge { held: self.clone(), bytes, open: 0 };
        if before.saturating_add(bytes) > self.limit {
            self.over_bytes.store(true, Ordering::Relaxed);
            return Err(OverHeld);
        }
        Ok(charge)
    }

    /// Charges something that is open while it lives.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Charge, OverHeld> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let charge = Charge { held: self.clone(), bytes: 0, open: 1 };
        if before >= MAX_OPEN {
            self.over_open.store(true, Ordering::Relaxed);
            return Err(OverHeld);
        }
        Ok(charge)
    }
}

/// What is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Arc<Held>,
    bytes: u64,
    open: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.held.open.fetch_sub(self.open, Ordering::Relaxed);
    }
}

/// Bytes that keep something until the last of them is dropped.
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

/// A body that keeps a charge until it is dropped. One whose bytes are at hand has nothing open, and
/// stays as it is.
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
    async fn a_charge_goes_where_its_bytes_go() {
        let held = Held::new(100);
        let bytes = bytes_with(vec![1_u8; 60], held.charge(60).unwrap());
        let part = bytes.slice(10..20);
        drop(bytes);
        assert!(held.charge(60).is_err(), "a part keeps the whole");
        assert_eq!(held.over(), Some(Limit::Held(100)));
        drop(part);
        let body = Body::from_stream(None, stream::iter([Ok(Bytes::from_static(b"abc"))]));
        let body = body_with(body, held.charge(100).unwrap());
        assert!(held.charge(1).is_err());
        assert_eq!(body.collect(10).await.unwrap(), "abc");
        assert!(held.charge(100).is_ok());
    }

    #[test]
    fn open_things_are_counted() {
        let held = Held::new(0);
        let kept: Vec<_> = (0..MAX_OPEN).map(|_| held.open().unwrap()).collect();
        assert!(held.open().is_err());
        assert_eq!(held.over(), Some(Limit::Open(MAX_OPEN)));
        drop(kept);
        assert!(held.open().is_ok());
    }
}
