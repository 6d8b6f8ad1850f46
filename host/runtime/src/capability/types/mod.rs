//! `types`: bodies, as handles that a guest passes on and only sometimes reads; and failures.

mod failure;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use keepgate_store::Body;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::Capability;
use crate::call::Failure;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::bytes_with;

pub(crate) use bindings::keepgate::plugin::types;

crate::contract::bindings! {
    interfaces: "import keepgate:plugin/types@0.1.0;",
    imports: {
        "keepgate:plugin/types.[static]body.from-bytes": trappable,
        "keepgate:plugin/types.[method]body.length": trappable,
        default: async | trappable,
    },
    with: { "keepgate:plugin/types.body": crate::capability::types::BodyHandle },
}

/// See the module.
pub(crate) struct Types;

impl Capability for Types {
    fn interface(&self) -> &'static str {
        "types"
    }

    fn purpose(&self) -> &'static str {
        "bodies"
    }

    fn wit(&self) -> &'static str {
        include_str!("../../../../../wit/0.1.0/types.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        types::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }
}

/// The largest piece that one `read` returns, whatever the guest asks for.
const MAX_READ: u32 = 1 << 20;

/// A body in a guest's hands, possibly read in part.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct BodyHandle {
    body: Body,
    /// Bytes that arrived and have not been read.
    rest: Bytes,
    /// Bytes that the guest has read.
    read: u64,
    /// How many pipes its bytes pass through.
    layers: u32,
}

impl BodyHandle {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new(), read: 0, layers: 0 }
    }

    /// A body whose bytes pass through this many pipes.
    pub(crate) fn piped(body: Body, layers: u32) -> Self {
        Self { layers, ..Self::new(body) }
    }

    /// How many pipes its bytes pass through.
    pub(crate) fn layers(&self) -> u32 {
        self.layers
    }

    /// The rest of the body, which the guest has not read.
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

impl types::Host for GuestState {
    fn convert_failure(&mut self, refusal: ImportError) -> wasmtime::Result<types::Failure> {
        match refusal {
            ImportError::Failure(failure) => {
                self.note_failure(&failure);
                Ok(failure.into())
            }
            ImportError::Trap(trap) => Err(trap),
        }
    }
}

impl types::HostBody for GuestState {
    fn from_bytes(&mut self, bytes: Vec<u8>) -> wasmtime::Result<Resource<BodyHandle>> {
        self.mount.moved.inc_by(bytes.len() as u64);
        let charge = self.allocation.charge(bytes.len() as u64)?;
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
    ) -> Result<Option<Vec<u8>>, ImportError> {
        self.note("body.read", |_| max.to_string());
        let max = usize::try_from(max.clamp(1, MAX_READ)).unwrap_or(1);
        let piece = self.table.get_mut(&body)?.next(max).await?;
        self.mount.moved.inc_by(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        Ok(piece.map(Into::into))
    }

    async fn drop(&mut self, body: Resource<BodyHandle>) -> wasmtime::Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}
