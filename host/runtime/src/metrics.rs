//! The runtime's metrics: calls and loads of plugins. The metrics that plugins describe are in `plugins`.
//! All of them are in one Prometheus registry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use serde::Serialize;

use crate::guest_log::GuestLog;
use crate::shares::Usage;

use self::plugins::{AddedUp, Owner, PluginMetrics};
pub(crate) use self::series::{MetricKind, MetricSpec, MountMetrics, check};

mod plugins;
mod series;

/// The runtime's own metrics.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) calls: IntCounterVec,
    pub(crate) moved: IntCounterVec,
    pub(crate) waited: CounterVec,
    pub(crate) loads: IntCounterVec,
    pub(crate) generation: IntGauge,
    pub(crate) refused: IntGauge,
    pub(crate) interpreted: IntGauge,
    pub(crate) own: Arc<PluginMetrics>,
    dropped: IntCounterVec,
    mounts: Arc<CurrentMounts>,
}

impl Metrics {
    /// Registers them. Fails if the registry has a metric of the same name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let calls = IntCounterVec::new(
            Opts::new(
                "keepgate_plugin_calls_total",
                "Calls into plugins by outcome: ok, failure, or why the plugin broke down.",
            ),
            &["mount", "plugin", "outcome"],
        )?;
        let moved = IntCounterVec::new(
            Opts::new(
                "keepgate_plugin_guest_bytes_total",
                "Bytes of bodies that plugins read or produced. Bodies that the gateway moves by itself are not counted.",
            ),
            &["mount", "plugin"],
        )?;
        let waited = CounterVec::new(
            Opts::new(
                "keepgate_plugin_waited_seconds_total",
                "Time that calls waited for their turn to compute, because calls of this or other mounts compute for long.",
            ),
            &["mount"],
        )?;
        let loads = IntCounterVec::new(
            Opts::new("keepgate_plugin_loads_total", "Plugin files loaded or refused."),
            &["plugin", "result"],
        )?;
        let generation = IntGauge::new(
            "keepgate_generation",
            "Number of the current generation of mounts and plugins.",
        )?;
        let refused = IntGauge::new(
            "keepgate_plugin_refused",
            "Plugin files and mounts that are currently refused.",
        )?;
        let interpreted = IntGauge::new(
            "keepgate_plugin_interpreted",
            "Whether plugins are interpreted because the system refuses executable memory: 1 or 0.",
        )?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(moved.clone()))?;
        registry.register(Box::new(waited.clone()))?;
        registry.register(Box::new(loads.clone()))?;
        registry.register(Box::new(generation.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(interpreted.clone()))?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "keepgate_plugin_log_lines_dropped_total",
                "Log lines of plugins that were dropped by the rate limit.",
            ),
            &["mount", "plugin"],
        )?;
        registry.register(Box::new(dropped.clone()))?;
        let own = Arc::new(PluginMetrics::default());
        let mounts = Arc::new(CurrentMounts::default());
        registry.register(Box::new(Collected(own.clone(), mounts.clone())))?;
        Ok(Self {
            calls,
            moved,
            waited,
            loads,
            generation,
            refused,
            interpreted,
            own,
            dropped,
            mounts,
        })
    }

    /// What a plugin has done at a mount.
    pub(crate) fn counts(&self, mount: &str, plugin: &str) -> Counts {
        let mut counts = Counts::default();
        for family in self.calls.collect() {
            for metric in family.get_metric() {
                let label = |name: &str| {
                    let mut labels = metric.get_label().iter();
                    labels.find(|label| label.name() == name).map_or("", |label| label.value())
                };
                if label("mount") == mount && label("plugin") == plugin {
                    let calls =
                        self.calls.with_label_values(&[mount, plugin, label("outcome")]).get();
                    counts.outcomes.insert(label("outcome").to_owned(), calls);
                }
            }
        }
        counts.guest_bytes = self.moved.with_label_values(&[mount, plugin]).get();
        counts
    }

    /// The log of a plugin at a mount.
    pub(crate) fn guest_log(&self, mount: &str, plugin: &str) -> GuestLog {
        GuestLog::new(mount, plugin, self.dropped.with_label_values(&[mount, plugin]))
    }

    /// Sets the mounts of the current generation. What plugins have counted at other mounts is forgotten.
    pub(crate) fn serve(&self, mounts: &[Arc<dyn Watched>]) {
        let own = mounts.iter().map(|mount| {
            let (path, plugin) = (mount.path().to_owned(), mount.plugin().to_owned());
            (Owner { mount: path, plugin }, mount.metrics())
        });
        self.own.serve(own.collect());
        let mounts = mounts.iter().map(Arc::downgrade).collect();
        *self.mounts.0.lock().unwrap_or_else(PoisonError::into_inner) = mounts;
    }

    /// Sets the plugins, by the names of their files, whose metrics pages show under the plugins' own names, as
    /// dashboards made for other servers expect. Those of all others begin with `plugin_` and the name of the file.
    pub fn show_unprefixed(&self, plugins: Vec<String>) {
        self.own.show_unprefixed(plugins);
    }

    /// The plugins' counters only, without the label `mount`: the sum over all mounts, which gauges do
    /// not have. For metrics pages that must look like another server's.
    pub fn without_mounts(&self) -> Box<dyn Collector> {
        Box::new(AddedUp(self.own.clone()))
    }
}

/// What a plugin has done at a mount since the gateway started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls by outcome: `ok`, `failure`, or why the plugin broke down.
    pub outcomes: BTreeMap<String, u64>,
    /// Bytes of bodies that it read or produced.
    pub guest_bytes: u64,
}

/// A mount, as far as metrics look at it.
pub(crate) trait Watched: std::fmt::Debug + Send + Sync {
    fn path(&self) -> &str;
    fn plugin(&self) -> &str;
    /// Whether its circuit breaker is open.
    fn is_open(&self) -> bool;
    /// What it has of what mounts share, if a plugin serves.
    fn usage(&self) -> Option<Usage>;
    /// What the plugin counts here, if one serves.
    fn metrics(&self) -> Option<Arc<MountMetrics>>;
}

/// The mounts of the current generation.
#[derive(Debug, Default)]
struct CurrentMounts(Mutex<Vec<Weak<dyn Watched>>>);

impl CurrentMounts {
    /// Whether their plugins are suspended, and what they have of what mounts share. Computed when metrics are read,
    /// because a stored gauge would have to be reset for mounts that are gone.
    fn collect(&self) -> Vec<MetricFamily> {
        type Value = fn(&dyn Watched) -> Option<u64>;
        let gauges: [(&str, &str, Value); 4] = [
            (
                "keepgate_plugin_aside",
                "1 if the plugin is suspended because it keeps breaking down.",
                |mount| Some(mount.is_open().into()),
            ),
            (
                "keepgate_plugin_instances",
                "Instances of the plugin, idle ones included, in places of the pool that all plugins share.",
                |mount| Some(mount.usage()?.instances.used),
            ),
            (
                "keepgate_plugin_memory_bytes",
                "Memory that the plugin takes of what all plugins may have: linear memory, and what the gateway holds for it.",
                |mount| Some(mount.usage()?.memory_bytes.used),
            ),
            (
                "keepgate_plugin_open_files",
                "Blobs, snapshots and other files or connections that are open for the plugin.",
                |mount| Some(mount.usage()?.open_files.used),
            ),
        ];
        let mounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mounts: Vec<_> = mounts.iter().filter_map(Weak::upgrade).collect();
        let mut families = Vec::new();
        for (name, help, value) in gauges {
            let Ok(gauge) = IntGaugeVec::new(Opts::new(name, help), &["mount", "plugin"]) else {
                continue;
            };
            for mount in &mounts {
                if let Some(value) = value(&**mount) {
                    let value = i64::try_from(value).unwrap_or(i64::MAX);
                    gauge.with_label_values(&[mount.path(), mount.plugin()]).set(value);
                }
            }
            families.extend(gauge.collect());
        }
        families
    }
}

/// Collects the plugins' metrics. It declares no descriptors, because a registry never forgets one and a
/// new version of a plugin may give a counter other labels. A registry accepts one collector without
/// descriptors.
struct Collected(Arc<PluginMetrics>, Arc<CurrentMounts>);

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        families.extend(self.1.collect());
        families
    }
}
