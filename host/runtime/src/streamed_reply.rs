//! A reply that a guest sends piece by piece: its head, and the bytes as they arrive.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream as _;
use keepgate_store::{BodyError, Fields};
use tokio::sync::{mpsc, oneshot};

use crate::wasi_http::body::ServiceBody;

/// Status and headers of a reply, not checked yet.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Fields,
}

/// A streamed reply that has started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) head: Head,
    pub(crate) arriving: Arriving,
}

/// The bytes of a streamed reply, in order.
#[derive(Debug)]
pub(crate) enum Arriving {
    /// From a plugin.
    Pieces(mpsc::Receiver<Bytes>),
    /// From a service of `wasi:http`.
    Service(ServiceBody),
}

impl Arriving {
    /// Accepts no more bytes.
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

/// Sends the start of a streamed reply to the call that waits for it.
pub(crate) type ReplyStart = oneshot::Sender<Started>;
