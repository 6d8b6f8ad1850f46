//! `http`: the writer of streamed replies.

pub(crate) mod writer;

use tokio::sync::mpsc;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::Capability;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::bytes_with;
use crate::reply;
use crate::streamed_reply::{Arriving, Head, Started};
use keepgate_core::Failure;

pub(crate) use crate::guest::bindings::keepgate::plugin::http;
pub(crate) use writer::WriterHandle;

/// How many pieces a guest may write ahead of its client.
const PIECES: usize = 4;
/// The largest piece, in bytes. Longer writes are split into several pieces of one allocation, so a guest
/// is ahead of its client by a few of these or by one write, not by four long writes.
const MAX_PIECE: usize = 256 << 10;

/// See the module.
pub(crate) struct Http;

impl Capability for Http {
    fn interface(&self) -> &'static str {
        "http"
    }

    fn purpose(&self) -> &'static str {
        "streamed replies"
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("http.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        http::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }
}

impl http::Host for GuestState {
    fn inform(&mut self, head: http::Head) -> Result<(), ImportError> {
        self.note("http.inform", |_| head.status.to_string());
        let invalid = |why: &str| Err(Failure::Invalid(why.to_owned()).into());
        if self.reply_start.is_none() {
            return invalid("interim responses come before a reply");
        }
        if !(102..=199).contains(&head.status) {
            return invalid("the status of an interim response is 102 to 199");
        }
        reply::check_headers(&head.headers).map_err(Failure::Invalid)?;
        if let Some(interim) = &self.interim {
            interim.send_interim(head.status, &head.headers);
        }
        Ok(())
    }
}

impl http::HostWriter for GuestState {
    fn start(&mut self, head: http::Head) -> Result<Resource<WriterHandle>, ImportError> {
        self.note("http.start", |_| head.status.to_string());
        let Some(start) = self.reply_start.take() else {
            return Err(Failure::Invalid("this reply has already been started".to_owned()).into());
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let arriving = Arriving::Pieces(pieces);
        let head = Head { status: head.status, headers: head.headers };
        start.send(Started { head, arriving }).map_err(|_| client_gone())?;
        Ok(self.table.push(WriterHandle(sender))?)
    }

    async fn write(
        &mut self,
        writer: Resource<WriterHandle>,
        bytes: Vec<u8>,
    ) -> Result<(), ImportError> {
        self.mount.moved.inc_by(bytes.len() as u64);
        let sender = self.table.get(&writer)?.0.clone();
        let held =
            self.allocation.hold(bytes.len()).map_err(|over| ImportError::Trap(over.into()))?;
        let mut bytes = bytes_with(bytes, held);
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
