//! Buckets as stores of blobs: AWS S3, and servers that speak its protocol.
//!
//! [`S3Store`] keeps the promises of [`BlobStore`] with what S3 offers:
//!
//! - **A blob is an object** under its key, behind the store's prefix, with the blob's bytes and nothing else. Other
//!   programs can read it, and blobs of other programs can be read here.
//! - **All or nothing.** A body is received, hashed and checked before the request that makes it visible: the only
//!   one of a small body, the completion of one in parts (`put`, `commit`).
//! - **Conditions** are the server's own (`If-None-Match`, `If-Match`), so they hold between several gateways. What
//!   a server minds is found out when the store is opened ([`probe`]). Within a process, changes of one key take
//!   turns besides (`locks`), which makes reports of what changed exact.
//! - **Folders** are prefixes. One in which something was stored, or that was prepared, has an empty object named
//!   `.keepgate`, so that it stays when its last blob is removed (`folders`). Names with `.keepgate` are the
//!   gateway's: no key has one, and listings leave them out.
//! - **An etag** joins the server's etag and the time of the change, because S3's own comes from the bytes and would
//!   come back with them. See `repeats` for what happens within one second.
//!
//! Requests are repeated by the SDK, with growing and random pauses, within a budget of time. Then a call fails as
//! [`Unavailable`](keepgate_store::StoreError::Unavailable).

mod attributes;
mod claim;
mod commit;
mod concat;
mod delete;
mod folders;
mod identity;
mod list;
mod locks;
mod options;
mod parts;
mod probe;
mod put;
mod read;
mod remote;
mod repeats;
mod source;
mod sweep;

use std::sync::Arc;

use async_trait::async_trait;
use keepgate_store::{
    BlobStore, Body, DeleteOptions, Download, Folder, Info, Key, Listing, Part, Piece, PutOptions,
    Result, StoreError, Stored,
};
use tokio::sync::Semaphore;

pub use options::{Credentials, MIN_PART, S3Options};
pub use probe::{Capabilities, IfMatch};
pub use sweep::Swept;

use remote::{Failure, Object, Remote};

/// Longest name of an object in bytes.
const MAX_NAME: usize = 1024;

/// A bucket as a store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct S3Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    remote: Remote,
    capabilities: Capabilities,
    /// Ends with a slash unless it is empty.
    prefix: String,
    folders: folders::Known,
    locks: locks::KeyLocks,
    repeats: repeats::Repeats,
    identity: identity::Identity,
    /// Uploads in parts of this process.
    running: parts::Running,
    /// Memory of uploads, in KiB.
    memory: Arc<Semaphore>,
}

/// Why a bucket cannot be used as a store. The texts are for operators.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The options cannot work.
    #[error("{0}")]
    Options(String),
    /// The server cannot be reached or refuses, or there is no such bucket.
    #[error("{0}")]
    Unusable(String),
    /// The server's conditional writes are not atomic.
    #[error(
        "{place}: conditional writes are not atomic on this server, so two programs that write at the same time can \
         lose a blob; use another server, or make this gateway the only writer and say so with `single_writer`"
    )]
    NotAtomic {
        /// Bucket and endpoint.
        place: String,
    },
}

impl S3Store {
    /// Opens a bucket: finds out what it can do.
    ///
    /// # Errors
    ///
    /// If the bucket cannot be written to, or if its conditional writes are not atomic and
    /// [`single_writer`](S3Options::single_writer) is not set.
    pub async fn open(options: S3Options) -> Result<Self, OpenError> {
        if let Some(problem) = options.problem() {
            return Err(OpenError::Options(problem));
        }
        let place = options.place();
        let prefix = match options.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let memory = usize::try_from(options.memory / 1024).unwrap_or(usize::MAX);
        let single_writer = options.single_writer;
        let remote = Remote::new(options).await.map_err(OpenError::Options)?;
        let unusable = |failure| match failure {
            Failure::Refused(reason) | Failure::Unavailable(reason) => OpenError::Unusable(reason),
            other => OpenError::Unusable(format!("{place}: {}", remote.told(other))),
        };
        let folder = format!("{prefix}{}/probe", keepgate_store::key::RESERVED);
        let capabilities = Box::pin(probe::probe(&remote, &folder)).await.map_err(unusable)?;
        if !capabilities.can_be_shared() && !single_writer {
            return Err(OpenError::NotAtomic { place });
        }
        let identity = identity::Identity::find(&remote, &capabilities, &prefix);
        let identity = Box::pin(identity).await.map_err(unusable)?;
        let inner = Inner {
            remote,
            capabilities,
            prefix,
            folders: folders::Known::default(),
            locks: locks::KeyLocks::default(),
            repeats: repeats::Repeats::default(),
            identity,
            running: parts::Running::default(),
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the bucket can do, as found when it was opened.
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    /// Removes what killed gateways left: parts of uploads and claims that are old, and that a gateway wrote.
    ///
    /// # Errors
    ///
    /// If the server cannot be used at the moment. What was removed by then stays removed.
    pub async fn sweep(&self) -> Result<Swept> {
        Box::pin(sweep::sweep(&self.inner)).await
    }
}

impl Inner {
    /// The name of a blob's object.
    fn object(&self, key: &Key) -> Result<String> {
        let object = format!("{}{key}", self.prefix);
        if object.len() > MAX_NAME {
            return Err(StoreError::Invalid(format!(
                "key {key:?}: longer than {MAX_NAME} bytes with the store's prefix"
            )));
        }
        Ok(object)
    }

    /// The name of one of the gateway's own objects.
    fn own(&self, name: &str) -> String {
        format!("{}{}/{name}", self.prefix, keepgate_store::key::RESERVED)
    }

    /// What the caller of the store is told about a failed request.
    fn told(&self, failure: Failure) -> StoreError {
        if let Failure::Unavailable(_) = failure {
            self.identity.doubt();
        }
        self.remote.told(failure)
    }

    async fn look(&self, object: &str) -> Result<Option<Object>> {
        self.remote.head(object).await.map_err(|failure| self.told(failure))
    }

    /// What a store tells of an object.
    async fn info(&self, key: &Key, object: &Object) -> Result<Info> {
        let tags = match attributes::tags(&object.metadata) {
            attributes::Tags::Known(tags) => tags,
            attributes::Tags::Ask { order } => {
                let mut tags = self
                    .remote
                    .tags(&self.object(key)?)
                    .await
                    .map_err(|failure| self.told(failure))?;
                tags.sort();
                attributes::ordered(tags, Some(&order))
            }
        };
        Ok(Info {
            key: key.clone(),
            size: object.size,
            modified: object.modified(),
            etag: object.store_etag(),
            content_type: attributes::content_type(
                object.content_type.as_deref(),
                &object.metadata,
            ),
            metadata: attributes::fields(&object.metadata),
            tags,
        })
    }
}

#[async_trait]
impl BlobStore for S3Store {
    async fn head(&self, key: &Key) -> Result<Info> {
        let object = self.inner.object(key)?;
        let found = self.inner.look(&object).await?.ok_or(StoreError::NotFound)?;
        self.inner.info(key, &found).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        Box::pin(read::get(&self.inner, key, part)).await
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        Box::pin(put::put(&self.inner, key, body, options)).await
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        Box::pin(concat::concat(&self.inner, key, pieces, options)).await
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        let (store, key) = (Arc::clone(&self.inner), key.clone());
        commit::to_its_end(async move { delete::delete(&store, &key, options).await }).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        Box::pin(list::list(&self.inner, folder, recursive, after)).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        Box::pin(self.inner.prepare(folders)).await
    }

    async fn check_metadata(&self) -> Result<()> {
        // Every server keeps them; the probe would have failed otherwise.
        Ok(())
    }

    async fn epoch(&self) -> Result<u64> {
        self.inner.epoch().await
    }
}
