//! Blobs: named, immutable-once-written byte strings, and the places that keep them.
//!
//! This crate knows no HTTP and no WebAssembly; it could be published alone. Start at
//! [`BlobStore`], the trait that every kind of store implements and every guard wraps.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`body`] | bytes on their way: from a socket to a disk, or back |
//! | [`key`] | names of blobs and folders, checked once, where they enter |
//! | [`error`] | why a store refused |
//! | [`disk`] | a directory as a store: durable, all or nothing |
//! | [`memory`] | a store for tests |
//! | [`guard`] | policy around any store: append-only, read-only; a subfolder as a store |
//! | [`quota`] | limits on how many bytes a store, its folders and its users hold |
//! | [`witness`] | told of a change at the very step that makes it |

pub mod body;
pub mod disk;
pub mod error;
pub mod guard;
pub mod key;
pub mod memory;
pub mod quota;
pub mod witness;

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;

pub use body::{Body, BodyError};
pub use error::{Result, StoreError};
pub use key::{Folder, Key};
pub use witness::{Changed, Gone, Observer, Witness};

/// What the names of the gateway's own metadata begin with, in any letter case. Whoever hands a store
/// to somebody who is not trusted keeps such names from them, both ways.
pub const RESERVED_METADATA: &str = "keepgate-";

/// Whether this is the name of the gateway's own metadata. Protocols fold names as they like.
pub fn is_reserved_metadata(name: &str) -> bool {
    let start = name.as_bytes().get(..RESERVED_METADATA.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_METADATA.as_bytes()))
}

/// Pairs of name and value kept with a blob, in order.
pub type Fields = Vec<(String, String)>;

/// A place that keeps blobs.
///
/// Every method may be dropped at any await point: what had not begun to be committed by then
/// leaves no trace, and a commit that has begun finishes.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug + 'static {
    /// What is known of one blob.
    async fn head(&self, key: &Key) -> Result<Info>;

    /// Opens one blob, or a part of it. [`StoreError::OutOfRange`] where no byte of the asked
    /// part is inside the blob.
    async fn get(&self, key: &Key, part: Part) -> Result<Download>;

    /// Stores a body under a key: durable when it returns, all of it or nothing.
    ///
    /// With [`Condition::Absent`] a taken key fails before the body is read.
    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored>;

    /// Joins pieces of blobs into one, in order, with the guarantees of [`put`](Self::put). The
    /// blobs that they are of stay. [`StoreError::OutOfRange`] where no byte of a piece is inside
    /// its blob. Before a byte is moved, the witness in the options must [admit](Witness::admit)
    /// the sum of the pieces' lengths.
    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored>;

    /// Removes one blob, durably; the size in bytes of the blob that this very call removed, none
    /// where none was there.
    async fn delete(&self, key: &Key) -> Result<Option<u64>> {
        self.delete_with(key, DeleteOptions::default()).await
    }

    /// As [`delete`](Self::delete), on a condition or before a witness's eyes.
    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>>;

    /// Blobs below a folder, ascending by the bytes of their keys; see [`Listing`].
    /// [`StoreError::NotFound`] where a disk has no such folder.
    async fn list(&self, folder: &Folder, recursive: bool) -> Result<Box<dyn Listing>> {
        self.list_after(folder, recursive, None).await
    }

    /// As [`list`](Self::list), without what comes up to `after`: a name relative to the store, as
    /// in an [entry's place](Entry::place). Any text will do; it need not name anything.
    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>>;

    /// Makes folders, with their parents, ready to hold blobs; durable when it returns.
    async fn prepare(&self, folders: &[Folder]) -> Result<()>;

    /// [`StoreError::Unsupported`] where blobs cannot have metadata here.
    async fn check_metadata(&self) -> Result<()>;
}

/// A listing under way. Entries that vanish while it runs are left out; it never fails because
/// of them.
#[async_trait]
pub trait Listing: Send {
    /// The next entries, `max` at most; an empty list is the end.
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>>;
}

/// What is known of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its key.
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// When it was stored.
    pub modified: SystemTime,
    /// Changes whenever the blob does. Opaque, without quotes.
    pub etag: String,
    /// What `put` was given.
    pub content_type: Option<String>,
    /// What `put` was given.
    pub metadata: Fields,
    /// What `put` was given.
    pub tags: Fields,
}

/// A blob that `put` or `concat` was asked for, as it is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What is known of it.
    pub info: Info,
    /// What this very call changed, exactly, also where several write to one key at once.
    pub change: Change,
}

/// What one call changed under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No blob was there.
    Created,
    /// Another blob was there.
    Replaced {
        /// Bytes of the blob that was there.
        size: u64,
    },
    /// Nothing: the same bytes were there.
    Unchanged,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the store, without a trailing slash even for a folder.
    pub key: String,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// When it was stored.
    pub modified: SystemTime,
    /// As in [`Info`]; empty for a folder.
    pub etag: String,
    /// True for a folder, which only listings that are not recursive name.
    pub folder: bool,
}

impl Entry {
    /// What listings are sorted by, byte for byte: its key, behind which a folder has a slash.
    pub fn place(&self) -> Cow<'_, str> {
        if self.folder { format!("{}/", self.key).into() } else { self.key.as_str().into() }
    }
}

/// A part of a blob that [`BlobStore::concat`] joins with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of the blob.
    pub key: Key,
    /// Which of its bytes.
    pub part: Part,
}

impl From<Key> for Piece {
    /// All of a blob.
    fn from(key: Key) -> Self {
        Self { key, part: Part::Whole }
    }
}

/// Which bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    Whole,
    /// From an offset on; without a length, or past the end, up to the end.
    Slice {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: Option<u64>,
    },
    /// The last so many bytes; all of them where the blob is shorter.
    Suffix(u64),
}

/// A blob, or a part of it, opened for reading.
#[derive(Debug)]
pub struct Download {
    /// What is known of the whole blob.
    pub info: Info,
    /// Where `body` starts within the blob.
    pub offset: u64,
    /// How many bytes `body` has.
    pub length: u64,
    /// The bytes.
    pub body: Body,
}

/// What must hold of the key for `put` to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: a blob that is there is replaced.
    #[default]
    Always,
    /// No blob is there; else [`StoreError::AlreadyExists`].
    Absent,
    /// No blob is there, or one with exactly these bytes; then nothing is written and the call
    /// succeeds. Another blob: [`StoreError::AlreadyExists`].
    AbsentOrIdentical,
    /// The blob that is there has this etag; else [`StoreError::PreconditionFailed`].
    Matches(String),
}

/// How to store a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// What must hold of the key.
    pub condition: Condition,
    /// SHA-256 that the bytes must have; else [`StoreError::ChecksumMismatch`].
    pub sha256: Option<[u8; 32]>,
    /// Kept with the blob.
    pub content_type: Option<String>,
    /// Kept with the blob.
    pub metadata: Fields,
    /// Kept with the blob.
    pub tags: Fields,
    /// Told of the change; see [`witness`]. Guards pass it on.
    pub witness: Option<Observer>,
}

/// How to remove a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// The blob that is there must have this etag; else, also where none is there,
    /// [`StoreError::PreconditionFailed`].
    pub matches: Option<String>,
    /// Told of the change; see [`witness`]. Guards pass it on.
    pub witness: Option<Observer>,
}

impl DeleteOptions {
    /// Fails where the blob that is there has another etag than the one that must match, or where
    /// none is there.
    fn check(&self, there: Option<&str>) -> Result<()> {
        match &self.matches {
            Some(etag) if there != Some(etag) => Err(StoreError::PreconditionFailed),
            _ => Ok(()),
        }
    }
}

impl Part {
    /// Offset and length of this part within a blob of `size` bytes, clamped to its end; none
    /// where no byte of it is inside. A suffix of nothing and a slice of no length are not
    /// inside any blob.
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        match self {
            Self::Whole => Some((0, size)),
            Self::Slice { offset, length } => {
                let rest = size.checked_sub(offset).filter(|rest| *rest > 0)?;
                let length = length.unwrap_or(rest).min(rest);
                (length > 0).then_some((offset, length))
            }
            Self::Suffix(length) => {
                let length = length.min(size);
                (length > 0).then_some((size - length, length))
            }
        }
    }
}

#[cfg(test)]
mod properties;
