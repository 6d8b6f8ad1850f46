//! What a file says about its blob: [`Info`] and etag from its metadata, and what `put` stored with
//! it as one JSON document in the extended attribute `user.keepgate`. Fields may be added to the
//! attribute but never renamed, because blobs written years ago have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, Statx, StatxTimestamp, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::readers::FileId;
use super::tree::{Dir, Tree};
use super::{errors, steps};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Clock, expiry};
use crate::{Fields, Info, PutOptions, RemovedBlob};

const ATTRIBUTE: &str = "user.keepgate";
/// The limit that Linux sets for an attribute, in bytes.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// What is stored with a blob besides its bytes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Fields,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Fields,
    /// Nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

impl Attributes {
    /// The attributes given to `put`.
    pub(super) fn of(options: &PutOptions) -> Self {
        Self {
            content_type: options.content_type.clone(),
            metadata: options.metadata.clone(),
            tags: options.tags.clone(),
            expires: options.expires.map(expiry::nanoseconds),
        }
    }

    /// A sample to find out whether the file system can store attributes.
    pub(super) fn sample() -> Self {
        Self { content_type: Some("text/plain".to_owned()), ..Self::default() }
    }

    /// Writes them to a file that has no name yet, so that the bytes and the attributes appear
    /// together. Writes nothing if they are empty.
    pub(super) fn write(&self, tree: &Tree, name: &str, file: impl AsFd) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let path = || tree.path_of(name);
        let json = serde_json::to_vec(self)
            .map_err(|error| errors::io("cannot write the metadata of", path(), error))?;
        let too_large = || {
            Err(StoreError::Invalid(format!(
                "{name}: content type, metadata and tags have {} bytes together, more than the \
                 file system can keep with a blob",
                json.len()
            )))
        };
        match rustix::fs::fsetxattr(&file, ATTRIBUTE, &json, XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::TOOBIG | Errno::RANGE) => too_large(),
            Err(errno) if steps::lacks_attributes(errno, tree.known.local) => {
                Err(StoreError::Unsupported(
                    "the file system below the store cannot keep a content type, metadata, tags or an \
                     expiry with a blob: it has no user extended attributes"
                        .to_owned(),
                ))
            }
            // ext4 and others report "no space" if an attribute does not fit into its place.
            Err(Errno::NOSPC) if has_space(&file) => too_large(),
            Err(errno) => Err(errors::io("cannot write the metadata of", path(), errno)),
        }
    }

    /// Reads them from a file; empty if it has none.
    fn read(tree: &Tree, name: &str, file: impl AsFd) -> Result<Self> {
        let mut small = [0; 1024];
        let mut large = Vec::new();
        let json = match rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut small) {
            Ok(length) => small.get(..length).unwrap_or_default(),
            Err(Errno::RANGE) => {
                large.resize(MAX_ATTRIBUTE, 0);
                match rustix::fs::fgetxattr(&file, ATTRIBUTE, large.as_mut_slice()) {
                    Ok(length) => large.get(..length).unwrap_or_default(),
                    Err(errno) => return Err(unreadable(tree, name, errno)),
                }
            }
            Err(Errno::NODATA) => return Ok(Self::default()),
            Err(errno) if steps::lacks_attributes(errno, tree.known.local) => {
                return Ok(Self::default());
            }
            Err(errno) => return Err(unreadable(tree, name, errno)),
        };
        serde_json::from_slice(json).or_else(|error| {
            tracing::warn!(
                file = %tree.path_of(name).display(), attribute = ATTRIBUTE, %error,
                "attribute ignored; keepgate did not write it"
            );
            Ok(Self::default())
        })
    }
}

/// What is known about a blob whose file is open.
pub(super) fn info(tree: &Tree, key: &Key, file: impl AsFd, stat: &Statx) -> Result<Info> {
    let kept = Attributes::read(tree, key.as_str(), file)?;
    Ok(Info {
        key: key.clone(),
        size: stat.stx_size,
        modified: time(&stat.stx_mtime),
        etag: etag(stat),
        content_type: kept.content_type,
        metadata: kept.metadata,
        tags: kept.tags,
        expires: kept.expires.map(expiry::time),
    })
}

/// A blob that is about to be removed.
#[derive(Debug)]
pub(super) struct Gone {
    /// What the commit observer is told.
    pub(super) blob: RemovedBlob,
    pub(super) file: FileId,
    /// Whether it has expired, so that to its store's callers it is not there.
    pub(super) expired: bool,
}

/// Looks at a blob that may be removed; at its metadata only if `all` is asked for. If it cannot be read,
/// its size is still reported, because that must not keep anybody from deleting it.
pub(super) fn gone(
    tree: &Tree,
    dir: &Dir,
    key: &Key,
    (stat, clock): (&Statx, &Clock),
    all: bool,
) -> Gone {
    let read = || {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if !tree.follow {
            flags |= OFlags::NOFOLLOW;
        }
        let file = rustix::fs::openat(dir, key.name(), flags, Mode::empty())
            .map_err(|errno| unreadable(tree, key.as_str(), errno))?;
        Attributes::read(tree, key.as_str(), file)
    };
    let kept = read().unwrap_or_else(|error| {
        tracing::warn!(%key, %error, "cannot read the metadata of a blob to be removed");
        Attributes::default()
    });
    let expired = clock.has_passed(kept.expires.map(expiry::time));
    let metadata = if all { kept.metadata } else { Vec::new() };
    let blob = RemovedBlob { size: stat.stx_size, metadata };
    Gone { blob, file: FileId::of(stat), expired }
}

/// Unique among all blobs ever stored under a key: inode numbers are reused, but not together with
/// the nanosecond that [`Temp::finish`](super::temp::Temp::finish) gives a file.
pub(super) fn etag(stat: &Statx) -> String {
    let modified = &stat.stx_mtime;
    format!("{:x}-{:x}-{:x}.{:x}", stat.stx_ino, stat.stx_size, modified.tv_sec, modified.tv_nsec)
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
    rustix::fs::fstatvfs(file).is_ok_and(|stat| stat.f_bavail > 0 && stat.f_favail > 0)
}

fn unreadable(tree: &Tree, name: &str, errno: Errno) -> StoreError {
    errors::io("cannot read the metadata of", tree.path_of(name), errno)
}
