//! Opens the stores of a configuration, with their quotas.
//!
//! A quota applies to a store, a folder of it, or a user's blobs in it. To be exact, it must see every
//! write there, through whatever mount. Most stores have one quota at most. The total of a mount that
//! sees a folder of a store is another one around it, since a quota counts a blob for one folder only.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use keepgate_store::BlobStore;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::quota::{FolderRule, Rules, UserRule};

use crate::config::{self, Config, Mount, Size};
use crate::quotas::{Keeping, NamedQuota};

/// A store of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct OpenStore {
    pub(crate) path: PathBuf,
    options: DiskOptions,
    /// The folder, for reports.
    pub(crate) disk: DiskStore,
    bare: Arc<dyn BlobStore>,
    /// From the innermost to the outermost.
    pub(crate) quotas: Vec<NamedQuota>,
}

impl OpenStore {
    /// Opens a store. What `before` has open already is shared.
    pub(crate) async fn open(
        config: &Config,
        (name, store): (&str, &config::Store),
        before: Option<&Self>,
    ) -> Result<Self> {
        let mut open = Self::open_disk((name, store), before)?;
        let before = before.filter(|before| Arc::ptr_eq(&before.bare, &open.bare));
        let keeping = Keeping {
            data_dir: &config.data_dir,
            store: &store.path,
            recount: store.recount.map(|interval| interval.0),
        };
        for (quota, rules) in limits(config, name, store) {
            let named = match open.known(&quota, before) {
                Some(known) => known.with_rules(rules),
                None => {
                    let identity = open.identity(&quota);
                    NamedQuota::open((quota, rules), open.view(None), &identity, keeping).await?
                }
            };
            open.quotas.push(named);
        }
        Ok(open)
    }

    /// A store without quotas that is not looked at before it is used: for reading only. Nothing is
    /// made.
    pub(crate) fn to_look_at(store: &config::Store) -> Self {
        let options = disk_options(store);
        Self::around(store, DiskStore::unopened(&store.path, options.clone()), options)
    }

    fn open_disk((name, store): (&str, &config::Store), before: Option<&Self>) -> Result<Self> {
        let mut options = disk_options(store);
        if let Some(before) = before.filter(|before| before.path == store.path) {
            if before.options == options {
                return Ok(Self { quotas: Vec::new(), ..before.clone() });
            }
            // The folder was there when the gateway started. If it is gone, its disk may be missing.
            options.create = false;
        }
        let disk = DiskStore::open(&store.path, options.clone())
            .with_context(|| format!("[store.{name}] {}", store.path.display()))?;
        Ok(Self::around(store, disk, DiskOptions { create: true, ..options }))
    }

    fn around(store: &config::Store, disk: DiskStore, options: DiskOptions) -> Self {
        let bare = Arc::new(disk.clone());
        Self { path: store.path.clone(), options, disk, bare, quotas: Vec::new() }
    }

    /// The store without its quotas: for reading only.
    pub(crate) fn bare(&self) -> Arc<dyn BlobStore> {
        self.bare.clone()
    }

    /// The store as a user sees it.
    pub(crate) fn view(&self, user: Option<&str>) -> Arc<dyn BlobStore> {
        self.quotas.last().map_or_else(|| self.bare.clone(), |outer| outer.quota.store(user))
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
        format!("{}\n{inner}{name}", self.path.display())
    }
}

fn disk_options(store: &config::Store) -> DiskOptions {
    let options = DiskOptions {
        require_mount: store.require_mount,
        marker: store.marker.as_ref().map(|marker| marker.get_ref().clone()),
        follow_symlinks: store.follow_symlinks,
        ..DiskOptions::default()
    };
    if store.group_accessible { options.group_accessible() } else { options }
}

/// The quotas of a store, from the innermost to the outermost, with their names.
fn limits(config: &Config, name: &str, store: &config::Store) -> Vec<(String, Rules)> {
    let mut limits = Vec::new();
    let mut whole = Rules { total: store.quota.map(|Size(limit)| limit), ..Rules::default() };
    for mount in &config.mount {
        for named in mount.stores.values() {
            let (mounted, folder) = config::store_and_folder(named.get_ref());
            if mounted != name {
                continue;
            }
            match (mount.policy.quota, folder) {
                (Some(Size(limit)), "") => {
                    whole.total = Some(whole.total.map_or(limit, |other| other.min(limit)));
                }
                (Some(Size(limit)), folder) => {
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

/// Adds the rules of a mount for folders and users.
fn add_rules(rules: &mut Rules, mount: &Mount, below: &str) {
    for rule in &mount.rule {
        let Some(Size(limit)) = rule.policy.get_ref().quota else { continue };
        if let Some(user) = &rule.user {
            rules.users.push(UserRule { user: user.get_ref().clone(), limit });
        } else if let Some(folder) = &rule.folder {
            rules.folders.push(FolderRule::below(below, folder.get_ref(), limit));
        }
    }
}
