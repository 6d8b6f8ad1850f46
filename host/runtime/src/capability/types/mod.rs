//! `types`: bodies, as handles that a guest passes on and only sometimes reads; and failures.

pub(crate) mod body;
mod failure;

use keepgate_store::Body;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::Capability;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::bytes_with;

pub(crate) use crate::guest::bindings::keepgate::plugin::types;
pub(crate) use body::BodyHandle;

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
        crate::contract::wit!("types.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        types::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }
}

/// The largest piece that one `read` returns, whatever the guest asks for.
const MAX_READ: u32 = 1 << 20;

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
        Ok(self.table.get(&body)?.length())
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
