//! What the runtime counts: calls and loads of plugins, and the counters that plugins name
//! themselves. Everything lands in one Prometheus registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use serde::Serialize;

use crate::mount::Mount;
use crate::voice::LogGate;

/// Most series of one plugin's counter: a plugin that labels by file name must not eat the host's
/// memory.
const MAX_SERIES: usize = 10_000;
/// The longest value of a label, in bytes.
const MAX_LABEL: usize = 256;

/// The runtime's own metrics.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) calls: IntCounterVec,
    pub(crate) moved: IntCounterVec,
    pub(crate) loads: IntCounterVec,
    pub(crate) generation: IntGauge,
    pub(crate) refused: IntGauge,
    pub(crate) counters: Arc<Counters>,
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
        let counters = Arc::new(Counters::default());
        let aside = Arc::new(AsideNow::default());
        registry.register(Box::new(Collected(counters.clone(), aside.clone())))?;
        Ok(Self { calls, moved, loads, generation, refused, counters, dropped, aside })
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
    /// of several mounts are added up. For pages that must look like another server's.
    pub fn without_mounts(&self) -> Box<dyn Collector> {
        Box::new(AddedUp(self.counters.clone()))
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

/// A counter that a plugin named in `describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSpec {
    /// In Prometheus' form.
    pub name: String,
    /// One line.
    pub help: String,
    /// Label names; the host puts `mount` before them.
    pub labels: Vec<String>,
}

/// The plugins' own counters. They outlive the plugins, so that a reload does not set them back.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    vectors: Mutex<HashMap<String, Counter>>,
}

/// The mounts of the generation that serves.
#[derive(Debug, Default)]
struct AsideNow(Mutex<Vec<Weak<Mount>>>);

impl AsideNow {
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
struct Collected(Arc<Counters>, Arc<AsideNow>);

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let vectors = self.0.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = vectors.values().flat_map(|counter| counter.vector.collect());
        counters.chain(self.1.collect()).collect()
    }
}

/// The same without the label `mount`.
struct AddedUp(Arc<Counters>);

impl Collector for AddedUp {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let vectors = self.0.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.values().filter_map(|counter| counter.added_up().ok()).flatten().collect()
    }
}

#[derive(Debug)]
struct Counter {
    /// Who named it.
    plugin: String,
    spec: CounterSpec,
    vector: IntCounterVec,
    series: HashMap<Vec<String>, IntCounter>,
}

impl Counter {
    fn added_up(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let labels: Vec<&str> = self.spec.labels.iter().map(String::as_str).collect();
        let vector = IntCounterVec::new(Opts::new(&self.spec.name, &self.spec.help), &labels)?;
        for (values, series) in &self.series {
            let values: Vec<&str> = values.iter().skip(1).map(String::as_str).collect();
            vector.get_metric_with_label_values(&values)?.inc_by(series.get());
        }
        Ok(vector.collect())
    }
}

impl Counters {
    /// Makes a counter known; a second plugin or a new version may name the same again, with the
    /// same labels.
    ///
    /// With other labels only the plugin that named it may name it again: the counts are lost then.
    pub(crate) fn declare(&self, plugin: &str, spec: &CounterSpec) -> Result<(), String> {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        // A new version with other labels has the last word; what was counted is lost, which
        // Prometheus treats like a restart.
        if let Some(known) = vectors.get(&spec.name) {
            if known.spec.labels == spec.labels {
                return Ok(());
            }
            if known.plugin != plugin {
                let (other, labels) = (&known.plugin, &known.spec.labels);
                return Err(format!(
                    "the plugin {other} has it already, with the labels {labels:?}"
                ));
            }
        }
        if spec.name.starts_with("keepgate_") {
            return Err(format!("the name {} belongs to the gateway", spec.name));
        }
        let labels: Vec<&str> =
            std::iter::once("mount").chain(spec.labels.iter().map(String::as_str)).collect();
        let vector = IntCounterVec::new(Opts::new(&spec.name, &spec.help), &labels)
            .map_err(|error| error.to_string())?;
        let (plugin, spec) = (plugin.to_owned(), spec.clone());
        let name = spec.name.clone();
        let counter = Counter { plugin, spec, vector, series: HashMap::new() };
        vectors.insert(name, counter);
        Ok(())
    }

    /// Adds to a counter, or says why not.
    pub(crate) fn count(
        &self,
        mount: &str,
        metric: &str,
        labels: &[String],
        by: u64,
    ) -> Result<(), String> {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let counter =
            vectors.get_mut(metric).ok_or_else(|| "describe does not name it".to_owned())?;
        if labels.len() != counter.spec.labels.len() {
            return Err(format!(
                "{} label values, not {}",
                labels.len(),
                counter.spec.labels.len()
            ));
        }
        if let Some(long) = labels.iter().find(|label| label.len() > MAX_LABEL) {
            return Err(format!("a label of {} bytes; {MAX_LABEL} are the most", long.len()));
        }
        let mut values = Vec::with_capacity(labels.len() + 1);
        values.push(mount.to_owned());
        values.extend_from_slice(labels);
        if let Some(series) = counter.series.get(&values) {
            series.inc_by(by);
            return Ok(());
        }
        if counter.series.len() >= MAX_SERIES {
            return Err(format!("it has {MAX_SERIES} series already"));
        }
        let slices: Vec<&str> = values.iter().map(String::as_str).collect();
        let series = counter
            .vector
            .get_metric_with_label_values(&slices)
            .map_err(|error| error.to_string())?;
        series.inc_by(by);
        counter.series.insert(values, series);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(labels: &[&str]) -> CounterSpec {
        CounterSpec {
            name: "blobs_total".to_owned(),
            help: "Blobs.".to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    #[test]
    fn a_counter_survives_a_second_declaration_and_refuses_what_does_not_fit() {
        let registry = Registry::new();
        let counters = Metrics::new(&registry).unwrap().counters;
        counters.declare("x", &spec(&["user"])).unwrap();
        counters.count("/", "blobs_total", &["a".to_owned()], 2).unwrap();
        counters.declare("x", &spec(&["user"])).unwrap();
        counters.count("/", "blobs_total", &["a".to_owned()], 3).unwrap();
        let mut families = registry.gather();
        families.retain(|family| family.name() == "blobs_total");
        assert_eq!(families[0].get_metric()[0].get_counter().get_value(), 5.0);
        assert!(counters.count("/", "blobs_total", &[], 1).is_err());
        assert!(counters.count("/", "other", &[], 1).is_err());
        counters.declare("x", &spec(&["user", "repo"])).unwrap();
        counters.count("/", "blobs_total", &["a".to_owned(), "b".to_owned()], 1).unwrap();
        let why = counters.declare("y", &spec(&["other"])).unwrap_err();
        assert!(why.contains("the plugin x has it already"), "{why}");
        counters.declare("y", &spec(&["user", "repo"])).unwrap();
    }

    #[test]
    fn without_mounts_their_counts_are_added_up() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        metrics.counters.declare("x", &spec(&["user"])).unwrap();
        for (mount, user, by) in [("/a", "x", 1), ("/b", "x", 2), ("/b", "y", 4)] {
            metrics.counters.count(mount, "blobs_total", &[user.to_owned()], by).unwrap();
        }
        let page = Registry::new();
        page.register(metrics.without_mounts()).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&page.gather()).unwrap();
        assert!(text.contains("blobs_total{user=\"x\"} 3\n"), "{text}");
        assert!(text.contains("blobs_total{user=\"y\"} 4\n"), "{text}");
    }

    #[test]
    fn series_are_bounded() {
        let counters = Counters::default();
        counters.declare("x", &spec(&["user"])).unwrap();
        for n in 0..MAX_SERIES {
            counters.count("/", "blobs_total", &[n.to_string()], 1).unwrap();
        }
        assert!(counters.count("/", "blobs_total", &["one more".to_owned()], 1).is_err());
        counters.count("/", "blobs_total", &["0".to_owned()], 1).unwrap();
        let why = counters.count("/", "blobs_total", &["x".repeat(MAX_LABEL + 1)], 1);
        assert!(why.unwrap_err().contains("257 bytes"));
    }
}
