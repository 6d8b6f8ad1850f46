//! `pipes`: bodies that the host changes while they pass.

use keepgate_pipes::{Meter, PipeError, SpoolError};
use keepgate_store::{Body, BodyError};
use wasmtime::component::Resource;

use crate::call::Failure;
use crate::contract::{Refusal, pipes, time};
use crate::held::{COMPRESSOR, DECOMPRESSOR, body_with};
use crate::imports::types::BodyHandle;
use crate::state::State;

/// The most files that a guest puts into one archive: all their heads are made at once.
const MAX_ENTRIES: usize = 16_384;

impl State {
    /// A body to pipe, with the pipes that it passes and this one. Each calls the next one in it when
    /// it is read, and when it is dropped: too many would overflow the host's own stack.
    fn take(&mut self, handle: Resource<BodyHandle>) -> wasmtime::Result<(Body, u32)> {
        let handle = self.table.delete(handle)?;
        let layers = handle.layers() + 1;
        self.held.layers(layers)?;
        Ok((handle.into_body(), layers))
    }

    fn give(&mut self, body: Body, layers: u32) -> wasmtime::Result<Resource<BodyHandle>> {
        Ok(self.table.push(BodyHandle::piped(body, layers))?)
    }
}

impl pipes::Host for State {
    fn gzip(
        &mut self,
        data: Resource<BodyHandle>,
        level: u8,
    ) -> Result<Resource<BodyHandle>, Refusal> {
        self.note("pipes.gzip", |_| level.to_string());
        let (body, layers) = self.take(data).map_err(Refusal::Trap)?;
        let body = keepgate_pipes::gzip(body, level)?;
        let charge = self.held.charge(COMPRESSOR)?;
        self.give(body_with(body, charge), layers).map_err(Refusal::Trap)
    }

    fn gunzip(&mut self, data: Resource<BodyHandle>) -> wasmtime::Result<Resource<BodyHandle>> {
        self.note("pipes.gunzip", |_| String::new());
        let (body, layers) = self.take(data)?;
        let charge = self.held.charge(DECOMPRESSOR)?;
        self.give(body_with(keepgate_pipes::gunzip(body), charge), layers)
    }

    fn tar(&mut self, entries: Vec<pipes::Entry>) -> Result<Resource<BodyHandle>, Refusal> {
        self.note("pipes.tar", |_| {
            entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>().join(" ")
        });
        if entries.len() > MAX_ENTRIES {
            let what = format!("an archive of more than {MAX_ENTRIES} files");
            return Err(Failure::Invalid(what).into());
        }
        let mut deepest = 1;
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            let (body, layers) = self.take(entry.data).map_err(Refusal::Trap)?;
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
        self.give(body, deepest).map_err(Refusal::Trap)
    }

    async fn spool(&mut self, data: Resource<BodyHandle>) -> Result<pipes::Spooled, Refusal> {
        self.note("pipes.spool", |_| String::new());
        let (body, _) = self.take(data).map_err(Refusal::Trap)?;
        let Some(spool) = self.grants.services.spool.clone() else {
            let why = format!("the mount {} has no spool", self.grants.mount);
            return Err(Failure::Unsupported(why).into());
        };
        let spooled = self.cpu.free(spool.read(body)).await?;
        Ok(pipes::Spooled {
            size: spooled.size,
            sha256: hex::encode(spooled.sha256),
            data: self.give(spooled.body, 0).map_err(Refusal::Trap)?,
        })
    }
}

impl pipes::HostMeter for State {
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

impl From<PipeError> for Refusal {
    fn from(error: PipeError) -> Self {
        Failure::Invalid(error.to_string()).into()
    }
}

impl From<SpoolError> for Refusal {
    fn from(error: SpoolError) -> Self {
        let failure = match error {
            SpoolError::Body(error) => error.into(),
            SpoolError::TooLarge { limit } => BodyError::TooLarge { limit }.into(),
            SpoolError::NoSpace => Failure::NoSpace,
            error => {
                tracing::error!(%error, "the spool failed");
                Failure::Internal(error.to_string())
            }
        };
        failure.into()
    }
}
