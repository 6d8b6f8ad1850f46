//! A complete exchange, as it is queued and written.

use std::time::{Duration, SystemTime};

use super::body::Captured;
use super::redaction::{RedactedHead, redact_body};

/// A complete exchange, ready to be written.
#[derive(Debug)]
pub(super) struct RecordedExchange {
    pub(super) begun: SystemTime,
    pub(super) took: Duration,
    pub(super) mount: String,
    pub(super) plugin: String,
    pub(super) digest: Option<String>,
    pub(super) user: Option<String>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) request: RedactedHead,
    pub(super) request_body: Captured,
    /// `None` if the client went away before there was a response.
    pub(super) status: Option<u16>,
    pub(super) reply: RedactedHead,
    pub(super) reply_body: Captured,
}

impl RecordedExchange {
    /// Removes the secrets from the bodies. Heads never have any.
    pub(super) fn redact_bodies(&mut self) {
        for (body, head, side) in [
            (&mut self.request_body, &mut self.request, "request"),
            (&mut self.reply_body, &mut self.reply, "reply"),
        ] {
            let names = redact_body(body, &head.content_type());
            head.removed.extend(names.into_iter().map(|name| format!("{side} body {name}")));
        }
    }
}
