//! What a file itself tells of its blob: its facts as an [`Info`], its etag, and what `put` was
//! given to keep with it, as one JSON document in the extended attribute `user.keepgate`. The
//! attribute's fields may be added to, never renamed: blobs written years ago have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Statx, StatxTimestamp, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Inner;
use super::{fault, upload};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Fields, Gone, Info, PutOptions};

const ATTRIBUTE: &str = "user.keepgate";
/// Linux's own limit of an attribute, in bytes.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// What is kept with a blob besides its bytes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Fields,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Fields,
}

impl Kept {
    /// What `put` was given.
    pub(super) fn of(options: &PutOptions) -> Self {
        Self {
            content_type: options.content_type.clone(),
            metadata: options.metadata.clone(),
            tags: options.tags.clone(),
        }
    }

    /// Something to find out with whether anything can be kept.
    pub(super) fn sample() -> Self {
        Self { content_type: Some("text/plain".to_owned()), ..Self::default() }
    }

    /// Writes it to a file that has no name yet, so that both appear together. Nothing is
    /// written where there is nothing to keep.
    pub(super) fn write(&self, store: &Inner, name: &str, file: impl AsFd) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let path = || store.tree.path_of(name);
        let json = serde_json::to_vec(self)
            .map_err(|error| fault::io("writing the metadata of", path(), error))?;
        let too_large = || {
            Err(StoreError::Invalid(format!(
                "{name}: content type, metadata and tags have {} bytes together, more than the \
                 file system can keep with a blob",
                json.len()
            )))
        };
        match rustix::fs::fsetxattr(&file, ATTRIBUTE, &json, XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::NOSYS) => Err(StoreError::Unsupported(
                "the file system below the store cannot keep a content type, metadata or tags \
                 with a blob: it has no user extended attributes"
                    .to_owned(),
            )),
            Err(Errno::TOOBIG | Errno::RANGE) => too_large(),
            // ext4 and others say "no space" of an attribute that does not fit its place.
            Err(Errno::NOSPC) if has_space(&file) => too_large(),
            Err(errno) => Err(fault::io("writing the metadata of", path(), errno)),
        }
    }

    /// Reads it from a file; empty where it has none.
    fn read(store: &Inner, name: &str, file: impl AsFd) -> Result<Self> {
        let mut small = [0; 1024];
        let mut large = Vec::new();
        let json = match rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut small) {
            Ok(length) => small.get(..length).unwrap_or_default(),
            Err(Errno::RANGE) => {
                large.resize(MAX_ATTRIBUTE, 0);
                match rustix::fs::fgetxattr(&file, ATTRIBUTE, large.as_mut_slice()) {
                    Ok(length) => large.get(..length).unwrap_or_default(),
                    Err(errno) => return Err(unreadable(store, name, errno)),
                }
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Self::default()),
            Err(errno) => return Err(unreadable(store, name, errno)),
        };
        serde_json::from_slice(json).or_else(|error| {
            tracing::warn!(
                path = %store.tree.path_of(name).display(), %error,
                "the attribute {ATTRIBUTE} is not what this program writes; taken as absent"
            );
            Ok(Self::default())
        })
    }
}

/// What is known of a blob whose file is open.
pub(super) fn info(store: &Inner, key: &Key, file: impl AsFd, facts: &Statx) -> Result<Info> {
    let kept = Kept::read(store, key.as_str(), file)?;
    Ok(Info {
        key: key.clone(),
        size: facts.stx_size,
        modified: time(&facts.stx_mtime),
        etag: etag(facts),
        content_type: kept.content_type,
        metadata: kept.metadata,
        tags: kept.tags,
    })
}

/// What is to be remembered of a blob that is about to go. Of one whose metadata cannot be read
/// the size is: nobody shall be kept from deleting it.
pub(super) fn gone(store: &Inner, dir: &OwnedFd, key: &Key, facts: &Statx, all: bool) -> Gone {
    let read = || {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, upload::last(key), flags, Mode::empty())
            .map_err(|errno| unreadable(store, key.as_str(), errno))?;
        Kept::read(store, key.as_str(), file)
    };
    let kept = if all { read() } else { Ok(Kept::default()) };
    let metadata = kept.map(|kept| kept.metadata).unwrap_or_else(|error| {
        tracing::warn!(%key, %error, "the metadata of a blob that goes cannot be read");
        Vec::new()
    });
    Gone { size: facts.stx_size, metadata }
}

/// Another one for every blob ever stored under a key: inode numbers come again, but not together
/// with the nanosecond that [`Temp::finish`](super::temp::Temp::finish) gives a file.
pub(super) fn etag(facts: &Statx) -> String {
    let modified = &facts.stx_mtime;
    format!("{:x}-{:x}-{:x}.{:x}", facts.stx_ino, facts.stx_size, modified.tv_sec, modified.tv_nsec)
}

/// A file's time.
pub(super) fn time(stamp: &StatxTimestamp) -> SystemTime {
    let seconds = Duration::from_secs(stamp.tv_sec.unsigned_abs());
    let whole = if stamp.tv_sec < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(stamp.tv_nsec.into())))
        .unwrap_or(UNIX_EPOCH)
}

fn has_space(file: impl AsFd) -> bool {
    rustix::fs::fstatvfs(file).is_ok_and(|facts| facts.f_bavail > 0 && facts.f_favail > 0)
}

fn unreadable(store: &Inner, name: &str, errno: Errno) -> StoreError {
    fault::io("reading the metadata of", store.tree.path_of(name), errno)
}
