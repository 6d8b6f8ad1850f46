//! A call that changes a blob, seen from the quota: registered when it begins, told of the change
//! by the store, and forgotten, with all that it reserved, when nothing can come of it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Shared, blocking};
use crate::error::Result;
use crate::{Changed, Key, Observer, Witness};

/// One put, concat or delete. The store holds it as long as the call may change something.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: u64,
    /// Bytes that are reserved only if it comes to a change.
    late: AtomicU64,
    /// Who else wants to know.
    next: Option<Observer>,
}

impl Ticket {
    /// Registers a call. `owner` is what will be kept with the blob, if it stores one.
    pub(super) fn new(
        shared: &Arc<Shared>,
        key: &Key,
        owner: Option<Arc<str>>,
        next: Option<Observer>,
    ) -> Self {
        let (id, reopened) = shared.ledger().begin(key, owner);
        if reopened {
            shared.write_soon();
        }
        Self { shared: Arc::clone(shared), id, late: AtomicU64::new(0), next }
    }

    /// Has bytes reserved at the last moment, and only if the store is about to add a blob.
    pub(super) fn reserve_late(&self, bytes: u64) {
        self.late.store(bytes, Ordering::Relaxed);
    }

    /// Reserves bytes, besides those that it has.
    pub(super) async fn reserve(&self, bytes: u64) -> Result<()> {
        if let Some(after) = self.shared.reserve(self.id, bytes)? {
            let shared = Arc::clone(&self.shared);
            blocking(move || shared.write_state(Some(after))).await?;
        }
        Ok(())
    }
}

impl Ticket {
    /// The same on a thread that may block.
    fn reserve_here(&self, bytes: u64) -> Result<()> {
        match self.shared.reserve(self.id, bytes)? {
            Some(after) => self.shared.write_state(Some(after)).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Witness for Ticket {
    fn admit(&self, size: u64) -> Result<()> {
        self.reserve_here(size)?;
        self.next.as_ref().map_or(Ok(()), |next| next.admit(size))
    }

    fn before(&self) -> Result<bool> {
        let late = self.late.load(Ordering::Relaxed);
        if late > 0 {
            self.reserve_here(late)?;
        }
        let theirs = self.next.as_ref().map_or(Ok(false), |next| next.before())?;
        Ok(self.shared.ledger().before(self.id) || theirs)
    }

    fn after(&self, changed: Option<Changed>) {
        if !self.shared.ledger().after(self.id, changed.as_ref()) {
            tracing::info!("more went than was counted: another program changes this store");
            self.shared.want_recount();
        }
        self.shared.call_changed();
        if let Some(next) = &self.next {
            next.after(changed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.ledger().end(self.id);
        self.shared.call_changed();
    }
}
