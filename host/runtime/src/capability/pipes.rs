//! `pipes`: bodies that the host transforms as they pass. The transformations are in `keepgate_pipes`.

use std::sync::Arc;

use keepgate_pipes::{Checksum, Meter, PipeError, Spool, SpoolError};
use keepgate_store::{Body, BodyError};
use wasmtime::component::{HasSelf, Linker, Resource};

use super::blobs::parse_sha256;
use super::definition::Capability;
use super::grants::Grant;
use super::types::BodyHandle;
use crate::contract::{ImportError, time};
use crate::guest_state::GuestState;
use crate::host_allocation::body_with;
use keepgate_core::Failure;

use bindings::keepgate::plugin::pipes;

crate::contract::bindings! {
    interface: "pipes",
    imports: {
        "keepgate:plugin/pipes.gzip": trappable,
        "keepgate:plugin/pipes.gunzip": trappable,
        "keepgate:plugin/pipes.tar": trappable,
        "keepgate:plugin/pipes.verified": trappable,
        "keepgate:plugin/pipes.checked": trappable,
        "keepgate:plugin/pipes.[static]checksum.attach": trappable,
        "keepgate:plugin/pipes.[method]checksum.xxh3": trappable,
        "keepgate:plugin/pipes.limit": trappable,
        "keepgate:plugin/pipes.exactly": trappable,
        "keepgate:plugin/pipes.join": trappable,
        "keepgate:plugin/pipes.[static]meter.attach": trappable,
        "keepgate:plugin/pipes.[method]meter.sum": trappable,
        default: async | trappable,
    },
    with: {
        "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types,
        "keepgate:plugin/pipes.checksum": keepgate_pipes::Checksum,
        "keepgate:plugin/pipes.meter": keepgate_pipes::Meter,
    },
}

/// The folder in which a mount's bodies are kept on disk until their length is known.
#[derive(Clone, Debug)]
pub struct SpoolFolder(pub Arc<Spool>);

impl Grant for SpoolFolder {}

/// See the module.
pub(crate) struct Pipes;

impl Capability for Pipes {
    fn interface(&self) -> &'static str {
        "pipes"
    }

    fn purpose(&self) -> &'static str {
        "bodies transformed by the host"
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("pipes.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        pipes::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn lacks_grant(&self, function: &str, failure: &str) -> bool {
        function == "spool" && failure == "unsupported"
    }
}

/// About as many bytes as a gzip compressor needs.
const COMPRESSOR: u64 = 512 << 10;
/// Bytes that a decompressor needs, with one chunk.
const DECOMPRESSOR: u64 = 192 << 10;
/// The most files in one archive: all their headers are made at once.
const MAX_ENTRIES: usize = 16_384;
/// What the host keeps of each besides its name, in bytes.
const ENTRY: usize = 256;
/// The most bodies that are joined.
const MAX_JOINED: usize = 1000;

impl GuestState {
    /// Takes a body to pipe, with the number of pipes including this one. Reading or dropping a pipe calls
    /// the next one inside it, so too many would overflow the host's stack.
    pub(super) fn take(&mut self, handle: Resource<BodyHandle>) -> wasmtime::Result<(Body, u32)> {
        let handle = self.table.delete(handle)?;
        let layers = handle.layers() + 1;
        self.allocation.layers(layers)?;
        Ok((handle.into_body(), layers))
    }

    pub(super) fn give(
        &mut self,
        body: Body,
        layers: u32,
    ) -> wasmtime::Result<Resource<BodyHandle>> {
        Ok(self.table.push(BodyHandle::piped(body, layers))?)
    }
}

fn parse_xxh3(text: &str) -> Result<u128, Failure> {
    let mut sum = [0; 16];
    hex::decode_to_slice(text, &mut sum)
        .map_err(|_| Failure::Invalid("a checksum is 32 hexadecimal digits".to_owned()))?;
    Ok(u128::from_be_bytes(sum))
}

impl pipes::Host for GuestState {
    fn gzip(
        &mut self,
        data: Resource<BodyHandle>,
        level: u8,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("pipes.gzip", |_| level.to_string());
        let (body, layers) = self.take(data).map_err(ImportError::Trap)?;
        let body = keepgate_pipes::gzip(body, level)?;
        let charge = self.allocation.charge(COMPRESSOR)?;
        self.give(body_with(body, charge), layers).map_err(ImportError::Trap)
    }

    fn gunzip(&mut self, data: Resource<BodyHandle>) -> wasmtime::Result<Resource<BodyHandle>> {
        self.note("pipes.gunzip", |_| String::new());
        let (body, layers) = self.take(data)?;
        let charge = self.allocation.charge(DECOMPRESSOR)?;
        self.give(body_with(keepgate_pipes::gunzip(body), charge), layers)
    }

    fn tar(&mut self, entries: Vec<pipes::Entry>) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("pipes.tar", |_| {
            entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>().join(" ")
        });
        if entries.len() > MAX_ENTRIES {
            let what = format!("an archive may have at most {MAX_ENTRIES} files");
            return Err(Failure::Invalid(what).into());
        }
        // The names stay in memory until the archive has been sent.
        let names = entries.iter().map(|entry| entry.path.len() + ENTRY).sum::<usize>();
        let charge =
            self.allocation.charge(names as u64).map_err(|over| ImportError::Trap(over.into()))?;
        let mut deepest = 1;
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            let (body, layers) = self.take(entry.data).map_err(ImportError::Trap)?;
            deepest = deepest.max(layers);
            files.push(keepgate_pipes::Entry {
                body,
                path: entry.path,
                size: entry.size,
                mode: entry.mode,
                modified: time(entry.modified),
            });
        }
        let body = keepgate_pipes::tar(files)?;
        self.give(body_with(body, charge), deepest).map_err(ImportError::Trap)
    }

    async fn spool(&mut self, data: Resource<BodyHandle>) -> Result<pipes::Spooled, ImportError> {
        self.note("pipes.spool", |_| String::new());
        let (body, _) = self.take(data).map_err(ImportError::Trap)?;
        let Some(spool) = self.mount.grants.get::<SpoolFolder>().map(|folder| folder.0.clone())
        else {
            let why = format!("the mount {} has no spool", self.mount.path);
            return Err(Failure::Unsupported(why).into());
        };
        // Each holds a file, as an open blob does.
        let open = self.allocation.open()?;
        let spooled = self.cpu.free(spool.read(body)).await?;
        Ok(pipes::Spooled {
            size: spooled.size,
            sha256: hex::encode(spooled.sha256),
            data: self.give(body_with(spooled.body, open), 0).map_err(ImportError::Trap)?,
        })
    }

    fn verified(
        &mut self,
        data: Resource<BodyHandle>,
        sha256: String,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("pipes.verified", |_| sha256.clone());
        let (body, layers) = self.take(data).map_err(ImportError::Trap)?;
        let sha256 = parse_sha256(&sha256)?;
        self.give(keepgate_pipes::verified(body, sha256), layers).map_err(ImportError::Trap)
    }

    fn checked(
        &mut self,
        data: Resource<BodyHandle>,
        xxh3: String,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("pipes.checked", |_| xxh3.clone());
        let (body, layers) = self.take(data).map_err(ImportError::Trap)?;
        let xxh3 = parse_xxh3(&xxh3)?;
        self.give(keepgate_pipes::checked(body, xxh3), layers).map_err(ImportError::Trap)
    }

    fn limit(
        &mut self,
        data: Resource<BodyHandle>,
        max: u64,
    ) -> wasmtime::Result<Resource<BodyHandle>> {
        self.note("pipes.limit", |_| max.to_string());
        let (body, layers) = self.take(data)?;
        self.give(keepgate_pipes::limit(body, max), layers)
    }

    fn exactly(
        &mut self,
        data: Resource<BodyHandle>,
        length: u64,
    ) -> wasmtime::Result<Resource<BodyHandle>> {
        self.note("pipes.exactly", |_| length.to_string());
        let (body, layers) = self.take(data)?;
        self.give(keepgate_pipes::exactly(body, length), layers)
    }

    fn join(
        &mut self,
        bodies: Vec<Resource<BodyHandle>>,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("pipes.join", |_| bodies.len().to_string());
        if bodies.len() > MAX_JOINED {
            let what = format!("at most {MAX_JOINED} bodies can be joined");
            return Err(Failure::Invalid(what).into());
        }
        let (mut joined, mut deepest) = (Vec::with_capacity(bodies.len()), 1);
        for data in bodies {
            let (body, layers) = self.take(data).map_err(ImportError::Trap)?;
            deepest = deepest.max(layers);
            joined.push(body);
        }
        self.give(keepgate_pipes::join(joined), deepest).map_err(ImportError::Trap)
    }
}

impl pipes::HostMeter for GuestState {
    fn attach(
        &mut self,
        data: Resource<BodyHandle>,
    ) -> wasmtime::Result<(Resource<Meter>, Resource<BodyHandle>)> {
        self.note("pipes.meter", |_| String::new());
        let (body, layers) = self.take(data)?;
        let (meter, body) = Meter::attach(body);
        Ok((self.table.push(meter)?, self.give(body, layers)?))
    }

    fn sum(&mut self, meter: Resource<Meter>) -> wasmtime::Result<Option<pipes::Sum>> {
        let sum = self.table.get(&meter)?.sum();
        Ok(sum.map(|sum| pipes::Sum { size: sum.size, sha256: hex::encode(sum.sha256) }))
    }

    async fn drop(&mut self, meter: Resource<Meter>) -> wasmtime::Result<()> {
        self.table.delete(meter)?;
        Ok(())
    }
}

impl pipes::HostChecksum for GuestState {
    fn attach(
        &mut self,
        data: Resource<BodyHandle>,
    ) -> wasmtime::Result<(Resource<Checksum>, Resource<BodyHandle>)> {
        self.note("pipes.checksum", |_| String::new());
        let (body, layers) = self.take(data)?;
        let (checksum, body) = Checksum::attach(body);
        Ok((self.table.push(checksum)?, self.give(body, layers)?))
    }

    fn xxh3(&mut self, checksum: Resource<Checksum>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&checksum)?.xxh3().map(|xxh3| format!("{xxh3:032x}")))
    }

    async fn drop(&mut self, checksum: Resource<Checksum>) -> wasmtime::Result<()> {
        self.table.delete(checksum)?;
        Ok(())
    }
}

impl From<PipeError> for ImportError {
    fn from(error: PipeError) -> Self {
        Failure::Invalid(error.to_string()).into()
    }
}

impl From<SpoolError> for ImportError {
    fn from(error: SpoolError) -> Self {
        let failure = match error {
            SpoolError::Body(error) => error.into(),
            SpoolError::TooLarge { limit } => BodyError::TooLarge { limit }.into(),
            SpoolError::NoSpace => Failure::NoSpace,
            error => {
                tracing::error!(%error, "spool failed");
                Failure::Internal(error.to_string())
            }
        };
        failure.into()
    }
}
