//! Transforms bodies while they stream: gzip, tar, temporary files, sizes and hashes. A plugin says
//! what to do and never touches a byte.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `batch_reader` | reads a body in batches of one size |
//! | `codec` | runs a compressor in the task that reads |
//! | `gzip`, `fastest`, `gunzip` | the compressors |
//! | `archive` | tar |
//! | `spool` | a body in a temporary file |
//! | `meter` | size and hash of what passes |
//! | `checksum` | XXH3 of what passes |
//! | `verified` | only bytes with the right hash or checksum |
//! | `lengths` | bodies held to a length, and joined |
//!
//! Invariants: a pipe that nobody reads does nothing and holds next to nothing; one that is read holds
//! a few hundred KiB, whatever passes through it; one that is dropped ends with its thread's current
//! step. Errors of the first body pass through all pipes unchanged. Bodies must be read within a tokio
//! runtime.

mod archive;
mod batch_reader;
mod checksum;
mod codec;
mod fastest;
mod gunzip;
mod gzip;
mod lengths;
mod meter;
#[cfg(test)]
mod properties;
mod spool;
mod verified;

use std::io;

use tokio::task::JoinError;

pub use archive::{Entry, tar};
pub use checksum::Checksum;
pub use gunzip::gunzip;
pub use gzip::gzip;
pub use lengths::{exactly, join, limit};
pub use meter::{Meter, Sum};
pub use spool::{Spool, SpoolError, Spooled};
pub use verified::{checked, verified};

/// Why a pipe could not be made. Errors in the bytes only show when it is read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The arguments are invalid; the text says which.
    #[error("{0}")]
    Invalid(String),
}

/// The result of a thread that may block.
fn joined<T>(result: Result<T, JoinError>) -> io::Result<T> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => io::Error::other("the process is shutting down"),
    })
}
