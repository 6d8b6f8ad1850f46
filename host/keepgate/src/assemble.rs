//! Opens what a configuration names: stores with their policies, ways in, certificates, and the specs of mounts.
//!
//! A reload shares everything that has not changed with the previous assembly, so that stores stay open
//! and cached logins stay cached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use keepgate_auth::Access;
use keepgate_http::{Cors, RateLimits, Tls, TlsFiles, tls::TlsVersion};
use keepgate_runtime::capability::blobs::{StoreGrant, Stores};
use keepgate_runtime::generation::Refused;
use keepgate_runtime::{MountSpec, Plugin, Trust};
use keepgate_store::{BlobStore, Folder};

use crate::authentication::Authentication;
use crate::auto_mount::AutoMount;
use crate::config::capability::{OwnState, Providers};
use crate::config::{self, Config};
use crate::guarded_store::GuardedStore;
use crate::quotas::NamedQuota;
use crate::stores::{Environment, OpenStore, Overview};

/// Everything that a configuration names, opened.
#[derive(Debug)]
pub(crate) struct Assembly {
    stores: BTreeMap<String, OpenStore>,
    /// The names of those that some mount may write to.
    written: BTreeSet<String>,
    pub(crate) authentication: Authentication,
    /// The mounts that the configuration names.
    pub(crate) mounts: Vec<MountPlan>,
    /// The metrics page beside them.
    pub(crate) metrics_page: Option<PagePlan>,
    auto: Option<AutoMount>,
    /// Which plugins may be loaded.
    pub(crate) trust: Trust,
    /// Plugins whose metrics are shown under the plugins' own names.
    pub(crate) unprefixed_metrics: Vec<String>,
    /// What mounts reach besides stores.
    pub(crate) capabilities: Providers,
}

/// Metrics of the systems behind the gateway.
#[derive(Clone, Debug)]
pub(crate) struct SystemMetrics {
    buckets: keepgate_store_s3::Metrics,
    upstreams: keepgate_upstream::Metrics,
}

impl SystemMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            buckets: keepgate_store_s3::Metrics::new(registry)?,
            upstreams: keepgate_upstream::Metrics::new(registry)?,
        })
    }
}

/// A metrics page on the listeners of clients.
#[derive(Clone, Debug)]
pub(crate) struct PagePlan {
    pub(crate) path: String,
    pub(crate) access: Arc<Access>,
    /// The only user who may read it.
    pub(crate) user: Option<String>,
    /// Whether counters of plugins have a label with the mount.
    pub(crate) mount_label: bool,
}

/// A mount, who may access it, from which origins browsers may, and how often.
#[derive(Clone, Debug)]
pub(crate) struct MountPlan {
    pub(crate) spec: Arc<MountSpec>,
    pub(crate) access: Arc<Access>,
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) rate_limits: Option<Arc<RateLimits>>,
}

impl Assembly {
    /// Opens everything. What has not changed is shared with `before`. The gateway's own state stays open
    /// as long as it runs.
    pub(crate) async fn new(
        config: &Config,
        before: Option<&Self>,
        own: OwnState,
        metrics: &SystemMetrics,
    ) -> Result<Self> {
        let mut stores = BTreeMap::new();
        for (name, store) in &config.store {
            let known = before.and_then(|before| before.stores.get(name));
            let store = (name.as_str(), store.get_ref());
            let environment = Environment { clock: own.clock(), metrics: &metrics.buckets };
            let open = Box::pin(OpenStore::open(config, store, known, environment)).await?;
            stores.insert(name.clone(), open);
        }
        let capabilities = Providers::open(config, own, Some(&metrics.upstreams))?;
        let assembly = Self::around(stores, config, before, capabilities)?;
        assembly.authentication.prefetch();
        Ok(assembly)
    }

    /// Opens everything except quotas, jobs and records, which belong to the running gateway.
    pub(crate) fn to_look_at(config: &Config) -> Result<Self> {
        let mut stores = BTreeMap::new();
        for (name, store) in &config.store {
            stores.insert(name.clone(), OpenStore::to_look_at(config, (name, store.get_ref()))?);
        }
        Self::around(stores, config, None, Providers::open(config, OwnState::default(), None)?)
    }

    fn around(
        stores: BTreeMap<String, OpenStore>,
        config: &Config,
        before: Option<&Self>,
        capabilities: Providers,
    ) -> Result<Self> {
        let mut assembly = Self {
            stores,
            written: written(config),
            authentication: Authentication::open(
                config,
                before.map(|before| &before.authentication),
            )?,
            mounts: Vec::new(),
            metrics_page: None,
            auto: None,
            trust: config
                .plugins
                .as_ref()
                .map_or_else(|| Ok(Trust::default()), |plugins| plugins.get_ref().trust())?,
            unprefixed_metrics: config
                .plugins
                .as_ref()
                .map(|plugins| plugins.get_ref().unprefixed_metrics.clone())
                .unwrap_or_default(),
            capabilities,
        };
        for mount in &config.mount {
            let plan = assembly.plan(mount, before)?;
            assembly.mounts.push(plan);
        }
        if let Some(page) = &config.metrics {
            assembly.metrics_page = Some(PagePlan {
                path: page.path.get_ref().clone(),
                access: Arc::new(assembly.authentication.access(&page.auth)?),
                user: page.user.clone(),
                mount_label: page.mount_label,
            });
        }
        if let Some(auto) = &config.auto_mount {
            assembly.auto = Some(AutoMount::new(
                Arc::new(assembly.authentication.access(&auto.auth)?),
                assembly.store(auto.store.get_ref())?,
                assembly.capabilities.grants(None)?,
                before.and_then(|before| before.auto.as_ref()),
            ));
        }
        Ok(assembly)
    }

    /// Opens what a mount names. Its rate limits continue to count if they are the same as `before`.
    fn plan(&self, mount: &config::Mount, before: Option<&Self>) -> Result<MountPlan> {
        let path = mount.path.get_ref();
        let mut stores: BTreeMap<String, Arc<dyn StoreGrant>> = BTreeMap::new();
        for (name, store) in &mount.stores {
            let (store, folder) = self.store(store.get_ref())?;
            stores.insert(name.clone(), Arc::new(GuardedStore::new(mount, store, folder)));
        }
        let settings = match serde_json::to_value(&mount.settings) {
            Ok(serde_json::Value::Object(settings)) => settings,
            other => {
                return Err(anyhow!(
                    "mount {path:?}: cannot convert `settings` to JSON: {other:?}"
                ));
            }
        };
        let spec = MountSpec {
            path: path.clone(),
            place: Some(mount.place.clone()),
            plugin: mount.plugin.get_ref().clone(),
            settings,
            grants: self.capabilities.grants(Some(mount))?.with(Stores(stores)),
            limits: mount.limits.to_runtime(),
            warm: mount.warm,
        };
        let access = Arc::new(self.authentication.access(&mount.auth)?);
        let cors = mount.cors().with_context(|| format!("mount {path:?}: cors"))?;
        let known = before.and_then(|before| before.mounts.iter().find(|it| it.spec.path == *path));
        let rate_limits = mount.rate_limits(known.and_then(|known| known.rate_limits.as_deref()));
        let rate_limits = rate_limits.with_context(|| format!("mount {path:?}: rate_limit"))?;
        let rate_limits = rate_limits.map(Arc::new);
        Ok(MountPlan { spec: Arc::new(spec), access, cors, rate_limits })
    }

    /// A store by its name, or a folder of one, for example `main/team`.
    pub(crate) fn store(&self, named: &str) -> Result<(OpenStore, Folder)> {
        let (name, folder) = config::store_and_folder(named);
        let open = self.stores.get(name).ok_or_else(|| anyhow!("unknown store {name:?}"))?;
        Ok((open.clone(), Folder::new(folder)?))
    }

    /// All quotas.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = &NamedQuota> {
        self.stores.values().flat_map(|store| &store.quotas)
    }

    /// Stores in which blobs may expire, with their quotas: all but those that no mount may write to.
    pub(crate) fn expiring(&self) -> Vec<(String, Arc<dyn BlobStore>)> {
        let written = self.stores.iter().filter(|(name, _)| self.written.contains(*name));
        written.map(|(name, store)| (name.clone(), store.counted(None))).collect()
    }

    /// Activates the limits of this configuration.
    pub(crate) async fn change_quotas(&self) -> Result<()> {
        for quota in self.quotas() {
            quota.change().await?;
        }
        Ok(())
    }

    /// The names of the stores, and where they are.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, String)> {
        self.stores.iter().map(|(name, store)| (name.as_str(), store.backend.place()))
    }

    /// The stores, for operators.
    pub(crate) fn stores(&self) -> Overview {
        let stores = self.stores.iter();
        Overview::new(stores.map(|(name, store)| (name.clone(), store.backend.clone())))
    }

    /// All mounts: those of the configuration, and with `[auto_mount]` one for each other plugin, at the path
    /// that the plugin proposes; and the plugins that cannot have theirs.
    pub(crate) fn plans(&mut self, plugins: &[Arc<Plugin>]) -> (Vec<MountPlan>, Vec<Refused>) {
        let mut plans = self.mounts.clone();
        let Some(auto) = &mut self.auto else {
            return (plans, Vec::new());
        };
        let named =
            |plugin: &&Arc<Plugin>| plans.iter().any(|plan| plan.spec.plugin == plugin.name);
        let others: Vec<_> = plugins.iter().filter(|plugin| !named(plugin)).collect();
        let page = self.metrics_page.iter().map(|page| &*page.path);
        let taken: Vec<_> = plans.iter().map(|plan| &*plan.spec.path).chain(page).collect();
        let (mounts, refused) = auto.mount(&others, &taken);
        plans.extend(mounts);
        (plans, refused)
    }
}

/// The names of the stores that some mount may write to, if only for one user.
fn written(config: &Config) -> BTreeSet<String> {
    let writes = |mount: &&config::Mount| {
        let mut users = mount.rule.iter().filter(|rule| rule.user.is_some());
        !mount.policy.read_only || users.any(|rule| !rule.policy.get_ref().read_only)
    };
    let mounts = config.mount.iter().filter(writes);
    let mounted = mounts.flat_map(|mount| mount.stores.values().map(toml::Spanned::get_ref));
    let auto = config.auto_mount.iter().map(|auto| auto.store.get_ref());
    let names = mounted.chain(auto).map(|named| config::store_and_folder(named).0.to_owned());
    names.collect()
}

/// Loads the certificate of a listener.
pub(crate) fn load_tls(tls: &config::Tls) -> Result<Arc<Tls>> {
    let minimum = match tls.min_version.as_ref().map(|version| version.get_ref().as_str()) {
        Some("1.3") => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    };
    let (certificate, key) = (tls.certificate.clone(), tls.key.clone());
    Ok(Tls::load(TlsFiles { certificate, key, minimum })?)
}
