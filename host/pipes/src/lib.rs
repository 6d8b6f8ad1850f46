//! Work on bodies while they pass: gzip, tar, temporary files, sums. The plugin says what is to be
//! done and never touches a byte.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `gather` | a body in batches of one size |
//! | `codec` | running a compressor beside the thread that reads and the one that writes |
//! | `gzip`, `gunzip` | the two of them |
//! | `archive` | tar |
//! | `spool` | a body in a temporary file |
//! | `meter` | size and hash of what passes |
//!
//! What must stay true: a pipe that nobody reads does nothing and holds next to nothing; one that is
//! read holds a few hundred KiB, whatever passes; one that is dropped ends with the step that a
//! thread is at. Errors of the body at the beginning reach the end of all pipes as they are. Bodies
//! must be read within a tokio runtime.

mod archive;
mod codec;
mod gather;
mod gunzip;
mod gzip;
mod meter;
#[cfg(test)]
mod properties;
mod spool;

use std::io;

use tokio::task::JoinError;

pub use archive::{Entry, tar};
pub use gunzip::gunzip;
pub use gzip::gzip;
pub use meter::{Meter, Sum};
pub use spool::{Spool, SpoolError, Spooled};

/// Why a pipe could not be made. What is wrong with the bytes shows when it is read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The arguments make no sense; the text says which.
    #[error("{0}")]
    Invalid(String),
}

/// What a thread that may block gave back.
fn joined<T>(result: Result<T, JoinError>) -> io::Result<T> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => io::Error::other("the process is shutting down"),
    })
}
