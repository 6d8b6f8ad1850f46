//! `http`: the writer of replies that are made piece by piece.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Resource;

use crate::call::Failure;
use crate::contract::{Refusal, http};
use crate::state::State;

/// Pieces that a guest may be ahead of its client.
const PIECES: usize = 4;

/// The head of a streamed reply, with the pieces that follow it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) head: http::Head,
    pub(crate) pieces: mpsc::Receiver<Bytes>,
}

/// Where a streamed reply begins. Taken at `start`.
pub(crate) type ReplyStart = oneshot::Sender<Started>;

/// A streamed reply in a guest's hands.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct WriterHandle(mpsc::Sender<Bytes>);

impl http::Host for State {}

impl http::HostWriter for State {
    fn start(&mut self, head: http::Head) -> Result<Resource<WriterHandle>, Refusal> {
        self.note("http.start", |_| head.status.to_string());
        let Some(start) = self.reply_start.take() else {
            return Err(Failure::Invalid("this reply has been started before".to_owned()).into());
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        start.send(Started { head, pieces }).map_err(|_| client_gone())?;
        Ok(self.table.push(WriterHandle(sender))?)
    }

    async fn write(
        &mut self,
        writer: Resource<WriterHandle>,
        bytes: Vec<u8>,
    ) -> Result<(), Refusal> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.grants.moved.inc_by(bytes.len() as u64);
        let sender = self.table.get(&writer)?.0.clone();
        sender.send(bytes.into()).await.map_err(|_| client_gone())?;
        Ok(())
    }

    async fn drop(&mut self, writer: Resource<WriterHandle>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

fn client_gone() -> Failure {
    Failure::Unavailable("the client has gone".to_owned())
}
