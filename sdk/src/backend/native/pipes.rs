//! `pipes` outside a component: the same work, all of it at once.

use std::cell::RefCell;
use std::io::{Read, Write as _};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use crate::Failure;
use crate::backend::Body;
pub use crate::bindings::keepgate::plugin::pipes::Sum;

/// A regular file in a tar archive.
#[derive(Debug)]
pub struct Entry {
    /// Relative, without `..`.
    pub path: String,
    /// Bytes; the body must have exactly so many.
    pub size: u64,
    /// Permissions, as in 0o600.
    pub mode: u32,
    /// Nanoseconds since the Unix epoch.
    pub modified: u64,
    /// Its bytes.
    pub data: Body,
}

/// A body that has been read to its end.
#[derive(Debug)]
pub struct Spooled {
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// The bytes again.
    pub data: Body,
}

/// Compresses, in gzip's format; levels are 0 to 9.
pub fn gzip(data: Body, level: u8) -> Result<Body, Failure> {
    if level > 9 {
        return Err(Failure::Invalid(format!("a level of gzip is 0 to 9, not {level}")));
    }
    Ok(data.turned(None, |bytes| {
        let level = flate2::Compression::new(u32::from(level));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        made(encoder.write_all(&bytes).and_then(|()| encoder.finish()))
    }))
}

/// Decompresses gzip.
pub fn gunzip(data: Body) -> Body {
    data.turned(None, |bytes| {
        let mut plain = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice());
        made(decoder.read_to_end(&mut plain).map(|_| plain))
    })
}

/// An archive of files.
pub fn tar(entries: Vec<Entry>) -> Result<Body, Failure> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(entry.size);
        header.set_mode(entry.mode);
        header.set_mtime(entry.modified / 1_000_000_000);
        let bytes = match entry.data.into_bytes() {
            Ok(bytes) if bytes.len() as u64 == entry.size => bytes,
            Ok(bytes) if (bytes.len() as u64) < entry.size => {
                return Ok(Body::failing(&[], None, Failure::Truncated));
            }
            Ok(_) => {
                let why = format!("{} has more than {} bytes", entry.path, entry.size);
                return Ok(Body::failing(&[], None, Failure::Invalid(why)));
            }
            Err(failure) => return Ok(Body::failing(&[], None, failure)),
        };
        archive
            .append_data(&mut header, &entry.path, bytes.as_slice())
            .map_err(|error| Failure::Invalid(error.to_string()))?;
    }
    Ok(made(archive.into_inner()))
}

/// Reads a body to its end, so that its length and hash are known before it goes on.
pub fn spool(data: Body) -> Result<Spooled, Failure> {
    let bytes = data.into_bytes()?;
    let Sum { size, sha256 } = sum_of(&bytes);
    Ok(Spooled { size, sha256, data: Body::from_bytes(&bytes) })
}

/// Counts and hashes a body on its way.
#[derive(Debug)]
pub struct Meter(Rc<RefCell<Option<Sum>>>);

impl Meter {
    /// The meter, and the body to hand on in the other's place.
    pub fn attach(data: Body) -> (Self, Body) {
        let known = Rc::new(RefCell::new(None));
        let length = data.length();
        let body = data.turned(length, |bytes| {
            let watch = Watch { sum: sum_of(&bytes), known: known.clone() };
            Body { meter: Some(watch), length, ..Body::from_bytes(&bytes) }
        });
        (Self(known), body)
    }

    /// None until the body has been read to its end.
    pub fn sum(&self) -> Option<Sum> {
        self.0.borrow().clone()
    }
}

/// What tells a meter that its body has been read.
#[derive(Debug)]
pub(crate) struct Watch {
    sum: Sum,
    known: Rc<RefCell<Option<Sum>>>,
}

impl Watch {
    pub(crate) fn ended(&self) {
        *self.known.borrow_mut() = Some(self.sum.clone());
    }
}

fn sum_of(bytes: &[u8]) -> Sum {
    Sum { size: bytes.len() as u64, sha256: crate::testing::hex(&Sha256::digest(bytes)) }
}

fn made(result: std::io::Result<Vec<u8>>) -> Body {
    match result {
        Ok(bytes) => Body::from_bytes(&bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Body::failing(&[], None, Failure::Truncated)
        }
        Err(error) => Body::failing(&[], None, Failure::Invalid(error.to_string())),
    }
}
