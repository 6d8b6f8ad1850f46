//! A store as a mount grants it: with guards around it, outside of the plugin.
//!
//! From the store outwards: its quotas and its own policy (in `stores`), the folder that the mount is granted, the policy
//! for the user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keepgate_core::Principal;
use keepgate_runtime::capability::blobs::StoreGrant;
use keepgate_store::guard::{Policy, Subfolder};
use keepgate_store::{BlobStore, Folder};

use crate::config::{self, Mount};
use crate::stores::OpenStore;

/// Matches every user in a rule.
const EACH_USER: &str = "*";
/// The most users whose views are cached; a proxy may name any number of users.
const MAX_VIEWS: usize = 4096;

/// A store as a mount grants it.
#[derive(Debug)]
pub(crate) struct GuardedStore {
    store: OpenStore,
    /// The granted folder; empty for the whole store.
    folder: Folder,
    policy: Policy,
    /// In order; the first that matches applies.
    users: Vec<(String, Policy)>,
    views: Mutex<HashMap<Option<String>, Arc<dyn BlobStore>>>,
}

impl GuardedStore {
    /// A store, or a folder of it, under the policy and rules of a mount.
    pub(crate) fn new(mount: &Mount, store: OpenStore, folder: Folder) -> Self {
        // What folders retain is retained from every user.
        let folders = mount.rule.iter().filter_map(|rule| {
            let folder = rule.folder.as_ref()?.get_ref().clone();
            Some((folder, rule.policy.get_ref().retain?.0))
        });
        let folders: Vec<_> = folders.collect();
        let with_folders = |policy: &config::Policy| {
            let mut policy = policy.to_store();
            policy.retain.folders.clone_from(&folders);
            policy
        };
        let users = mount.rule.iter().filter_map(|rule| {
            let user = rule.user.as_ref()?.get_ref().clone();
            Some((user, with_folders(rule.policy.get_ref())))
        });
        let (policy, users) = (with_folders(&mount.policy), users.collect());
        Self { store, folder, policy, users, views: Mutex::default() }
    }

    /// A folder of a store, without a policy.
    pub(crate) fn plain(store: OpenStore, folder: Folder) -> Self {
        let (policy, users) = (Policy::default(), Vec::new());
        Self { store, folder, policy, users, views: Mutex::default() }
    }

    fn view(&self, user: Option<&str>) -> Arc<dyn BlobStore> {
        let mut store = self.store.view(user);
        if !self.folder.as_str().is_empty() {
            store = Arc::new(Subfolder::new(store, self.folder.clone()));
        }
        let fits = |rule: &str| user.is_some_and(|user| rule == EACH_USER || rule == user);
        let rule = self.users.iter().find(|(rule, _)| fits(rule));
        let policy = rule.map_or(&self.policy, |(_, policy)| policy);
        self.store.guard(policy, store)
    }
}

impl StoreGrant for GuardedStore {
    fn store(&self, principal: Option<&Principal>) -> Arc<dyn BlobStore> {
        let user = principal.map(|principal| principal.name.clone());
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&user) {
            return view.clone();
        }
        if views.len() >= MAX_VIEWS {
            views.clear();
        }
        let view = self.view(user.as_deref());
        views.insert(user, view.clone());
        view
    }
}
