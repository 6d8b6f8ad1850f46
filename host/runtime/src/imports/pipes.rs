//! `pipes`: bodies that the host changes while they pass.

use keepgate_pipes::{Meter, PipeError, SpoolError};
use keepgate_store::BodyError;
use wasmtime::component::Resource;

use crate::call::Failure;
use crate::contract::{Refusal, pipes, time};
use crate::imports::types::BodyHandle;
use crate::state::State;

/// The most files that a guest puts into one archive: all their heads are made at once.
const MAX_ENTRIES: usize = 65_536;

impl State {
    fn take(&mut self, handle: Resource<BodyHandle>) -> wasmtime::Result<keepgate_store::Body> {
        Ok(self.table.delete(handle)?.into_body())
    }

    fn give(&mut self, body: keepgate_store::Body) -> wasmtime::Result<Resource<BodyHandle>> {
        Ok(self.table.push(BodyHandle::new(body))?)
    }
}

impl pipes::Host for State {
    fn gzip(
        &mut self,
        data: Resource<BodyHandle>,
        level: u8,
    ) -> Result<Resource<BodyHandle>, Refusal> {
        self.note("pipes.gzip", |_| level.to_string());
        let body = self.take(data).map_err(Refusal::Trap)?;
        let body = keepgate_pipes::gzip(body, level)?;
        self.give(body).map_err(Refusal::Trap)
    }

    fn gunzip(&mut self, data: Resource<BodyHandle>) -> wasmtime::Result<Resource<BodyHandle>> {
        self.note("pipes.gunzip", |_| String::new());
        let body = self.take(data)?;
        self.give(keepgate_pipes::gunzip(body))
    }

    fn tar(&mut self, entries: Vec<pipes::Entry>) -> Result<Resource<BodyHandle>, Refusal> {
        self.note("pipes.tar", |_| {
            entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>().join(" ")
        });
        if entries.len() > MAX_ENTRIES {
            let what = format!("an archive of more than {MAX_ENTRIES} files");
            return Err(Failure::Invalid(what).into());
        }
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            files.push(keepgate_pipes::Entry {
                body: self.take(entry.data).map_err(Refusal::Trap)?,
                path: entry.path,
                size: entry.size,
                mode: entry.mode,
                modified: time(entry.modified),
            });
        }
        let body = keepgate_pipes::tar(files)?;
        self.give(body).map_err(Refusal::Trap)
    }

    async fn spool(&mut self, data: Resource<BodyHandle>) -> Result<pipes::Spooled, Refusal> {
        self.note("pipes.spool", |_| String::new());
        let body = self.take(data).map_err(Refusal::Trap)?;
        let Some(spool) = self.grants.services.spool.clone() else {
            let why = format!("the mount {} has no spool", self.grants.mount);
            return Err(Failure::Unsupported(why).into());
        };
        let spooled = self.cpu.free(spool.read(body)).await?;
        Ok(pipes::Spooled {
            size: spooled.size,
            sha256: hex::encode(spooled.sha256),
            data: self.give(spooled.body).map_err(Refusal::Trap)?,
        })
    }
}

impl pipes::HostMeter for State {
    fn attach(
        &mut self,
        data: Resource<BodyHandle>,
    ) -> wasmtime::Result<(Resource<Meter>, Resource<BodyHandle>)> {
        self.note("pipes.meter", |_| String::new());
        let (meter, body) = Meter::attach(self.take(data)?);
        Ok((self.table.push(meter)?, self.give(body)?))
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
