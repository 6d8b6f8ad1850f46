//! Sums of bytes: one for the store, and one for each folder and each user that is counted.

use std::collections::HashMap;
use std::sync::Arc;

use super::rules::{Charge, Counted, Scope};

/// Bytes by scope. A folder or a user without bytes is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) store: u64,
    pub(super) folders: HashMap<Arc<str>, u64>,
    pub(super) users: HashMap<Arc<str>, u64>,
}

impl Totals {
    pub(super) fn add(&mut self, charge: &Charge, bytes: u64) {
        self.store = self.store.saturating_add(bytes);
        add(&mut self.folders, charge.folder.as_ref(), bytes);
        add(&mut self.users, charge.user.as_ref(), bytes);
    }

    /// False if there were fewer bytes than that; none are left then.
    #[must_use]
    pub(super) fn subtract(&mut self, charge: &Charge, bytes: u64) -> bool {
        let enough = self.store >= bytes;
        self.store = self.store.saturating_sub(bytes);
        let folder = subtract(&mut self.folders, charge.folder.as_ref(), bytes);
        let user = subtract(&mut self.users, charge.user.as_ref(), bytes);
        enough && folder && user
    }

    /// Adds all sums of another one.
    pub(super) fn join(&mut self, other: &Self) {
        self.store = self.store.saturating_add(other.store);
        for (ours, others) in [(&mut self.folders, &other.folders), (&mut self.users, &other.users)]
        {
            for (name, bytes) in others {
                let sum = ours.entry(Arc::clone(name)).or_default();
                *sum = sum.saturating_add(*bytes);
            }
        }
    }

    pub(super) fn folder(&self, name: &str) -> u64 {
        self.folders.get(name).copied().unwrap_or(0)
    }

    pub(super) fn user(&self, name: &str) -> u64 {
        self.users.get(name).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, scope: &Scope) -> u64 {
        match scope {
            Scope::Store => self.store,
            Scope::Folder(name) => self.folder(name),
            Scope::User(name) => self.user(name),
        }
    }

    /// The store, and every folder and user that has bytes.
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> {
        let folders = self.folders.keys().map(|name| Scope::Folder(name.to_string()));
        let users = self.users.keys().map(|name| Scope::User(name.to_string()));
        [Scope::Store].into_iter().chain(folders).chain(users)
    }
}

fn add(sums: &mut HashMap<Arc<str>, u64>, counted: Option<&Counted>, bytes: u64) {
    let Some(counted) = counted.filter(|_| bytes > 0) else {
        return;
    };
    match sums.get_mut(&counted.name) {
        Some(sum) => *sum = sum.saturating_add(bytes),
        None => {
            sums.insert(Arc::clone(&counted.name), bytes);
        }
    }
}

/// Removes names that have no bytes left, so that former folders and users cost nothing.
fn subtract(sums: &mut HashMap<Arc<str>, u64>, counted: Option<&Counted>, bytes: u64) -> bool {
    let Some(counted) = counted.filter(|_| bytes > 0) else {
        return true;
    };
    let Some(sum) = sums.get_mut(&counted.name) else {
        return false;
    };
    let enough = *sum >= bytes;
    *sum = sum.saturating_sub(bytes);
    if *sum == 0 {
        sums.remove(&counted.name);
    }
    enough
}
