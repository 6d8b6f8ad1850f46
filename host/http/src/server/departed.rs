//! Requests whose client has closed its connection.
//!
//! A request whose head and body have arrived is worked on, whether or not its client waits: a client may
//! send a request and close its side, or leave at once, and what it asked for still happens. Go's server
//! does the same. HTTP/1 cannot tell the two apart before it writes, so hyper is told not to look
//! (`half_close`). The end of an HTTP/2 connection is the end of its streams, and hyper drops their
//! futures; [`OutlivesConnection`] saves those. Cancelling one request is what RST_STREAM is for.
//!
//! What a body lacks when its connection ends is a truncated body, which no store commits. So a request
//! of a client that has left ends by its body, by its response that cannot be written, or by the limits of
//! the call, and it counts as an open connection until then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::shutdown::{Phase, Shutdown, reached};

/// The work on one request of an HTTP/2 connection. If it is dropped because the connection has ended, it
/// continues as a task of its own, until a shutdown cuts connections.
pub(super) struct OutlivesConnection<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// `None` once it is complete.
    work: Option<Pin<Box<F>>>,
    connection: Arc<Connection>,
    tasks: TaskTracker,
    phase: Shutdown,
}

impl<F> OutlivesConnection<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    pub(super) fn new(
        work: F,
        connection: Arc<Connection>,
        tasks: TaskTracker,
        phase: Shutdown,
    ) -> Self {
        Self { work: Some(Box::pin(work)), connection, tasks, phase }
    }
}

impl<F> Future for OutlivesConnection<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let output = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(output)
    }
}

impl<F> Drop for OutlivesConnection<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        if !self.connection.has_hung_up() {
            return;
        }
        let mut phase = self.phase.subscribe();
        self.tasks.spawn(async move {
            tokio::select! {
                // Its response has no reader.
                _ = work => {}
                () = reached(&mut phase, Phase::Cut) => {}
            }
        });
    }
}
