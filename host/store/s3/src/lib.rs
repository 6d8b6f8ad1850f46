//! Buckets as stores of blobs: AWS S3, and servers that speak its protocol.
//!
//! [`S3Store`] keeps the promises of [`BlobStore`] with what S3 offers:
//!
//! - **A blob is an object** under its key, behind the store's prefix, with the blob's bytes and nothing else. Other
//!   programs can read it, and blobs of other programs can be read here.
//! - **All or nothing.** A body is received, hashed and checked before the request that makes it visible: the only
//!   one of a small body, the completion of one in parts (`put`, `commit`).
//! - **Conditions** are the server's own (`If-None-Match`, `If-Match`), so they hold between several gateways. What
//!   a server minds is found out when the store is opened (`probe`). Within a process, changes of one key take
//!   turns besides (`locks`), which makes reports of what changed exact; among gateways too, if the server's conditions
//!   do not do (`turns`).
//! - **Folders** are prefixes. One in which something was stored, or that was prepared, has an empty object named
//!   `.keepgate`, so that it stays when its last blob is removed (`folders`). Names with `.keepgate` are the
//!   gateway's: no key has one, and listings leave them out.
//! - **An etag** joins the server's etag and the time of the change, because S3's own comes from the bytes and would
//!   come back with them. See `repeats` for what happens within one second.
//!
//! - **The bucket is opened at the first use** (`opening`), and again after a failure.
//!
//! Requests are repeated by the SDK, with growing and random pauses, within a budget of time. Then a call fails as
//! [`Unavailable`](keepgate_store::StoreError::Unavailable). A server that keeps failing is left alone for a while
//! (`remote::health`).

mod attributes;
mod claim;
mod commit;
mod concat;
mod credentials;
mod delete;
mod diagnose;
mod error;
mod expiry;
mod folders;
mod housekeeping;
mod identity;
mod list;
mod locks;
mod memory;
mod metrics;
mod opening;
mod options;
mod parts;
mod probe;
mod put;
mod read;
mod remote;
mod rename;
mod repeats;
mod source;
mod state;
mod sweep;
mod turns;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use globset::GlobSet;
use keepgate_store::{
    BlobStore, Body, DeleteOptions, Download, Due, Folder, Info, Key, Listing, Part, Piece,
    PutOptions, RenameOptions, Result, StoreError, Stored,
};

pub use credentials::Credentials;
pub use diagnose::{Diagnosis, diagnose};
pub use error::OpenError;
pub use metrics::{Metrics, StoreMetrics};
pub use options::{BreakerOptions, Lock, LockMode, MIN_PART, OnDelete, S3Options};
pub use probe::{Capabilities, IfMatch};
pub use state::S3State;
pub use sweep::Swept;
pub use turns::{Coordinator, LEASE, Lease};

use opening::Door;
use remote::{Failure, LockState, Object, Remote, Retention};

/// Longest name of an object in bytes.
const MAX_NAME: usize = 1024;

/// A bucket as a store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct S3Store {
    door: Arc<Door>,
}

/// A store that is open.
#[derive(Debug)]
struct Inner {
    remote: Remote,
    capabilities: Capabilities,
    /// Ends with a slash unless it is empty.
    prefix: String,
    folders: folders::Known,
    locks: locks::KeyLocks,
    /// Of blobs that are being renamed. They are copied meanwhile, and other changes do not wait for that.
    renames: locks::KeyLocks,
    repeats: repeats::Repeats,
    identity: identity::Identity,
    /// Keys that are stored without a retention.
    unlocked: GlobSet,
    /// Uploads in parts of this process.
    running: parts::Running,
    /// Memory of uploads, in KiB.
    memory: Arc<memory::Memory>,
}

impl S3Store {
    /// A store in a bucket. Reaches nothing yet: the bucket is opened at the first use.
    ///
    /// # Errors
    ///
    /// If the options cannot work, or if keys are to be read from files that cannot be read.
    pub fn new(options: S3Options) -> Result<Self, OpenError> {
        Ok(Self { door: Door::new(options)? })
    }

    /// Opens the bucket now, unless it is open: finds out what it can do.
    ///
    /// # Errors
    ///
    /// If the bucket cannot be used, or if its conditional writes are not atomic and neither
    /// [`single_writer`](S3Options::single_writer) nor [`coordinator`](S3Options::coordinator) is set. Calls are then refused as
    /// [`Unavailable`](StoreError::Unavailable), and the store goes on trying.
    pub async fn open(&self) -> Result<(), OpenError> {
        self.door.open(true).await.map(|_| ())
    }

    /// The store as its process sees it at the moment. Asks nobody. A store that was not used yet is not available:
    /// open it when the gateway starts.
    pub fn state(&self) -> S3State {
        self.door.state()
    }

    /// Removes what killed gateways left: parts of uploads and claims that are old, and that a gateway wrote. An open
    /// store does this by itself every few hours.
    ///
    /// # Errors
    ///
    /// If the server cannot be used at the moment. What was removed by then stays removed.
    pub async fn sweep(&self) -> Result<Swept> {
        let store = self.door.enter().await?;
        store.check_writable()?;
        Box::pin(sweep::sweep(&store)).await
    }
}

impl Inner {
    /// Opens a bucket.
    async fn open(options: &S3Options) -> Result<Arc<Self>, OpenError> {
        let (place, prefix) = (options.place(), options.folder());
        let memory = memory::Memory::new(options.memory);
        let remote = Remote::new(options.clone()).await.map_err(OpenError::Options)?;
        let failed = |failure| OpenError::of(&place, failure);
        let capabilities = if options.read_only {
            // The least that a reader needs.
            remote.list(&prefix, false, None, None, 1).await.map_err(failed)?;
            Capabilities::default()
        } else {
            let folder = probe::folder(&prefix);
            Box::pin(probe::probe(&remote, &folder)).await.map_err(failed)?
        };
        let unlocked = options.lock.as_ref().map(Lock::excepted).transpose();
        let unlocked = unlocked.map_err(OpenError::Options)?.unwrap_or_default();
        if options.lock.is_some() && !options.read_only {
            check_lock(&remote, &place).await?;
        }
        let safe = capabilities.can_be_shared() || options.keeps_writers_apart();
        if !safe && !options.read_only {
            return Err(OpenError::NotAtomic { place });
        }
        let identity = identity::Identity::find(&remote, &capabilities, &prefix);
        let identity = Box::pin(identity).await.map_err(failed)?;
        Ok(Arc::new(Self {
            remote,
            capabilities,
            prefix,
            folders: folders::Known::default(),
            locks: locks::KeyLocks::default(),
            renames: locks::KeyLocks::default(),
            repeats: repeats::Repeats::default(),
            identity,
            unlocked,
            running: parts::Running::default(),
            memory,
        }))
    }

    /// How long the bucket is told to keep a blob.
    fn retention(&self, key: &Key) -> Option<Retention> {
        let lock = self.remote.options.lock.as_ref()?;
        let until = SystemTime::now() + lock.period;
        let locked = !self.unlocked.is_match(key.as_str());
        locked.then_some(Retention { mode: lock.mode, until })
    }

    /// Refuses to replace or remove a blob that is locked: the bucket would only hide it, which is as bad for a
    /// backup program as to lose it. As far as this gateway knows; the bucket itself counts from the lock that it has.
    fn check_lock(&self, key: &Key, there: &Object) -> Result<()> {
        let Some(lock) = &self.remote.options.lock else { return Ok(()) };
        if self.unlocked.is_match(key.as_str()) {
            return Ok(());
        }
        let left = (there.modified() + lock.period).duration_since(SystemTime::now());
        match left {
            Ok(left) if !left.is_zero() => Err(StoreError::Denied(format!(
                "the bucket keeps this blob for another {} hours",
                left.as_secs().div_ceil(3600)
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses calls that write if the store is only read.
    fn check_writable(&self) -> Result<()> {
        if self.remote.options.read_only {
            return Err(StoreError::Denied(
                "the store is read-only: blobs cannot be stored or deleted".to_owned(),
            ));
        }
        Ok(())
    }

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
        if let Failure::Unavailable(_) | Failure::Suspended(_) | Failure::Refused(_) = failure {
            self.identity.doubt();
        }
        self.remote.told(failure)
    }

    /// What the server has under a name.
    async fn look(&self, object: &str) -> Result<Option<Object>> {
        self.remote.head(object).await.map_err(|failure| self.told(failure))
    }

    /// The same, unless it is a blob that has expired.
    async fn look_for_blob(&self, object: &str) -> Result<Option<Object>> {
        Ok(self.look(object).await?.filter(|there| !self.has_expired(there)))
    }

    fn has_expired(&self, there: &Object) -> bool {
        self.remote.options.clock.has_passed(attributes::expires_of(&there.metadata))
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
            expires: attributes::expires_of(&object.metadata),
        })
    }
}

/// Checks that a bucket can lock objects. One that does not say so may have reasons; its answers to writes tell.
async fn check_lock(remote: &Remote, place: &str) -> Result<(), OpenError> {
    match remote.lock_state().await {
        Ok(LockState::On { .. }) | Err(Failure::Refused(_)) => Ok(()),
        Ok(LockState::Off) | Err(Failure::Unsupported) => Err(OpenError::Unusable(format!(
            "{place}: the bucket cannot lock objects; create one with object lock, or remove `lock`"
        ))),
        Err(failure) => Err(OpenError::of(place, failure)),
    }
}

#[async_trait]
impl BlobStore for S3Store {
    async fn head(&self, key: &Key) -> Result<Info> {
        let store = self.door.enter().await?;
        let object = store.object(key)?;
        let found = store.look_for_blob(&object).await?.ok_or(StoreError::NotFound)?;
        store.info(key, &found).await
    }

    async fn head_any(&self, key: &Key) -> Result<Info> {
        let store = self.door.enter().await?;
        let object = store.object(key)?;
        let found = store.look(&object).await?.ok_or(StoreError::NotFound)?;
        store.info(key, &found).await
    }

    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        let store = self.door.enter().await?;
        Box::pin(read::get(&store, key, part)).await
    }

    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        let store = self.door.enter().await?;
        store.check_writable()?;
        Box::pin(put::put(&store, key, body, options)).await
    }

    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        let store = self.door.enter().await?;
        store.check_writable()?;
        Box::pin(concat::concat(&store, key, pieces, options)).await
    }

    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored> {
        options.check(key, to)?;
        let store = self.door.enter().await?;
        store.check_writable()?;
        let (key, to) = (key.clone(), to.clone());
        commit::to_its_end(async move { rename::rename(&store, &key, &to, options).await }).await
    }

    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        let store = self.door.enter().await?;
        store.check_writable()?;
        let key = key.clone();
        commit::to_its_end(async move { delete::delete(&store, &key, options).await }).await
    }

    async fn due(&self, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
        let store = self.door.enter().await?;
        if store.check_writable().is_err() {
            return Ok(Vec::new());
        }
        Box::pin(expiry::due(&store, after, max)).await
    }

    async fn expire(&self, due: &Due, options: DeleteOptions) -> Result<Option<u64>> {
        let store = self.door.enter().await?;
        store.check_writable()?;
        let due = due.clone();
        commit::to_its_end(async move { expiry::expire(&store, &due, options).await }).await
    }

    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        let store = self.door.enter().await?;
        Box::pin(list::list(&store, folder, recursive, after)).await
    }

    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        let store = self.door.enter().await?;
        store.check_writable()?;
        Box::pin(store.prepare(folders)).await
    }

    async fn check_metadata(&self) -> Result<()> {
        // Every server keeps them; the probe would have failed otherwise.
        Ok(())
    }

    async fn epoch(&self) -> Result<u64> {
        self.door.enter().await?.epoch().await
    }
}
