//! Opens the stores of a configuration, with their quotas.
//!
//! A quota applies to a store, a folder of it, or a user's blobs in it. To be exact, it must see every
//! write there, through whatever mount. Most stores have one quota at most. The total of a mount that
//! sees a folder of a store is another one around it, since a quota counts a blob for one folder only.

mod backend;
mod bucket;
mod coordinator;
mod folder;
mod look;
mod overview;

use std::sync::Arc;

use anyhow::Result;
use keepgate_store::guard::{Policy, ReadOnly};
use keepgate_store::quota::{Amount, FolderRule, Rules, UserRule};
use keepgate_store::{BlobStore, Clock};
use keepgate_store_s3::Metrics;

use crate::config::{self, Config, Mount, Size};
use crate::quotas::{Keeping, NamedQuota};

pub(crate) use backend::Backend;
pub(crate) use overview::{Overview, StoreMetrics};

/// A store of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct OpenStore {
    pub(crate) backend: Backend,
    /// From the innermost to the outermost.
    pub(crate) quotas: Vec<NamedQuota>,
    /// What holds for everybody, whatever the mounts allow.
    policy: Policy,
    clock: Clock,
}

/// What stores have in common.
#[derive(Clone, Debug)]
pub(crate) struct Environment<'a> {
    pub(crate) clock: Clock,
    pub(crate) metrics: &'a Metrics,
}

impl OpenStore {
    /// Opens a store. What `before` has open already is shared.
    pub(crate) async fn open(
        config: &Config,
        (name, store): (&str, &config::Store),
        before: Option<&Self>,
        environment: Environment<'_>,
    ) -> Result<Self> {
        let (known, clock) = (before.map(|before| &before.backend), environment.clock.clone());
        let backend = Backend::open(config, (name, store), known, environment).await?;
        let mut open = Self { backend, quotas: Vec::new(), policy: store.policy(), clock };
        let before = before.filter(|before| Arc::ptr_eq(before.blobs(), open.blobs()));
        let path = open.backend.path().map(ToOwned::to_owned);
        let keeping = Keeping {
            data_dir: &config.data_dir,
            store: path.as_deref(),
            recount: store.recount.map(|interval| interval.0),
        };
        for (quota, rules) in limits(config, name, store) {
            let named = match open.known(&quota, before) {
                Some(known) => known.with_rules(rules),
                None => {
                    let identity = open.identity(&quota);
                    let counted = open.counted(None);
                    NamedQuota::open((quota, rules), counted, &identity, keeping).await?
                }
            };
            open.quotas.push(named);
        }
        Ok(open)
    }

    /// A store without quotas that is not looked at before it is used: for reading only. Nothing is
    /// made.
    pub(crate) fn to_look_at(config: &Config, store: (&str, &config::Store)) -> Result<Self> {
        let backend = Backend::to_look_at(config, store)?;
        let policy = store.1.policy();
        Ok(Self { backend, quotas: Vec::new(), policy, clock: Clock::default() })
    }

    fn blobs(&self) -> &Arc<dyn BlobStore> {
        self.backend.blobs()
    }

    /// The store without its quotas: for reading only.
    pub(crate) fn bare(&self) -> Arc<dyn BlobStore> {
        self.blobs().clone()
    }

    /// The store with its quotas, without its policy: for what the clock removes.
    pub(crate) fn counted(&self, user: Option<&str>) -> Arc<dyn BlobStore> {
        self.quotas.last().map_or_else(|| self.blobs().clone(), |outer| outer.quota.store(user))
    }

    /// The store as a user sees it.
    pub(crate) fn view(&self, user: Option<&str>) -> Arc<dyn BlobStore> {
        self.guard(&self.policy, self.counted(user))
    }

    /// Applies a policy to the store, or to what is around it.
    pub(crate) fn guard(&self, policy: &Policy, store: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
        policy.guard(store.clone(), &self.clock).unwrap_or_else(|error| {
            // The check of the configuration rejects such a policy.
            tracing::error!(%error, "cannot apply the policy; the store is read-only");
            Arc::new(ReadOnly::new(store))
        })
    }

    /// The quota that `before` has at the position of the next one here, if it is around the same others.
    fn known<'a>(&self, name: &str, before: Option<&'a Self>) -> Option<&'a NamedQuota> {
        let quotas = &before?.quotas;
        let same = |(ours, theirs): (&NamedQuota, &NamedQuota)| ours.name == theirs.name;
        let known = quotas.get(self.quotas.len()).filter(|known| known.name == name)?;
        self.quotas.iter().zip(quotas).all(same).then_some(known)
    }

    /// What the next quota counts. It depends on the quotas inside, since after a change of the configuration
    /// both the previous and the new quota may be in use for a while.
    fn identity(&self, name: &str) -> String {
        let inner: String = self.quotas.iter().map(|quota| format!("{}\n", quota.name)).collect();
        format!("{}\n{inner}{name}", self.backend.place())
    }
}

/// The quotas of a store, from the innermost to the outermost, with their names.
fn limits(config: &Config, name: &str, store: &config::Store) -> Vec<(String, Rules)> {
    let mut limits = Vec::new();
    let entries = store.quota_entries.as_ref().map(|entries| *entries.get_ref());
    let mut whole = Rules { total: amount(store.quota, entries), ..Rules::default() };
    for mount in &config.mount {
        for named in mount.stores.values() {
            let (mounted, folder) = config::store_and_folder(named.get_ref());
            if mounted != name {
                continue;
            }
            match (amount(mount.policy.quota, mount.policy.quota_entries), folder) {
                (Some(limit), "") => {
                    whole.total = Some(whole.total.map_or(limit, |other| other.min(limit)));
                }
                (Some(limit), folder) => {
                    let about = format!("mount {}, store {name}/{folder}", mount.path.get_ref());
                    let folders = vec![FolderRule::exactly(folder, limit)];
                    limits.push((about, Rules { folders, ..Rules::default() }));
                }
                (None, _) => {}
            }
            add_rules(&mut whole, mount, folder);
        }
    }
    if whole != Rules::default() {
        limits.push((format!("store {name}"), whole));
    }
    limits
}

/// A limit as it is configured.
fn amount(quota: Option<Size>, entries: Option<u64>) -> Option<Amount> {
    let Size(bytes) = quota?;
    let limit = Amount::limit(bytes);
    Some(Amount { entries: entries.unwrap_or(limit.entries), ..limit })
}

/// Adds the rules of a mount for folders and users.
fn add_rules(rules: &mut Rules, mount: &Mount, below: &str) {
    for rule in &mount.rule {
        let policy = rule.policy.get_ref();
        let Some(limit) = amount(policy.quota, policy.quota_entries) else { continue };
        if let Some(user) = &rule.user {
            rules.users.push(UserRule { user: user.get_ref().clone(), limit });
        } else if let Some(folder) = &rule.folder {
            rules.folders.push(FolderRule::below(below, folder.get_ref(), limit));
        }
    }
}
