//! What the runtime counts: calls and loads of plugins, and the counters that plugins name
//! themselves. Everything lands in one Prometheus registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use serde::Serialize;

/// Most series of one plugin's counter: a plugin that labels by file name must not eat the host's
/// memory.
const MAX_SERIES: usize = 10_000;

/// The runtime's own metrics.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) calls: IntCounterVec,
    pub(crate) moved: IntCounterVec,
    pub(crate) loads: IntCounterVec,
    pub(crate) generation: IntGauge,
    pub(crate) refused: IntGauge,
    pub(crate) counters: Arc<Counters>,
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
        let counters = Arc::new(Counters::default());
        registry.register(Box::new(Collected(counters.clone())))?;
        Ok(Self { calls, moved, loads, generation, refused, counters })
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

/// Gives all of them to the registry at once. It names no descriptors beforehand: a registry
/// never forgets one, and a new version of a plugin may give a counter other labels.
struct Collected(Arc<Counters>);

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let vectors = self.0.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.values().flat_map(|counter| counter.vector.collect()).collect()
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
    pub(crate) fn declare(&self, spec: &CounterSpec) -> Result<(), String> {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        // A new version with other labels has the last word; what was counted is lost, which
        // Prometheus treats like a restart.
        if vectors.get(&spec.name).is_some_and(|known| known.spec.labels == spec.labels) {
            return Ok(());
        }
        if spec.name.starts_with("keepgate_") {
            return Err(format!("the name {} belongs to the gateway", spec.name));
        }
        let labels: Vec<&str> =
            std::iter::once("mount").chain(spec.labels.iter().map(String::as_str)).collect();
        let vector = IntCounterVec::new(Opts::new(&spec.name, &spec.help), &labels)
            .map_err(|error| error.to_string())?;
        let counter = Counter { spec: spec.clone(), vector, series: HashMap::new() };
        vectors.insert(spec.name.clone(), counter);
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
        counters.declare(&spec(&["user"])).unwrap();
        counters.count("/", "blobs_total", &["a".to_owned()], 2).unwrap();
        counters.declare(&spec(&["user"])).unwrap();
        counters.count("/", "blobs_total", &["a".to_owned()], 3).unwrap();
        let mut families = registry.gather();
        families.retain(|family| family.name() == "blobs_total");
        assert_eq!(families[0].get_metric()[0].get_counter().get_value(), 5.0);
        assert!(counters.count("/", "blobs_total", &[], 1).is_err());
        assert!(counters.count("/", "other", &[], 1).is_err());
        counters.declare(&spec(&["user", "repo"])).unwrap();
        counters.count("/", "blobs_total", &["a".to_owned(), "b".to_owned()], 1).unwrap();
    }

    #[test]
    fn without_mounts_their_counts_are_added_up() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        metrics.counters.declare(&spec(&["user"])).unwrap();
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
        counters.declare(&spec(&["user"])).unwrap();
        for n in 0..MAX_SERIES {
            counters.count("/", "blobs_total", &[n.to_string()], 1).unwrap();
        }
        assert!(counters.count("/", "blobs_total", &["one more".to_owned()], 1).is_err());
        counters.count("/", "blobs_total", &["0".to_owned()], 1).unwrap();
    }
}
