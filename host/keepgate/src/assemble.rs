//! From a configuration to the things that it names: opened stores with their policies, files of
//! users, certificates, and the specs of mounts.
//!
//! A reload assembles anew and takes over what has not changed, so that an open store stays open
//! and remembered logins stay remembered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use keepgate_http::{Access, Htpasswd, Method, Tls, TlsFiles, htpasswd, tls::TlsVersion};
use keepgate_runtime::{Grant, Limits, MountSpec, Plugin};
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::guard::Subfolder;
use keepgate_store::{BlobStore, Folder};

use crate::config::{self, Config, NO_AUTH};

/// Everything that a configuration names, opened.
#[derive(Debug)]
pub(crate) struct Assembly {
    stores: BTreeMap<String, OpenStore>,
    users: BTreeMap<PathBuf, Arc<Htpasswd>>,
    /// The mounts that the configuration names.
    pub(crate) mounts: Vec<MountPlan>,
    auto: Option<AutoPlan>,
}

#[derive(Clone, Debug)]
struct OpenStore {
    path: PathBuf,
    group_accessible: bool,
    store: Arc<dyn BlobStore>,
}

/// A mount with the way in to it.
#[derive(Clone, Debug)]
pub(crate) struct MountPlan {
    pub(crate) spec: Arc<MountSpec>,
    pub(crate) access: Arc<Access>,
}

/// How plugins are mounted that the configuration does not name.
#[derive(Debug)]
struct AutoPlan {
    access: Arc<Access>,
    store: Arc<dyn BlobStore>,
    /// Kept while the plugin asks for the same, so that its mount is carried over.
    mounts: BTreeMap<String, MountPlan>,
}

impl Assembly {
    /// Opens everything; `before` gives what has not changed.
    pub(crate) fn new(config: &Config, before: Option<&Self>) -> Result<Self> {
        let mut assembly = Self {
            stores: BTreeMap::new(),
            users: BTreeMap::new(),
            mounts: Vec::new(),
            auto: None,
        };
        for (name, store) in &config.store {
            let open = open_store(name, store, before)?;
            assembly.stores.insert(name.clone(), open);
        }
        for auth in config.auth.values() {
            let file = &auth.htpasswd;
            let users = match before.and_then(|before| before.users.get(file)) {
                Some(users) => users.clone(),
                None => Htpasswd::load(file, htpasswd::Options::default())?,
            };
            assembly.users.insert(file.clone(), users);
        }
        for mount in &config.mount {
            let plan = assembly.plan(config, mount)?;
            assembly.mounts.push(plan);
        }
        if let Some(auto) = &config.auto_mount {
            assembly.auto = Some(AutoPlan {
                access: Arc::new(assembly.access(config, &auto.auth)?),
                store: assembly.store(auto.store.get_ref())?,
                mounts: BTreeMap::new(),
            });
        }
        Ok(assembly)
    }

    fn plan(&self, config: &Config, mount: &config::Mount) -> Result<MountPlan> {
        let path = mount.path.get_ref();
        let policy = mount.policy.to_store();
        let mut stores: BTreeMap<String, Arc<dyn Grant>> = BTreeMap::new();
        for (name, store) in &mount.stores {
            let guarded = policy
                .guard(self.store(store.get_ref())?)
                .with_context(|| format!("the policy of mount {path}"))?;
            stores.insert(name.clone(), Arc::new(guarded));
        }
        let settings = match serde_json::to_value(&mount.settings) {
            Ok(serde_json::Value::Object(settings)) => settings,
            other => {
                return Err(anyhow!("the settings of mount {path} are no table: {other:?}"));
            }
        };
        let spec = MountSpec {
            path: path.clone(),
            plugin: mount.plugin.get_ref().clone(),
            settings,
            stores,
            limits: mount.limits.to_runtime(),
            warm: mount.warm,
        };
        let access = Arc::new(self.access(config, &mount.auth)?);
        Ok(MountPlan { spec: Arc::new(spec), access })
    }

    fn access(&self, config: &Config, names: &[toml::Spanned<String>]) -> Result<Access> {
        let mut methods = Vec::new();
        for name in names {
            if name.get_ref() == NO_AUTH {
                return Ok(Access::Open);
            }
            let auth = config.auth.get(name.get_ref());
            let users = auth.and_then(|auth| self.users.get(&auth.htpasswd));
            let users = users.ok_or_else(|| anyhow!("there is no [auth.{}]", name.get_ref()))?;
            methods.push(Method::Htpasswd(users.clone()));
        }
        Ok(Access::Methods(methods))
    }

    fn store(&self, name: &str) -> Result<Arc<dyn BlobStore>> {
        let open = self.stores.get(name).ok_or_else(|| anyhow!("there is no [store.{name}]"))?;
        Ok(open.store.clone())
    }

    /// The files of users, to be read again on SIGHUP.
    pub(crate) fn users(&self) -> impl Iterator<Item = &Arc<Htpasswd>> {
        self.users.values()
    }

    /// For the status: the stores' names and folders.
    pub(crate) fn store_status(&self) -> serde_json::Value {
        let stores = self.stores.iter().map(|(name, store)| {
            (name.clone(), serde_json::json!({"path": store.path.display().to_string()}))
        });
        serde_json::Value::Object(stores.collect())
    }

    /// All mounts: those of the configuration, and where it says so those of the plugins that it
    /// does not name, each at the place that the plugin proposes.
    pub(crate) fn plans(&mut self, plugins: &[Arc<Plugin>]) -> Vec<MountPlan> {
        let mut plans = self.mounts.clone();
        let Some(auto) = &mut self.auto else {
            return plans;
        };
        let mut kept = BTreeMap::new();
        for plugin in plugins {
            if plans.iter().any(|plan| plan.spec.plugin == plugin.name) {
                continue;
            }
            let path = plugin.description.default_mount.clone();
            if plans.iter().any(|plan| plan.spec.path == path) {
                let name = &plugin.name;
                tracing::warn!(
                    plugin = name,
                    path,
                    "not mounted: the path is taken; add a [[mount]] for it"
                );
                continue;
            }
            let plan = auto.mounts.remove(&plugin.name);
            let plan = plan.filter(|plan| fits(&plan.spec, plugin));
            let Some(plan) = plan.or_else(|| auto_plan(auto, plugin)) else {
                continue;
            };
            kept.insert(plugin.name.clone(), plan.clone());
            plans.push(plan);
        }
        auto.mounts = kept;
        plans
    }
}

/// Whether a mount made for an older version of a plugin suits this one.
fn fits(spec: &MountSpec, plugin: &Plugin) -> bool {
    spec.path == plugin.description.default_mount
        && spec.stores.keys().eq(plugin.description.stores.iter())
}

fn auto_plan(auto: &AutoPlan, plugin: &Plugin) -> Option<MountPlan> {
    let folder = match Folder::new(plugin.name.clone()) {
        Ok(folder) => folder,
        Err(error) => {
            tracing::warn!(plugin = plugin.name, %error, "not mounted: its name is no folder");
            return None;
        }
    };
    let store: Arc<dyn BlobStore> = Arc::new(Subfolder::new(auto.store.clone(), folder));
    let store: Arc<dyn Grant> = Arc::new(store);
    let stores = plugin.description.stores.iter().map(|name| (name.clone(), store.clone()));
    let spec = MountSpec {
        path: plugin.description.default_mount.clone(),
        plugin: plugin.name.clone(),
        settings: serde_json::Map::new(),
        stores: stores.collect(),
        limits: Limits::default(),
        warm: false,
    };
    Some(MountPlan { spec: Arc::new(spec), access: auto.access.clone() })
}

fn open_store(name: &str, config: &config::Store, before: Option<&Assembly>) -> Result<OpenStore> {
    let known = before.and_then(|before| before.stores.get(name));
    let same = known.filter(|known| {
        known.path == config.path && known.group_accessible == config.group_accessible
    });
    if let Some(same) = same {
        return Ok(same.clone());
    }
    let mut options = DiskOptions::default();
    if config.group_accessible {
        options = options.group_accessible();
    }
    let store = DiskStore::open(&config.path, options)
        .with_context(|| format!("[store.{name}] {}", config.path.display()))?;
    Ok(OpenStore {
        path: config.path.clone(),
        group_accessible: config.group_accessible,
        store: Arc::new(store),
    })
}

/// A listener's certificate, loaded.
pub(crate) fn load_tls(tls: &config::Tls) -> Result<Arc<Tls>> {
    let minimum = match tls.min_version.as_ref().map(|version| version.get_ref().as_str()) {
        Some("1.3") => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    };
    let (certificate, key) = (tls.certificate.clone(), tls.key.clone());
    Ok(Tls::load(TlsFiles { certificate, key, minimum })?)
}
