//! What the runtime counts: calls and loads of plugins. What plugins name themselves is in `plugins`.
//! Everything lands in one Prometheus registry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use serde::Serialize;

use crate::mount::Mount;
use crate::voice::LogGate;

use self::plugins::AddedUp;
pub(crate) use self::plugins::{MetricKind, MetricSpec, PluginMetrics};

mod plugins;

/// The runtime's own metrics.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) calls: IntCounterVec,
    pub(crate) moved: IntCounterVec,
    pub(crate) loads: IntCounterVec,
    pub(crate) generation: IntGauge,
    pub(crate) refused: IntGauge,
    pub(crate) own: Arc<PluginMetrics>,
    dropped: IntCounterVec,
    aside: Arc<AsideNow>,
}

/// What a plugin at a mount may say, and how much of it was too much.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) gate: LogGate,
    /// Lines that were dropped.
    pub(crate) dropped: IntCounter,
}

impl Metrics {
    /// Registers everything. Fails where a metric of that name is there already.
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
                "Bytes of bodies that plugins read or made themselves; others the gateway moves alone.",
            ),
            &["mount", "plugin"],
        )?;
        let loads = IntCounterVec::new(
            Opts::new("keepgate_plugin_loads_total", "Plugin files loaded or refused."),
            &["plugin", "result"],
        )?;
        let generation = IntGauge::new(
            "keepgate_generation",
            "Number of the table of mounts and plugins that serves now.",
        )?;
        let refused = IntGauge::new(
            "keepgate_plugin_refused",
            "Plugin files in the folder that are refused at the moment.",
        )?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(moved.clone()))?;
        registry.register(Box::new(loads.clone()))?;
        registry.register(Box::new(generation.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "keepgate_plugin_log_lines_dropped_total",
                "Lines that plugins wanted in the log beyond what they may.",
            ),
            &["mount", "plugin"],
        )?;
        registry.register(Box::new(dropped.clone()))?;
        let own = Arc::new(PluginMetrics::default());
        let aside = Arc::new(AsideNow::default());
        registry.register(Box::new(Collected(own.clone(), aside.clone())))?;
        Ok(Self { calls, moved, loads, generation, refused, own, dropped, aside })
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

    /// A voice of its own for a plugin at a mount.
    pub(crate) fn voice(&self, mount: &str, plugin: &str) -> Voice {
        Voice {
            gate: LogGate::default(),
            dropped: self.dropped.with_label_values(&[mount, plugin]),
        }
    }

    /// These are the mounts that serve now; of others nothing is told any more.
    pub(crate) fn serve(&self, mounts: &[Arc<Mount>]) {
        let mounts = mounts.iter().map(Arc::downgrade).collect();
        *self.aside.0.lock().unwrap_or_else(PoisonError::into_inner) = mounts;
    }

    /// The plugins' counters alone, without the label `mount`, as a registry can take them: those
    /// of several mounts are added up, which gauges cannot be. For pages that must look like another
    /// server's.
    pub fn without_mounts(&self) -> Box<dyn Collector> {
        Box::new(AddedUp(self.own.clone()))
    }
}

/// What a plugin has done at a mount since the gateway began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls by outcome: `ok`, `failure`, or why the plugin broke down.
    pub outcomes: BTreeMap<String, u64>,
    /// Bytes of bodies that it read or made itself.
    pub guest_bytes: u64,
}

/// The mounts of the generation that serves.
#[derive(Debug, Default)]
struct AsideNow(Mutex<Vec<Weak<Mount>>>);

impl AsideNow {
    /// Their paths.
    fn paths(&self) -> Vec<String> {
        let mounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.iter().filter_map(Weak::upgrade).map(|mount| mount.path().to_owned()).collect()
    }

    /// Whether their plugins are put aside, asked when somebody looks: a gauge that is kept would have
    /// to be set back for mounts that are gone.
    fn collect(&self) -> Vec<MetricFamily> {
        let help = "1 for a plugin that is put aside, since it breaks down again and again.";
        let gauge = Opts::new("keepgate_plugin_aside", help);
        let Ok(gauge) = IntGaugeVec::new(gauge, &["mount", "plugin"]) else { return Vec::new() };
        let mounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for mount in mounts.iter().filter_map(Weak::upgrade) {
            let aside = i64::from(mount.aside().is_some());
            gauge.with_label_values(&[mount.path(), mount.plugin()]).set(aside);
        }
        gauge.collect()
    }
}

/// Gives all of them to the registry at once. It names no descriptors beforehand: a registry
/// never forgets one, and a new version of a plugin may give a counter other labels. Of collectors
/// that name none a registry takes one.
struct Collected(Arc<PluginMetrics>, Arc<AsideNow>);

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect(&self.1.paths());
        families.extend(self.1.collect());
        families
    }
}
