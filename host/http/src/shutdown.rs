//! Shutdown of servers: first graceful, then immediate. One [`Shutdown`] is shared by all listeners of
//! the process; the owner of the signals calls [`Shutdown::begin`] and [`Shutdown::cut`].

use std::sync::Arc;

use tokio::sync::watch;

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Serving,
    /// No new connections and requests; in-flight requests finish.
    Draining,
    /// Connections are cut.
    Cut,
}

/// Ends servers. Clones share their state.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)) }
    }

    /// Stops accepting connections, closes idle ones and lets in-flight requests finish.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Cuts the remaining connections.
    pub fn cut(&self) {
        self.advance(Phase::Cut);
    }

    /// True from [`begin`](Self::begin) on.
    pub fn has_begun(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Waits for [`begin`](Self::begin); returns at once if it has been called.
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

/// Waits for `phase` or a later one. Waits forever if every [`Shutdown`] is gone: nothing can begin one
/// any more.
pub(crate) async fn reached(receiver: &mut watch::Receiver<Phase>, phase: Phase) {
    if receiver.wait_for(|current| *current >= phase).await.is_err() {
        std::future::pending::<()>().await;
    }
}
