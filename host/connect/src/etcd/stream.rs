//! The bytes of a snapshot, fetched as they are read. One message is held back until the next one or
//! the end has arrived, so that no reader sees the end of an invalid snapshot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{MaintenanceClient, SnapshotResponse, SnapshotStreaming};
use futures_util::stream::try_unfold;
use keepgate_store::{Body, BodyError};
use tokio::time::{Instant, timeout_at};

use super::credentials::Credentials;
use super::explain::{self, Peer, Stage};
use super::url::Url;
use super::verify::Verifier;
use crate::Checked;

/// Where a snapshot comes from.
pub(super) struct Origin {
    /// The connection, closed when this is dropped.
    pub(super) _client: MaintenanceClient,
    pub(super) url: Url,
    pub(super) credentials: Arc<Credentials>,
    /// How long the next bytes may take.
    pub(super) stall: Duration,
}

struct Source {
    messages: SnapshotStreaming,
    origin: Origin,
    verifier: Verifier,
    /// Verified, but not passed on yet.
    held: Bytes,
    checked: Checked,
}

/// The body of a snapshot of `size` bytes whose `first` message has arrived, and its future checksum.
pub(super) fn body(
    messages: SnapshotStreaming,
    first: SnapshotResponse,
    size: u64,
    origin: Origin,
) -> Result<(Body, Checked), String> {
    let mut verifier = Verifier::new(size);
    let held = bytes(first);
    verifier.push(&held).map_err(|wrong| wrong.to_string())?;
    let checked = Checked::default();
    let source = Source { messages, origin, verifier, held, checked: checked.clone() };
    let chunks = try_unfold(Some(source), |source| async {
        match source {
            Some(source) => source.next().await.map(Some),
            None => Ok(None),
        }
    });
    Ok((Body::from_stream(Some(size), chunks), checked))
}

impl Source {
    /// Returns the bytes that were held back, and the rest.
    async fn next(mut self) -> Result<(Bytes, Option<Self>), BodyError> {
        match self.receive().await {
            Ok(Some(bytes)) => {
                let ready = std::mem::replace(&mut self.held, bytes);
                Ok((ready, Some(self)))
            }
            Ok(None) => self.finish(),
            Err(cause) => Err(self.origin.broken(&cause)),
        }
    }

    /// The next bytes, verified; none at the end.
    async fn receive(&mut self) -> Result<Option<Bytes>, String> {
        let stall = self.origin.stall;
        // Messages without bytes are not a sign of life: a member that cannot read its database sends
        // them without end.
        let deadline = Instant::now() + stall;
        loop {
            let message = match timeout_at(deadline, self.messages.message()).await {
                Ok(Ok(message)) => message,
                Ok(Err(error)) => {
                    let Origin { url, credentials, .. } = &self.origin;
                    let peer = Peer { url, credentials, stage: Stage::Answered };
                    return Err(format!("{} {}", self.so_far(), explain::error(&error, &peer)));
                }
                Err(_) => {
                    return Err(format!("{} it sent nothing for {stall:?}", self.so_far()));
                }
            };
            let Some(message) = message else {
                return Ok(None);
            };
            let bytes = bytes(message);
            if !bytes.is_empty() {
                self.verifier.push(&bytes).map_err(|wrong| wrong.to_string())?;
                return Ok(Some(bytes));
            }
        }
    }

    fn so_far(&self) -> String {
        let (seen, size) = (self.verifier.seen(), self.verifier.size());
        format!("the snapshot broke off after {seen} of {size} bytes:")
    }

    fn finish(self) -> Result<(Bytes, Option<Self>), BodyError> {
        match self.verifier.finish() {
            Ok(sha256) => {
                self.checked.set(sha256);
                Ok((self.held, None))
            }
            Err(wrong) => Err(self.origin.broken(&wrong.to_string())),
        }
    }
}

impl Origin {
    fn broken(&self, error: &str) -> BodyError {
        let url = &self.url;
        tracing::warn!(endpoint = %url, error, "snapshot broke off");
        BodyError::Unavailable(format!("{url}: {error}"))
    }
}

/// The bytes of a message, without copying them.
fn bytes(message: SnapshotResponse) -> Bytes {
    struct Blob(SnapshotResponse);

    impl AsRef<[u8]> for Blob {
        fn as_ref(&self) -> &[u8] {
            self.0.blob()
        }
    }

    Bytes::from_owner(Blob(message))
}
