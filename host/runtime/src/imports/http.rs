//! `http`: the writer of replies that are made piece by piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream as _;
use keepgate_store::BodyError;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Resource;

use crate::call::Failure;
use crate::contract::{Refusal, http};
use crate::state::State;
use crate::wasi_http::ServiceBody;

/// Pieces that a guest may be ahead of its client.
const PIECES: usize = 4;
/// The largest piece, in bytes. A longer text of the guest's makes several, which keep it: so a guest
/// is ahead of its client by a few of these, or by one text, and not by four long ones.
const MAX_PIECE: usize = 256 << 10;

/// The head of a streamed reply, with the bytes that follow it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) head: http::Head,
    pub(crate) arriving: Arriving,
}

/// The bytes of a streamed reply, in the order in which a guest makes them.
#[derive(Debug)]
pub(crate) enum Arriving {
    /// What a plugin writes.
    Pieces(mpsc::Receiver<Bytes>),
    /// What a service of `wasi:http` writes.
    Service(ServiceBody),
}

impl Arriving {
    /// Takes no more of them.
    pub(crate) fn close(&mut self) {
        if let Self::Pieces(pieces) = self {
            pieces.close();
        }
    }

    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Pieces(pieces) => pieces.poll_recv(context).map(|piece| piece.map(Ok)),
            Self::Service(body) => Pin::new(body).poll_next(context),
        }
    }
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
        let arriving = Arriving::Pieces(pieces);
        start.send(Started { head, arriving }).map_err(|_| client_gone())?;
        Ok(self.table.push(WriterHandle(sender))?)
    }

    async fn write(
        &mut self,
        writer: Resource<WriterHandle>,
        bytes: Vec<u8>,
    ) -> Result<(), Refusal> {
        self.grants.moved.inc_by(bytes.len() as u64);
        let sender = self.table.get(&writer)?.0.clone();
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(MAX_PIECE));
            sender.send(piece).await.map_err(|_| client_gone())?;
        }
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
