//! The counters and gauges that plugins describe. They outlive the plugins, so that a reload does not
//! reset a counter. A value that is dropped comes with the reason.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Opts};

/// The most series of one metric: a plugin that labels by file name must not use up the host's memory.
const MAX_SERIES: usize = 10_000;
/// The longest value of a label, in bytes.
const MAX_LABEL: usize = 256;
/// The label that the host adds before the plugin's.
const MOUNT: &str = "mount";

/// A metric that a plugin described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricSpec {
    /// In Prometheus' form.
    pub(crate) name: String,
    pub(crate) kind: MetricKind,
    /// One line.
    pub(crate) help: String,
    /// Label names.
    pub(crate) labels: Vec<String>,
}

/// Whether a metric is added to or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "a counter",
            Self::Gauge => "a gauge",
        })
    }
}

/// The metrics of all plugins, by name.
#[derive(Debug, Default)]
pub(crate) struct PluginMetrics {
    metrics: Mutex<HashMap<String, Metric>>,
}

#[derive(Debug)]
struct Metric {
    /// The plugin that described it.
    plugin: String,
    spec: MetricSpec,
    series: Series,
}

/// By the values of the labels, the mount first.
#[derive(Debug)]
enum Series {
    Counters(IntCounterVec, HashMap<Vec<String>, IntCounter>),
    Gauges(GaugeVec, HashMap<Vec<String>, Gauge>),
}

impl Series {
    fn new(spec: &MetricSpec) -> Result<Self, prometheus::Error> {
        let labels: Vec<&str> =
            std::iter::once(MOUNT).chain(spec.labels.iter().map(String::as_str)).collect();
        let options = Opts::new(&spec.name, &spec.help);
        Ok(match spec.kind {
            MetricKind::Counter => {
                Self::Counters(IntCounterVec::new(options, &labels)?, HashMap::new())
            }
            MetricKind::Gauge => Self::Gauges(GaugeVec::new(options, &labels)?, HashMap::new()),
        })
    }
}

/// Gets one of these series, creating it if necessary.
fn one<T: Clone>(
    known: &mut HashMap<Vec<String>, T>,
    values: Vec<String>,
    make: impl FnOnce(&[&str]) -> Result<T, prometheus::Error>,
) -> Result<T, String> {
    if let Some(series) = known.get(&values) {
        return Ok(series.clone());
    }
    if known.len() >= MAX_SERIES {
        return Err(format!("it has {MAX_SERIES} series already"));
    }
    let texts: Vec<&str> = values.iter().map(String::as_str).collect();
    let series = make(&texts).map_err(|error| error.to_string())?;
    known.insert(values, series.clone());
    Ok(series)
}

impl Metric {
    /// The values of all labels, or why they are refused.
    fn values(&self, mount: &str, labels: &[String]) -> Result<Vec<String>, String> {
        let expected = self.spec.labels.len();
        if labels.len() != expected {
            return Err(format!("{} label values, not {expected}", labels.len()));
        }
        if let Some(long) = labels.iter().find(|label| label.len() > MAX_LABEL) {
            return Err(format!(
                "a label of {} bytes; at most {MAX_LABEL} are allowed",
                long.len()
            ));
        }
        Ok(std::iter::once(mount.to_owned()).chain(labels.iter().cloned()).collect())
    }

    /// The sum over all mounts; `None` for a gauge.
    fn added_up(&self) -> Option<Result<Vec<MetricFamily>, prometheus::Error>> {
        let Series::Counters(_, known) = &self.series else { return None };
        let labels: Vec<&str> = self.spec.labels.iter().map(String::as_str).collect();
        let add = || {
            let vector = IntCounterVec::new(Opts::new(&self.spec.name, &self.spec.help), &labels)?;
            for (values, series) in known {
                let values: Vec<&str> = values.iter().skip(1).map(String::as_str).collect();
                vector.get_metric_with_label_values(&values)?.inc_by(series.get());
            }
            Ok(vector.collect())
        };
        Some(add())
    }
}

impl PluginMetrics {
    /// Adds a metric. Another plugin, or a new version of this one, may describe it again with the same
    /// kind and labels. Only the plugin that described it first may change them, and then the values
    /// are lost.
    pub(crate) fn declare(&self, plugin: &str, spec: &MetricSpec) -> Result<(), String> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        // If a new version has other labels, the values are lost, which Prometheus treats like a
        // restart.
        if let Some(known) = metrics.get(&spec.name) {
            if (known.spec.kind, &known.spec.labels) == (spec.kind, &spec.labels) {
                return Ok(());
            }
            if known.plugin != plugin {
                let (other, MetricSpec { kind, labels, .. }) = (&known.plugin, &known.spec);
                return Err(format!(
                    "the plugin {other} has it already, as {kind} with the labels {labels:?}"
                ));
            }
        }
        if spec.name.starts_with("keepgate_") {
            return Err(format!("the name {} belongs to the gateway", spec.name));
        }
        let series = Series::new(spec).map_err(|error| error.to_string())?;
        let metric = Metric { plugin: plugin.to_owned(), spec: spec.clone(), series };
        metrics.insert(spec.name.clone(), metric);
        Ok(())
    }

    /// Adds to a counter. The error says why the value is dropped.
    pub(crate) fn count(
        &self,
        mount: &str,
        metric: &str,
        labels: &[String],
        by: u64,
    ) -> Result<(), String> {
        self.change(mount, metric, labels, |series, values| match series {
            Series::Counters(vector, known) => {
                let make = |texts: &[&str]| vector.get_metric_with_label_values(texts);
                one(known, values, make).map(|counter| counter.inc_by(by))
            }
            Series::Gauges(..) => Err("it is a gauge, which can only be set".to_owned()),
        })
    }

    /// Sets a gauge. The error says why the value is dropped.
    pub(crate) fn set(
        &self,
        mount: &str,
        metric: &str,
        labels: &[String],
        value: f64,
    ) -> Result<(), String> {
        if !value.is_finite() {
            // Alerts compare, so they would never fire.
            return Err(format!("{value} is not a finite number"));
        }
        self.change(mount, metric, labels, |series, values| match series {
            Series::Gauges(vector, known) => {
                let make = |texts: &[&str]| vector.get_metric_with_label_values(texts);
                one(known, values, make).map(|gauge| gauge.set(value))
            }
            Series::Counters(..) => Err("it is a counter, which can only be added to".to_owned()),
        })
    }

    fn change(
        &self,
        mount: &str,
        metric: &str,
        labels: &[String],
        change: impl FnOnce(&mut Series, Vec<String>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let metric =
            metrics.get_mut(metric).ok_or_else(|| "the plugin does not describe it".to_owned())?;
        let values = metric.values(mount, labels)?;
        change(&mut metric.series, values)
    }

    /// All metrics; of gauges only those of `mounts`, because the value of a mount that is gone is out of
    /// date.
    pub(crate) fn collect(&self, mounts: &[String]) -> Vec<MetricFamily> {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let families = metrics.values().flat_map(|metric| match &metric.series {
            Series::Counters(vector, _) => vector.collect(),
            Series::Gauges(vector, _) => of_mounts(vector.collect(), mounts),
        });
        families.collect()
    }
}

fn of_mounts(mut families: Vec<MetricFamily>, mounts: &[String]) -> Vec<MetricFamily> {
    for family in &mut families {
        let mut metrics = family.take_metric();
        metrics.retain(|metric| {
            let mut labels = metric.get_label().iter();
            let mount = labels.find(|label| label.name() == MOUNT);
            mount.is_some_and(|label| mounts.iter().any(|mount| mount == label.value()))
        });
        family.set_metric(metrics);
    }
    // The encoder rejects a family without series.
    families.retain(|family| !family.get_metric().is_empty());
    families
}

/// The counters without the label `mount`.
pub(super) struct AddedUp(pub(super) Arc<PluginMetrics>);

impl Collector for AddedUp {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.0.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.values().filter_map(|metric| metric.added_up()?.ok()).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::metrics::Metrics;

    fn spec(labels: &[&str]) -> MetricSpec {
        MetricSpec {
            name: "blobs_total".to_owned(),
            kind: MetricKind::Counter,
            help: "Blobs.".to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    #[test]
    fn a_counter_survives_a_second_description_and_refuses_other_labels() {
        let registry = Registry::new();
        let counters = Metrics::new(&registry).unwrap().own;
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
    fn counters_without_mounts_are_sums() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        metrics.own.declare("x", &spec(&["user"])).unwrap();
        for (mount, user, by) in [("/a", "x", 1), ("/b", "x", 2), ("/b", "y", 4)] {
            metrics.own.count(mount, "blobs_total", &[user.to_owned()], by).unwrap();
        }
        let page = Registry::new();
        page.register(metrics.without_mounts()).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&page.gather()).unwrap();
        assert!(text.contains("blobs_total{user=\"x\"} 3\n"), "{text}");
        assert!(text.contains("blobs_total{user=\"y\"} 4\n"), "{text}");
    }

    #[test]
    fn series_are_bounded() {
        let counters = PluginMetrics::default();
        counters.declare("x", &spec(&["user"])).unwrap();
        for n in 0..MAX_SERIES {
            counters.count("/", "blobs_total", &[n.to_string()], 1).unwrap();
        }
        assert!(counters.count("/", "blobs_total", &["one more".to_owned()], 1).is_err());
        counters.count("/", "blobs_total", &["0".to_owned()], 1).unwrap();
        let why = counters.count("/", "blobs_total", &["x".repeat(MAX_LABEL + 1)], 1);
        assert!(why.unwrap_err().contains("257 bytes"));
    }

    fn gauge(name: &str, labels: &[&str]) -> MetricSpec {
        let kind = MetricKind::Gauge;
        MetricSpec { name: name.to_owned(), kind, ..spec(labels) }
    }

    #[test]
    fn a_gauge_shows_its_last_value_while_its_mount_is_served() {
        let own = PluginMetrics::default();
        own.declare("x", &gauge("age", &["disk"])).unwrap();
        own.declare("x", &spec(&[])).unwrap();
        for (mount, value) in [("/a", 1.5), ("/a", -2.5), ("/b", 7.0)] {
            own.set(mount, "age", &["main".to_owned()], value).unwrap();
        }
        let text = |mounts: &[&str]| {
            let mounts: Vec<String> = mounts.iter().map(|mount| (*mount).to_owned()).collect();
            let mut families = own.collect(&mounts);
            // As the registry does.
            families.retain(|family| !family.get_metric().is_empty());
            prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
        };
        let both = text(&["/a", "/b"]);
        assert!(both.contains("# TYPE age gauge"), "{both}");
        assert!(both.contains("age{disk=\"main\",mount=\"/a\"} -2.5"), "{both}");
        assert!(both.contains("age{disk=\"main\",mount=\"/b\"} 7\n"), "{both}");
        let one = text(&["/a"]);
        assert!(one.contains("mount=\"/a\"") && !one.contains("mount=\"/b\""), "{one}");
        assert!(!text(&[]).contains("age"), "{}", text(&[]));
        for wrong in [f64::NAN, f64::INFINITY] {
            let why = own.set("/a", "age", &["main".to_owned()], wrong).unwrap_err();
            assert!(why.contains("not a finite number"), "{why}");
        }
        assert!(own.set("/a", "blobs_total", &[], 1.0).unwrap_err().contains("a counter"));
        assert!(own.count("/a", "age", &["main".to_owned()], 1).unwrap_err().contains("a gauge"));
        assert!(own.set("/a", "age", &[], 1.0).is_err());
        // What was a gauge may be a counter in the plugin's next version, and not in another's.
        let counter = MetricSpec { kind: MetricKind::Counter, ..gauge("age", &["disk"]) };
        assert!(own.declare("y", &counter).unwrap_err().contains("as a gauge"));
        own.declare("x", &counter).unwrap();
        own.count("/a", "age", &["main".to_owned()], 1).unwrap();
        assert!(text(&["/a"]).contains("age{disk=\"main\",mount=\"/a\"} 1\n"));
    }

    #[test]
    fn without_mounts_there_are_no_gauges() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        metrics.own.declare("x", &gauge("age", &[])).unwrap();
        metrics.own.set("/", "age", &[], 1.0).unwrap();
        assert!(metrics.without_mounts().collect().is_empty());
    }
}
