//! What a mount may do with a store, and for whom: guards are put around the store here, outside of
//! every plugin.
//!
//! From the store outwards: its quotas (in `stores`), the folder of it that the mount is given, the
//! policy that holds for whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keepgate_runtime::Principal;
use keepgate_runtime::capability::blobs::StoreGrant;
use keepgate_store::guard::{Policy, ReadOnly, Subfolder};
use keepgate_store::{BlobStore, Folder};

use crate::config::Mount;
use crate::stores::OpenStore;

/// Stands for every user in a rule.
const EACH_USER: &str = "*";
/// Most users whose views are remembered; a proxy may name any number.
const MAX_VIEWS: usize = 4096;

/// A store as a mount grants it.
#[derive(Debug)]
pub(crate) struct GuardedStore {
    store: OpenStore,
    /// Of the store; empty for all of it.
    folder: Folder,
    policy: Policy,
    /// In order; the first that fits counts.
    users: Vec<(String, Policy)>,
    views: Mutex<HashMap<Option<String>, Arc<dyn BlobStore>>>,
}

impl GuardedStore {
    /// A store, or a folder of it, under the policy and rules of a mount.
    pub(crate) fn new(mount: &Mount, store: OpenStore, folder: Folder) -> Self {
        let users = mount.rule.iter().filter_map(|rule| {
            let user = rule.user.as_ref()?.get_ref().clone();
            Some((user, rule.policy.get_ref().to_store()))
        });
        let (policy, users) = (mount.policy.to_store(), users.collect());
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
        policy.guard(store.clone()).unwrap_or_else(|error| {
            // No configuration with such a policy is read.
            tracing::error!(%error, "a policy cannot be kept, so that nothing may be changed");
            Arc::new(ReadOnly::new(store))
        })
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
