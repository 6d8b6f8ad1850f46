//! A call that changes a blob, as the quota sees it: registered when it begins, told by the store
//! what changed, and forgotten, with everything it reserved, when nothing can come of it any more.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::rules::Charge;
use super::{Shared, blocking};
use crate::error::{Result, StoreError};
use crate::{CommitObserver, CommittedChange, Fields, Folder, FolderObserver, Key, ObserverHandle};

/// One put, concat or delete, or one of the two keys of a rename. The store holds it for as long as the call may change
/// something.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    id: u64,
    /// The folder of the key.
    folder: Folder,
    /// The key of the blob that the call moves, if it does.
    from: Option<Key>,
    /// What is reserved only if there is a change.
    late: OnceLock<u64>,
    /// The observer that the caller passed in.
    next: Option<ObserverHandle>,
}

impl Reservation {
    /// Registers a call. `owner` is what will be stored with the blob, if it stores one.
    pub(super) fn new(
        shared: &Arc<Shared>,
        key: &Key,
        from: Option<&Key>,
        owner: Option<Arc<str>>,
        next: Option<ObserverHandle>,
    ) -> Self {
        let (id, reopened) = shared.ledger().begin(key, owner);
        if reopened {
            shared.write_soon();
        }
        let (shared, folder, from) = (Arc::clone(shared), key.folder(), from.cloned());
        Self { shared, id, folder, from, late: OnceLock::new(), next }
    }

    /// Reserves bytes at the commit, so only if the store is about to add a blob.
    pub(super) fn reserve_at_commit(&self, bytes: u64) {
        // It is asked for once.
        let _ = self.late.set(bytes);
    }

    /// Reserves more bytes.
    pub(super) async fn reserve(&self, bytes: u64) -> Result<()> {
        if let Some(after) = self.shared.reserve(self.id, bytes)? {
            let shared = Arc::clone(&self.shared);
            blocking(move || shared.write_state(Some(after))).await?;
        }
        Ok(())
    }
}

impl Reservation {
    /// The same, on a thread that may block.
    fn reserve_here(&self, bytes: u64) -> Result<()> {
        match self.shared.reserve(self.id, bytes)? {
            Some(after) => self.shared.write_state(Some(after)).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl CommitObserver for Reservation {
    fn admit(&self, size: u64) -> Result<()> {
        self.reserve_here(size)?;
        self.next.as_ref().map_or(Ok(()), |next| next.admit(size))
    }

    fn admit_renamed(&self, size: u64, metadata: &Fields, moves: bool) -> Result<()> {
        self.shared.ledger().renames(self.id, metadata, self.from.as_ref().filter(|_| moves));
        self.reserve_here(size)?;
        self.next.as_ref().map_or(Ok(()), |next| next.admit_renamed(size, metadata, moves))
    }

    fn admit_removal(&self, stored: SystemTime) -> Result<()> {
        self.next.as_ref().map_or(Ok(()), |next| next.admit_removal(stored))
    }

    fn place(&self, epoch: u64) -> Result<()> {
        self.shared.must_be_counted(epoch)?;
        self.next.as_ref().map_or(Ok(()), |next| next.place(epoch))
    }

    fn made_folder(&self, above: usize) {
        self.shared.ledger().made_folder(self.folder.as_str(), above);
        if let Some(next) = &self.next {
            next.made_folder(above);
        }
    }

    fn markers(&self, came: u64, gone: u64) {
        self.shared.ledger().markers(came, gone);
        if let Some(next) = &self.next {
            next.markers(came, gone);
        }
    }

    fn before_commit(&self) -> Result<bool> {
        if let Some(late) = self.late.get() {
            self.reserve_here(*late)?;
        }
        let theirs = self.next.as_ref().map_or(Ok(false), |next| next.before_commit())?;
        Ok(self.shared.ledger().before(self.id) || theirs)
    }

    fn after_commit(&self, changed: Option<CommittedChange>) {
        if !self.shared.ledger().after(self.id, changed.as_ref()) {
            tracing::info!("more was removed than was counted; another program changes this store");
            self.shared.want_recount();
        }
        self.shared.call_changed();
        if let Some(next) = &self.next {
            next.after_commit(changed);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.ledger().end(self.id);
        self.shared.call_changed();
    }
}

/// A call that makes folders. The store holds it until no more can come of the call.
#[derive(Debug)]
pub(super) struct FolderReservation {
    shared: Arc<Shared>,
    folders: Vec<Folder>,
    /// One entry each.
    reserved: Vec<Charge>,
    /// The observer that the caller passed in.
    next: Option<Arc<dyn FolderObserver>>,
}

impl FolderReservation {
    /// Reserves an entry for each of these folders, whether it is there or not: only the store could know. Parents that
    /// are missing too are counted once they were made.
    pub(super) fn new(
        shared: &Arc<Shared>,
        folders: &[Folder],
        next: Option<Arc<dyn FolderObserver>>,
    ) -> Result<Self> {
        let reserved = Vec::with_capacity(folders.len());
        let shared = Arc::clone(shared);
        let mut call = Self { shared, folders: folders.to_vec(), reserved, next };
        for folder in folders {
            let charge = call.shared.ledger().reserve_folder(folder.as_str());
            call.reserved.push(charge.map_err(StoreError::QuotaExceeded)?);
        }
        Ok(call)
    }
}

impl FolderObserver for FolderReservation {
    fn made_folder(&self, index: usize, above: usize) {
        if let Some(folder) = self.folders.get(index) {
            self.shared.ledger().made_folder(folder.as_str(), above);
        }
        if let Some(next) = &self.next {
            next.made_folder(index, above);
        }
    }
}

impl Drop for FolderReservation {
    fn drop(&mut self) {
        let mut ledger = self.shared.ledger();
        for charge in &self.reserved {
            ledger.release_folder(charge);
        }
    }
}
