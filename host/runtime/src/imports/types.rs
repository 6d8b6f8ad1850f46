//! `types`: bodies, as handles that a guest hands on and only sometimes reads.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use wasmtime::component::Resource;

use keepgate_store::Body;

use crate::call::Failure;
use crate::contract::{Refusal, types};
use crate::held::bytes_with;
use crate::state::State;

/// The largest piece that one `read` hands to a guest, whatever it asks for.
const MAX_READ: u32 = 1 << 20;

/// A body in a guest's hands, perhaps read in part.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct BodyHandle {
    body: Body,
    /// What the last `read` had no room for.
    rest: Bytes,
    /// Bytes that the guest has read.
    read: u64,
    /// Pipes that its bytes pass, one in the other.
    layers: u32,
}

impl BodyHandle {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new(), read: 0, layers: 0 }
    }

    /// A body whose bytes pass so many pipes.
    pub(crate) fn piped(body: Body, layers: u32) -> Self {
        Self { layers, ..Self::new(body) }
    }

    /// Pipes that its bytes pass.
    pub(crate) fn layers(&self) -> u32 {
        self.layers
    }

    /// The bytes that the guest has not read.
    pub(crate) fn into_body(self) -> Body {
        if self.read == 0 && self.rest.is_empty() {
            return self.body;
        }
        let length = self.body.length().map(|length| length.saturating_sub(self.read));
        let rest = Some(self.rest).filter(|rest| !rest.is_empty());
        Body::from_stream(length, stream::iter(rest.map(Ok)).chain(self.body))
    }

    async fn next(&mut self, max: usize) -> Result<Option<Bytes>, Failure> {
        while self.rest.is_empty() {
            match self.body.chunk().await {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(max));
        self.read += piece.len() as u64;
        Ok(Some(piece))
    }
}

impl types::Host for State {
    fn convert_failure(&mut self, refusal: Refusal) -> wasmtime::Result<types::Failure> {
        match refusal {
            Refusal::Failure(failure) => {
                self.note_failure(&failure);
                Ok(failure.into())
            }
            Refusal::Trap(trap) => Err(trap),
        }
    }
}

impl types::HostBody for State {
    fn from_bytes(&mut self, bytes: Vec<u8>) -> wasmtime::Result<Resource<BodyHandle>> {
        self.grants.moved.inc_by(bytes.len() as u64);
        let charge = self.held.charge(bytes.len() as u64)?;
        let body = Body::from_bytes(bytes_with(bytes, charge));
        Ok(self.table.push(BodyHandle::new(body))?)
    }

    fn length(&mut self, body: Resource<BodyHandle>) -> wasmtime::Result<Option<u64>> {
        Ok(self.table.get(&body)?.body.length())
    }

    async fn read(
        &mut self,
        body: Resource<BodyHandle>,
        max: u32,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        self.note("body.read", |_| max.to_string());
        let max = usize::try_from(max.clamp(1, MAX_READ)).unwrap_or(1);
        let piece = self.table.get_mut(&body)?.next(max).await?;
        self.grants.moved.inc_by(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        Ok(piece.map(Into::into))
    }

    async fn drop(&mut self, body: Resource<BodyHandle>) -> wasmtime::Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}
