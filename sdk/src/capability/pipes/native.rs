//! The same transformations in memory, without streaming.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::io::{Read, Write as _};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::Sum;
use crate::testing::hex;
use crate::{Body, Failure};

/// A regular file in a tar archive.
#[derive(Debug)]
pub struct Entry {
    /// A relative path, without `..`.
    pub path: String,
    /// The size in bytes. The body must have exactly this size.
    pub size: u64,
    /// Permissions, such as 0o600.
    pub mode: u32,
    /// The time of the last change, in nanoseconds since the Unix epoch.
    pub modified: u64,
    /// The content.
    pub data: Body,
}

/// A body that has been read to its end.
#[derive(Debug)]
pub struct Spooled {
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
    /// The same bytes again.
    pub data: Body,
}

/// Compresses a body with gzip. Levels are 0 (stored) to 9 (smallest). Fails with [`Failure::Invalid`] for
/// other levels.
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

/// Decompresses gzip. Reading the result fails with [`Failure::Invalid`] if the bytes are not gzip, and with
/// [`Failure::Truncated`] if they end too early.
pub fn gunzip(data: Body) -> Body {
    data.turned(None, |bytes| {
        let mut plain = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice());
        made(decoder.read_to_end(&mut plain).map(|_| plain))
    })
}

/// Makes a tar archive of files, in order. Reading it fails if a body is shorter or longer than its entry
/// says.
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

/// Reads a body to its end into a temporary file of the host, so that its length and SHA-256 are known before
/// it is used.
pub fn spool(data: Body) -> Result<Spooled, Failure> {
    let bytes = data.into_bytes()?;
    let Sum { size, sha256 } = sum_of(&bytes);
    Ok(Spooled { size, sha256, data: Body::from_bytes(&bytes) })
}

/// Counts and hashes a body while it is read.
#[derive(Debug)]
pub struct Meter(Rc<RefCell<Option<Sum>>>);

impl Meter {
    /// Returns the meter, and the body to use instead of the given one.
    pub fn attach(data: Body) -> (Self, Body) {
        let (known, body) = data.summed(sum_of);
        (Self(known), body)
    }

    /// The sum of the bytes; `None` until the body has been read to its end.
    pub fn sum(&self) -> Option<Sum> {
        self.0.borrow().clone()
    }
}

/// Computes the XXH3 of a body while it is read, with 128 bits. It takes a twentieth of the time of a SHA-256 and finds
/// damage as well, but not what somebody changed on purpose.
#[derive(Debug)]
pub struct Checksum(Rc<RefCell<Option<String>>>);

impl Checksum {
    /// Returns the checksum, and the body to use instead of the given one.
    pub fn attach(data: Body) -> (Self, Body) {
        let (known, body) = data.summed(xxh3_of);
        (Self(known), body)
    }

    /// The checksum of the bytes in 32 lower-case hexadecimal digits; `None` until the body has been read to its end.
    pub fn xxh3(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// The same bytes, which must have this SHA-256 in lower-case hexadecimal digits: otherwise reading fails with
/// [`Failure::ChecksumMismatch`] before the end, so that a client sees that its download is not whole. Fails with
/// [`Failure::Invalid`] if it is not a SHA-256. [`start_on_mismatch`](crate::jobs::start_on_mismatch) tells the plugin
/// of it.
pub fn verified(data: Body, sha256: &str) -> Result<Body, Failure> {
    if !crate::is_sha256(sha256) {
        return Err(Failure::Invalid(format!("{sha256:?} is not a SHA-256")));
    }
    Ok(held_to(data, sha256, |bytes| sum_of(bytes).sha256))
}

/// As [`verified`], with what a [`Checksum`] has computed.
pub fn checked(data: Body, xxh3: &str) -> Result<Body, Failure> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if xxh3.len() != 32 || !xxh3.bytes().all(is_digit) {
        return Err(Failure::Invalid(format!("{xxh3:?} is not an XXH3 of 128 bits")));
    }
    Ok(held_to(data, xxh3, xxh3_of))
}

fn held_to(data: Body, expected: &str, sum: impl FnOnce(&[u8]) -> String) -> Body {
    let length = data.length();
    data.turned(length, |bytes| match sum(&bytes) {
        actual if actual == expected => Body::from_bytes(&bytes),
        actual => {
            let all_but_the_last = bytes.get(..bytes.len().saturating_sub(1)).unwrap_or_default();
            Body::failing(all_but_the_last, length, Failure::ChecksumMismatch(Some(actual)))
        }
    })
}

/// The same bytes. Reading fails with [`Failure::TooLarge`] as soon as there are more than `max`.
pub fn limit(data: Body, max: u64) -> Body {
    let length = data.length().filter(|length| *length <= max);
    data.turned(length, |bytes| match bytes.len() as u64 > max {
        true => Body::failing(&[], length, Failure::TooLarge(max)),
        false => Body::from_bytes(&bytes).of_length(length),
    })
}

/// The same bytes, with a known length. Reading fails with [`Failure::TooLarge`] as soon as there are more, and with
/// [`Failure::Truncated`] at the end if there are fewer.
pub fn exactly(data: Body, length: u64) -> Body {
    data.turned(Some(length), |bytes| match (bytes.len() as u64).cmp(&length) {
        Ordering::Less => Body::failing(&bytes, Some(length), Failure::Truncated),
        Ordering::Equal => Body::from_bytes(&bytes),
        Ordering::Greater => Body::failing(&[], Some(length), Failure::TooLarge(length)),
    })
}

/// The bytes of at most 1000 bodies, one after another. The length is known if those of all are. Fails with
/// [`Failure::Invalid`] for more bodies.
pub fn join(bodies: Vec<Body>) -> Result<Body, Failure> {
    if bodies.len() > 1000 {
        return Err(Failure::Invalid("at most 1000 bodies can be joined".to_owned()));
    }
    let length = bodies.iter().try_fold(0_u64, |sum, body| sum.checked_add(body.length()?));
    let mut all = Vec::new();
    for body in bodies {
        match body.into_bytes() {
            Ok(bytes) => all.extend(bytes),
            Err(failure) => return Ok(Body::failing(&all, length, failure)),
        }
    }
    Ok(Body::from_bytes(&all).of_length(length))
}

fn xxh3_of(bytes: &[u8]) -> String {
    format!("{:032x}", twox_hash::XxHash3_128::oneshot(bytes))
}

fn sum_of(bytes: &[u8]) -> Sum {
    Sum { size: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
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
