//! The writer of a streamed reply as a handle of a guest.

use bytes::Bytes;
use tokio::sync::mpsc;

/// The host's side of a writer handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct WriterHandle(pub(super) mpsc::Sender<Bytes>);
