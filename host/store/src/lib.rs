//! Stores of blobs: byte strings that are written once and read by name.
//!
//! This crate depends on neither HTTP nor WebAssembly and could be published on its own. Start at
//! [`BlobStore`], the trait that every store implements and every policy wraps.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`body`] | streams of bytes, from a socket to a disk or back |
//! | [`key`] | names of blobs and folders, validated once when they are made |
//! | [`error`] | why a store refused a call |
//! | [`disk`] | a directory as a store: durable, all or nothing |
//! | [`memory`] | a store in memory, for tests |
//! | [`layer`] | what a policy around a store has to decide, and forwarding for the rest |
//! | [`guard`] | policies: append-only, read-only, unverified; a subfolder as a store |
//! | [`quota`] | limits on the bytes that a store, its folders and its users hold |
//! | [`expiry`] | blobs that expire: markers, removing them |
//! | [`clock`] | what time it is, for blobs that expire or are retained |
//! | [`receive`] | keeping what came of a body that broke off |
//! | [`commit_observer`] | callbacks at the very step that changes a blob |

pub mod body;
pub mod clock;
pub mod commit_observer;
pub mod disk;
pub mod error;
pub mod expiry;
pub mod guard;
pub mod key;
pub mod layer;
pub mod memory;
pub mod quota;
pub mod receive;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

pub use body::{Body, BodyError};
pub use clock::Clock;
pub use commit_observer::{
    CommitObserver, CommittedChange, FolderObserver, ObserverHandle, RemovedBlob,
};
pub use error::{Result, StoreError};
pub use expiry::Due;
pub use key::{Folder, Key};

/// Names of the gateway's own metadata begin with this, in any letter case. Code that hands a store
/// to an untrusted party must hide such names from it and refuse to store them for it.
pub const RESERVED_METADATA: &str = "keepgate-";

/// Whether this is the name of the gateway's own metadata. The case is ignored because some
/// protocols change it.
pub fn is_reserved_metadata(name: &str) -> bool {
    let start = name.as_bytes().get(..RESERVED_METADATA.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_METADATA.as_bytes()))
}

/// Pairs of name and value stored with a blob, in order.
pub type Fields = Vec<(String, String)>;

/// A store of blobs.
///
/// Every method may be cancelled by dropping its future. Whatever had not begun to be committed by
/// then leaves no trace, and a commit that has begun runs to its end.
///
/// To add a method, add it here, to the forwarding in [`layer`] and to the stores; see there how
/// the policies come to apply to it.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug + 'static {
    /// What the store knows about one blob.
    async fn head(&self, key: &Key) -> Result<Info>;

    /// The same, but also of a blob that has expired and is not removed yet: of whatever takes up space.
    async fn head_any(&self, key: &Key) -> Result<Info> {
        self.head(key).await
    }

    /// Opens one blob, or a part of it. [`StoreError::OutOfRange`] if the part contains no byte of
    /// the blob.
    async fn get(&self, key: &Key, part: Part) -> Result<Download>;

    /// Stores a body under a key: durable when it returns, all of it or nothing.
    ///
    /// With [`Condition::Absent`], a key that is taken fails before the body is read.
    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored>;

    /// Joins pieces of blobs into a new blob, in order, with the guarantees of [`put`](Self::put).
    /// The source blobs stay. [`StoreError::OutOfRange`] if a piece contains no byte of its blob.
    /// Before a byte is moved, the observer in the options must
    /// [admit](CommitObserver::admit) the sum of the pieces' lengths.
    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored>;

    /// Moves a blob to another key, with everything that is kept with it; durable when it returns.
    /// [`StoreError::NotFound`] if there is none. A folder that its last blob leaves stays. The etag
    /// and the time of the moved blob may be new ones.
    ///
    /// A store that can moves it in one step. Another one copies it and then removes what it has
    /// copied, if it is still the same; if it is not, the copy goes again, unless it replaced a blob.
    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored>;

    /// Removes one blob, durably. Returns the size in bytes of the blob that this very call
    /// removed, or none if there was none.
    async fn delete(&self, key: &Key) -> Result<Option<u64>> {
        self.delete_with(key, DeleteOptions::default()).await
    }

    /// Like [`delete`](Self::delete), with a condition or an observer.
    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>>;

    /// Markers of blobs that may have expired, in the order of their names, after one of that name; at
    /// most so many, and none at the end. See [`expiry`]. Only of a whole store.
    async fn due(&self, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
        let _ = (after, max);
        Ok(Vec::new())
    }

    /// Removes the blob of a marker if it has expired, durably, and then the marker. Returns the size
    /// in bytes of the blob that this very call removed.
    async fn expire(&self, due: &Due, options: DeleteOptions) -> Result<Option<u64>> {
        let _ = (due, options);
        Ok(None)
    }

    /// The blobs below a folder, sorted by the bytes of their keys; see [`Listing`].
    /// [`StoreError::NotFound`] if a disk has no such folder.
    async fn list(&self, folder: &Folder, recursive: bool) -> Result<Box<dyn Listing>> {
        self.list_after(folder, recursive, None).await
    }

    /// Like [`list`](Self::list), but only what comes after `after`: a name relative to the store,
    /// compared with [sort keys](Entry::sort_key). Any text will do; it need not name anything.
    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>>;

    /// Makes folders and their parents, ready to hold blobs; durable when it returns.
    async fn prepare(&self, folders: &[Folder]) -> Result<()>;

    /// Like [`prepare`](Self::prepare). A disk tells the observer which folders it has made, and holds it as long as it
    /// may make more.
    async fn prepare_with(
        &self,
        folders: &[Folder],
        observer: Option<Arc<dyn FolderObserver>>,
    ) -> Result<()> {
        let _observer = observer;
        self.prepare(folders).await
    }

    /// Calls `found` with each folder of a disk below this one, in no order. A store in which folders take up no space
    /// has none.
    async fn each_folder(&self, below: &Folder, found: FolderVisitor) -> Result<()> {
        let _ = (below, found);
        Ok(())
    }

    /// How many markers of blobs that expire are on a disk. Only of a whole store.
    async fn markers(&self) -> Result<u64> {
        Ok(0)
    }

    /// [`StoreError::Unsupported`] if this store cannot keep metadata with blobs.
    async fn check_metadata(&self) -> Result<()>;

    /// A number that changes when the store becomes another one: a disk was mounted over a folder, or
    /// swapped. What was learnt about the blobs before says nothing about those that are there now.
    async fn epoch(&self) -> Result<u64> {
        Ok(0)
    }
}

/// Is called with the names of folders.
pub type FolderVisitor = Arc<dyn Fn(&str) + Send + Sync>;

/// A listing in progress. It leaves out entries that vanish while it runs, and never fails because
/// of them.
#[async_trait]
pub trait Listing: Send {
    /// The next entries, `max` at most; an empty list means the end.
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>>;
}

/// What a store knows about one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The blob's key.
    pub key: Key,
    /// Size in bytes.
    pub size: u64,
    /// When it was stored.
    pub modified: SystemTime,
    /// Changes whenever the blob does. Opaque, without quotes.
    pub etag: String,
    /// As given to `put`.
    pub content_type: Option<String>,
    /// As given to `put`.
    pub metadata: Fields,
    /// As given to `put`.
    pub tags: Fields,
    /// As given to `put`. There is no blob any more from then on.
    pub expires: Option<SystemTime>,
}

/// The blob that `put` or `concat` leaves under its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the store knows about it.
    pub info: Info,
    /// What this very call changed. Exact, even if several calls write to one key at once.
    pub change: Change,
}

/// What one call changed under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was no blob before.
    Created,
    /// It replaced another blob.
    Replaced {
        /// Size in bytes of the blob that was replaced.
        size: u64,
    },
    /// Nothing: a blob with the same bytes was there.
    Unchanged,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the store, without a trailing slash even for a folder.
    pub key: String,
    /// Size in bytes; 0 for a folder.
    pub size: u64,
    /// When it was stored.
    pub modified: SystemTime,
    /// As in [`Info`]; empty for a folder.
    pub etag: String,
    /// Whether this is a folder. Only listings that are not recursive contain folders.
    pub folder: bool,
}

impl Entry {
    /// What listings are sorted by, byte for byte: the key, with a slash appended for a folder.
    pub fn sort_key(&self) -> Cow<'_, str> {
        if self.folder { format!("{}/", self.key).into() } else { self.key.as_str().into() }
    }
}

/// A part of a blob, for [`BlobStore::concat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The blob.
    pub key: Key,
    /// Which of its bytes.
    pub part: Part,
}

impl From<Key> for Piece {
    /// The whole blob.
    fn from(key: Key) -> Self {
        Self { key, part: Part::Whole }
    }
}

/// Which bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    Whole,
    /// From an offset on; up to the blob's end if the length is missing or reaches past it.
    Slice {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: Option<u64>,
    },
    /// The last bytes, this many; the whole blob if it is shorter.
    Suffix(u64),
}

/// A blob, or a part of it, opened for reading.
#[derive(Debug)]
pub struct Download {
    /// What the store knows about the whole blob.
    pub info: Info,
    /// Where `body` starts within the blob.
    pub offset: u64,
    /// The number of bytes in `body`.
    pub length: u64,
    /// The bytes.
    pub body: Body,
}

/// What must hold for `put` to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: an existing blob is replaced.
    #[default]
    Always,
    /// There is no blob; otherwise [`StoreError::AlreadyExists`].
    Absent,
    /// There is no blob, or one with exactly these bytes, in which case nothing is written and the
    /// call succeeds. [`StoreError::AlreadyExists`] if there is another blob.
    AbsentOrIdentical,
    /// There is a blob with this etag; otherwise [`StoreError::PreconditionFailed`].
    Matches(String),
}

/// How to store a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// What must hold for the call to write.
    pub condition: Condition,
    /// SHA-256 that the bytes must have; otherwise [`StoreError::ChecksumMismatch`].
    pub sha256: Option<[u8; 32]>,
    /// Stored with the blob.
    pub content_type: Option<String>,
    /// Stored with the blob.
    pub metadata: Fields,
    /// Stored with the blob.
    pub tags: Fields,
    /// From then on there is no blob any more: it is not found, no condition minds it, and it is
    /// removed within an hour. Listings may name it until then. See [`expiry`].
    pub expires: Option<SystemTime>,
    /// Observes the commit; see [`commit_observer`]. Layers pass it on.
    pub observer: Option<ObserverHandle>,
}

/// How to move a blob to another key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenameOptions {
    /// What must hold for the new key. Bytes are not compared, so
    /// [`AbsentOrIdentical`](Condition::AbsentOrIdentical) is [`StoreError::Invalid`].
    pub condition: Condition,
    /// Observes what happens to the new key; see [`commit_observer`]. Layers pass it on.
    pub comes: Option<ObserverHandle>,
    /// Observes what happens to the old key.
    pub goes: Option<ObserverHandle>,
}

impl RenameOptions {
    /// What no store does. Each of them begins with this.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if both keys are the same, or if bytes would have to be compared.
    pub fn check(&self, key: &Key, to: &Key) -> Result<()> {
        if key == to {
            return Err(StoreError::Invalid(format!("{key} cannot be renamed to itself")));
        }
        if self.condition == Condition::AbsentOrIdentical {
            return Err(StoreError::Invalid(
                "a rename takes the conditions `always`, `absent` and `matches`: it compares no bytes"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// How to remove a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// The blob must have this etag; [`StoreError::PreconditionFailed`] if it has another one or if
    /// there is no blob.
    pub matches: Option<String>,
    /// Observes the commit; see [`commit_observer`]. Layers pass it on.
    pub observer: Option<ObserverHandle>,
}

impl DeleteOptions {
    /// Fails if an etag is required and the blob, if there is one, does not have it.
    fn check(&self, there: Option<&str>) -> Result<()> {
        match &self.matches {
            Some(etag) if there != Some(etag) => Err(StoreError::PreconditionFailed),
            _ => Ok(()),
        }
    }
}

impl Part {
    /// Offset and length of this part in a blob of `size` bytes, clamped to the blob's end. `None` if
    /// no byte of the part is in the blob: a slice or a suffix of length zero is in no blob.
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
