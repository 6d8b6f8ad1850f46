//! Asking servers to end: first gently, then at once. One [`Shutdown`] is shared by every
//! listener of the process; who owns the signals calls [`Shutdown::begin`] and
//! [`Shutdown::cut`].

use std::sync::Arc;

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Serving,
    /// No new connections and requests; those under way finish.
    Draining,
    /// Connections are cut.
    Cut,
}

/// Ends servers. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
}

impl Shutdown {
    /// Nothing has been asked yet.
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)) }
    }

    /// Stops accepting, closes idle connections, lets requests under way finish.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Cuts what is still under way.
    pub fn cut(&self) {
        self.advance(Phase::Cut);
    }

    /// True from [`begin`](Self::begin) on.
    pub fn has_begun(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Waits for [`begin`](Self::begin); returns at once where it has been called.
    pub async fn begun(&self) {
        reached(&mut self.phase.subscribe(), Phase::Draining).await;
    }

    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = to > *phase;
            *phase = to.max(*phase);
            forward
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until at least `phase`. Who asks is gone: nobody will ever ask again, so this waits
/// forever.
pub(crate) async fn reached(receiver: &mut watch::Receiver<Phase>, phase: Phase) {
    if receiver.wait_for(|current| *current >= phase).await.is_err() {
        std::future::pending::<()>().await;
    }
}
