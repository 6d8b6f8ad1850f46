//! Inactivity timeouts of a listener, and the grace period of a shutdown. Each limits silence, not
//! the duration of a transfer: a slow client that keeps going is never cut off.

use std::time::Duration;

/// Inactivity timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request's head to the last.
    pub head: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Without a byte of a request body while something waits for it.
    pub upload_stall: Duration,
    /// Without the client accepting a byte of a response.
    pub download_stall: Duration,
    /// For in-flight requests when the server shuts down; `None` means no limit.
    pub grace: Option<Duration>,
}

impl Default for Timeouts {
    /// restic gives up on a request after five minutes without progress, and so do the stall timeouts.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            upload_stall: Duration::from_secs(300),
            download_stall: Duration::from_secs(300),
            grace: None,
        }
    }
}

impl Timeouts {
    /// The shortest of the timeouts that the owner of a connection watches.
    pub(crate) fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.download_stall)
    }
}
