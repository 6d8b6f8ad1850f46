//! Archives of files in tar's format: what every `tar` of the last decades reads, and the same bytes
//! for the same entries.
//!
//! Heads are POSIX's (ustar). GNU's are taken where those cannot say it: paths over 100 bytes, files
//! of 8 GiB and more, times beyond the year 2242.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use tar::{EntryType, Header};

use crate::PipeError;

/// The unit that archives consist of, in bytes.
const BLOCK: u64 = 512;
/// An archive ends with two blocks of zeros.
const END: usize = 1024;
/// Paths longer than this have blocks of their own.
const NAME: usize = 100;
/// The first number that eleven octal digits cannot hold.
const OCTAL_LIMIT: u64 = 1 << 33;

/// A regular file in an archive.
#[derive(Debug)]
pub struct Entry {
    /// Relative, of segments that are neither empty nor `.` nor `..`.
    pub path: String,
    /// Bytes; the body must have exactly so many.
    pub size: u64,
    /// Permissions, as in 0o600; other bits are left out.
    pub mode: u32,
    /// Kept to the second; what lies before 1970 becomes its first moment.
    pub modified: SystemTime,
    /// The content.
    pub body: Body,
}

/// An archive of files, in order, owned by nobody in particular. Its length is known. Bodies are
/// read one after the other, each once the archive has come to it.
///
/// # Errors
///
/// [`PipeError::Invalid`] for a path that is none, or more bytes than 64 bits can count. Reading the
/// result fails with [`BodyError::Truncated`] where a body is shorter than its entry says, with
/// [`BodyError::Invalid`] where it is longer, and else as reading the bodies does.
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
    /// The entry whose content is on its way, with the bytes that are still to come.
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
            // Only now: a body may turn out to be wrong at its very end.
            None => {
                let size = entry.size;
                self.turn(size)
            }
        };
        Ok(Some((bytes, self)))
    }

    /// What lies between the content of `size` bytes that has ended and the next.
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
        "{} was announced to the archive with {} bytes, and more came",
        entry.path, entry.size
    ))
}

fn check_path(path: &str) -> Result<(), PipeError> {
    let what = if path.contains('\0') {
        "holds a zero byte"
    } else if path.starts_with('/') {
        "is not relative"
    } else if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        "is empty, or a part of it is, or is `.` or `..`"
    } else {
        return Ok(());
    };
    Err(PipeError::Invalid(format!("no file in an archive can be {path:?}: the path {what}")))
}

/// The blocks before an entry's content.
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

/// GNU's way: an entry of its own, whose content is the next entry's path.
fn long_name(path: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    set_name(&mut header, b"././@LongLink");
    // The content ends with a zero.
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

/// As much of the path as there is room for. The crate's own setter would split and normalize it.
fn set_name(header: &mut Header, path: &[u8]) {
    let name = &mut header.as_old_mut().name;
    name.iter_mut().zip(path).for_each(|(to, from)| *to = *from);
}
