//! Sums: one for the store, and one for each folder and each user that is counted.

use std::collections::HashMap;
use std::sync::Arc;

use super::rules::{Charge, Counted, Scope};

/// A limit of entries that is derived from one of bytes allows one for each so many bytes: the least that a file takes up
/// on most file systems.
const BYTES_PER_ENTRY: u64 = 4096;
/// It is never lower than this.
const MIN_ENTRIES: u64 = 100_000;

/// What is used of a store, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of blobs.
    pub bytes: u64,
    /// How many blobs there are, and on a disk folders and markers of blobs that expire: each takes up an inode.
    pub entries: u64,
}

impl Amount {
    /// A limit of bytes, with a number of entries that goes with it.
    pub fn limit(bytes: u64) -> Self {
        Self { bytes, entries: (bytes / BYTES_PER_ENTRY).max(MIN_ENTRIES) }
    }

    /// The lower one of two limits, of bytes and of entries.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), entries: self.entries.min(other.entries) }
    }

    /// Folders or markers.
    pub(super) fn entries(entries: u64) -> Self {
        Self { bytes: 0, entries }
    }

    pub(super) fn blob(bytes: u64) -> Self {
        Self { bytes, entries: 1 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            entries: self.entries.saturating_add(other.entries),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            entries: self.entries.saturating_sub(other.entries),
        }
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Amounts by scope. A folder or a user of which nothing is there is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) store: Amount,
    pub(super) folders: HashMap<Arc<str>, Amount>,
    pub(super) users: HashMap<Arc<str>, Amount>,
}

impl Totals {
    pub(super) fn add(&mut self, charge: &Charge, amount: Amount) {
        self.store = self.store.plus(amount);
        add(&mut self.folders, charge.folder.as_ref(), amount);
        add(&mut self.users, charge.user.as_ref(), amount);
    }

    /// False if there were fewer bytes than that; none are left then.
    #[must_use]
    pub(super) fn subtract(&mut self, charge: &Charge, amount: Amount) -> bool {
        let enough = self.store.bytes >= amount.bytes;
        self.store = self.store.minus(amount);
        let folder = subtract(&mut self.folders, charge.folder.as_ref(), amount);
        let user = subtract(&mut self.users, charge.user.as_ref(), amount);
        enough && folder && user
    }

    /// Adds all sums of another one.
    pub(super) fn join(&mut self, other: &Self) {
        self.store = self.store.plus(other.store);
        for (ours, others) in [(&mut self.folders, &other.folders), (&mut self.users, &other.users)]
        {
            for (name, amount) in others {
                let sum = ours.entry(Arc::clone(name)).or_default();
                *sum = sum.plus(*amount);
            }
        }
    }

    pub(super) fn folder(&self, name: &str) -> Amount {
        self.folders.get(name).copied().unwrap_or_default()
    }

    pub(super) fn user(&self, name: &str) -> Amount {
        self.users.get(name).copied().unwrap_or_default()
    }

    pub(super) fn get(&self, scope: &Scope) -> Amount {
        match scope {
            Scope::Store => self.store,
            Scope::Folder(name) => self.folder(name),
            Scope::User(name) => self.user(name),
        }
    }

    /// The store, and every folder and user of which something is there.
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        let folders = self.folders.keys().map(|name| Scope::Folder(name.to_string()));
        let users = self.users.keys().map(|name| Scope::User(name.to_string()));
        [Scope::Store].into_iter().chain(folders).chain(users)
    }
}

fn add(sums: &mut HashMap<Arc<str>, Amount>, counted: Option<&Counted>, amount: Amount) {
    let Some(counted) = counted.filter(|_| !amount.is_nothing()) else {
        return;
    };
    match sums.get_mut(&counted.name) {
        Some(sum) => *sum = sum.plus(amount),
        None => {
            sums.insert(Arc::clone(&counted.name), amount);
        }
    }
}

/// Removes names that have nothing left, so that former folders and users cost nothing.
fn subtract(
    sums: &mut HashMap<Arc<str>, Amount>,
    counted: Option<&Counted>,
    amount: Amount,
) -> bool {
    let Some(counted) = counted else {
        return true;
    };
    let Some(sum) = sums.get_mut(&counted.name) else {
        return amount.bytes == 0;
    };
    let enough = sum.bytes >= amount.bytes;
    *sum = sum.minus(amount);
    if sum.is_nothing() {
        sums.remove(&counted.name);
    }
    enough
}
