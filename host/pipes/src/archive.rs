//! Archives in tar's format, readable by every `tar` of the last decades. The same entries always
//! give the same bytes.
//!
//! Headers are POSIX's (ustar), or GNU's if those cannot express an entry: paths over 100 bytes,
//! files of 8 GiB and more, times beyond the year 2242.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use tar::{EntryType, Header};

use crate::PipeError;

/// The block size of archives, in bytes.
const BLOCK: u64 = 512;
/// An archive ends with two blocks of zeros.
const END: usize = 1024;
/// Longer paths have blocks of their own.
const NAME: usize = 100;
/// The first number that eleven octal digits cannot hold.
const OCTAL_LIMIT: u64 = 1 << 33;

/// A regular file in an archive.
#[derive(Debug)]
pub struct Entry {
    /// A relative path without segments that are empty, `.` or `..`.
    pub path: String,
    /// Size in bytes; the body must have exactly this size.
    pub size: u64,
    /// Permissions, such as 0o600; other bits are ignored.
    pub mode: u32,
    /// Stored in seconds; times before 1970 become 1970.
    pub modified: SystemTime,
    /// The content.
    pub body: Body,
}

/// An archive of files, in order, owned by user and group 0. Its length is known. The bodies are read
/// one after the other, each when the archive reaches it.
///
/// # Errors
///
/// [`PipeError::Invalid`] if a path is invalid, or if the length exceeds 64 bits. Reading the result
/// fails with [`BodyError::Truncated`] if a body is shorter than its entry says, with
/// [`BodyError::Invalid`] if it is longer, and otherwise as reading the bodies does.
pub fn tar(entries: Vec<Entry>) -> Result<Body, PipeError> {
    let mut length = END as u64;
    for entry in &entries {
        check_path(&entry.path)?;
        let blocks = entry.size.checked_next_multiple_of(BLOCK);
        length = blocks
            .and_then(|blocks| blocks.checked_add(head(entry).len() as u64))
            .and_then(|whole| whole.checked_add(length))
            .ok_or_else(|| PipeError::Invalid("the archive would be too large".to_owned()))?;
    }
    let archive = Archive { rest: entries.into(), open: None, began: false, ended: false };
    Ok(Body::from_stream(Some(length), stream::try_unfold(archive, Archive::next)))
}

struct Archive {
    rest: VecDeque<Entry>,
    /// The entry that is being read, and how many bytes of its content are left.
    open: Option<(Entry, u64)>,
    began: bool,
    ended: bool,
}

impl Archive {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        if self.ended {
            return Ok(None);
        }
        if !self.began {
            self.began = true;
            let bytes = self.turn(0);
            return Ok(Some((bytes, self)));
        }
        let Some((entry, left)) = &mut self.open else {
            return Ok(None);
        };
        let chunk = loop {
            match entry.body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                other => break other.transpose()?,
            }
        };
        let bytes = match chunk {
            Some(chunk) => {
                *left = left.checked_sub(chunk.len() as u64).ok_or_else(|| too_long(entry))?;
                chunk
            }
            None if *left > 0 => return Err(BodyError::Truncated),
            // Only at its very end is it certain that the body is complete and valid.
            None => {
                let size = entry.size;
                self.turn(size)
            }
        };
        Ok(Some((bytes, self)))
    }

    /// The bytes between the end of a content of `size` bytes and the next content.
    fn turn(&mut self, size: u64) -> Bytes {
        let padding = size.next_multiple_of(BLOCK) - size;
        // Less than a block.
        let mut bytes = vec![0; usize::try_from(padding).unwrap_or_default()];
        self.open = self.rest.pop_front().map(|entry| {
            bytes.extend(head(&entry));
            let left = entry.size;
            (entry, left)
        });
        if self.open.is_none() {
            bytes.resize(bytes.len() + END, 0);
            self.ended = true;
        }
        bytes.into()
    }
}

fn too_long(entry: &Entry) -> BodyError {
    BodyError::Invalid(format!(
        "{} has more than the {} bytes that the archive was told",
        entry.path, entry.size
    ))
}

fn check_path(path: &str) -> Result<(), PipeError> {
    let what = if path.contains('\0') {
        "contains a zero byte"
    } else if path.starts_with('/') {
        "is not relative"
    } else if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        "is empty, or has a part that is empty, `.` or `..`"
    } else {
        return Ok(());
    };
    Err(PipeError::Invalid(format!("invalid path in an archive: {path:?} {what}")))
}

/// The header blocks of an entry.
fn head(entry: &Entry) -> Vec<u8> {
    let since = entry.modified.duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let path = entry.path.as_bytes();
    let is_plain = path.len() <= NAME && entry.size < OCTAL_LIMIT && seconds < OCTAL_LIMIT;
    let mut bytes = Vec::new();
    if path.len() > NAME {
        bytes = long_name(path);
    }
    let mut header = if is_plain { Header::new_ustar() } else { Header::new_gnu() };
    header.set_entry_type(EntryType::Regular);
    set_name(&mut header, path);
    header.set_size(entry.size);
    header.set_mode(entry.mode & 0o7777);
    header.set_mtime(seconds);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    bytes.extend(header.as_bytes());
    bytes
}

/// GNU's extension: an entry of its own, whose content is the next entry's path.
fn long_name(path: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    set_name(&mut header, b"././@LongLink");
    // The content ends with a zero byte.
    header.set_size(path.len() as u64 + 1);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(path);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(header.as_bytes().len()), 0);
    bytes
}

/// Writes as much of the path as fits. The crate's own setter would split and normalise it.
fn set_name(header: &mut Header, path: &[u8]) {
    let name = &mut header.as_old_mut().name;
    name.iter_mut().zip(path).for_each(|(to, from)| *to = *from);
}
