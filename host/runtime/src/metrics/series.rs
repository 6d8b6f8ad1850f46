//! The counters and gauges of one plugin at one mount. What it may keep is bounded for all of them together: series
//! stay in memory, and on every page of metrics, for as long as the mount exists. A value that is dropped comes with the
//! reason.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Desc;

/// The longest value of a label, in bytes.
const MAX_LABEL: usize = 256;
/// Bytes of label values that a series may have on average.
const BYTES_PER_SERIES: usize = 128;
/// The label that the host adds before the plugin's.
pub(super) const MOUNT: &str = "mount";

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

/// Checks what a plugin describes, so that pages can show it.
pub(crate) fn check(specs: &[MetricSpec]) -> Result<(), String> {
    for (index, spec) in specs.iter().enumerate() {
        let name = &spec.name;
        if name.starts_with("keepgate_") {
            return Err(format!("its metric {name:?}: the name {name} belongs to the gateway"));
        }
        let labels = std::iter::once(MOUNT.to_owned()).chain(spec.labels.iter().cloned());
        Desc::new(name.clone(), spec.help.clone(), labels.collect(), HashMap::new())
            .map_err(|error| format!("its metric {name:?}: {error}"))?;
        if specs.iter().take(index).any(|other| other.name == *name) {
            return Err(format!("it describes the metric {name:?} twice"));
        }
    }
    Ok(())
}

/// The metrics of a plugin at a mount, by name.
#[derive(Debug, Default)]
pub(crate) struct MountMetrics {
    metrics: HashMap<String, Metric>,
    kept: Arc<Kept>,
    /// The most series of all metrics together.
    limit: usize,
}

/// How much the metrics of a mount keep.
#[derive(Debug, Default)]
struct Kept {
    series: AtomicUsize,
    /// Bytes of values of labels.
    bytes: AtomicUsize,
}

/// A metric with its values.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) spec: MetricSpec,
    values: Arc<Values>,
}

/// The values of a metric.
#[derive(Debug)]
struct Values {
    /// By the values of the labels.
    series: Mutex<HashMap<Vec<String>, Value>>,
    kept: Arc<Kept>,
}

/// The value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Counter(u64),
    Gauge(f64),
}

impl Value {
    /// As Prometheus has it.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Counter(count) => count as f64,
            Self::Gauge(value) => value,
        }
    }
}

impl MountMetrics {
    /// Metrics as they are described, at most `limit` series of them together. What `before` has of the same kind, with
    /// the same labels, goes on; everything else begins anew, which Prometheus treats like a restart.
    pub(crate) fn new(specs: &[MetricSpec], limit: usize, before: Option<&Self>) -> Self {
        let kept = before.map(|before| before.kept.clone()).unwrap_or_default();
        let metrics = specs.iter().map(|spec| {
            let known = before.and_then(|before| before.metrics.get(&spec.name));
            let same = known
                .filter(|known| (known.spec.kind, &known.spec.labels) == (spec.kind, &spec.labels));
            let new = || Arc::new(Values { series: Mutex::default(), kept: kept.clone() });
            let values = same.map_or_else(new, |known| known.values.clone());
            (spec.name.clone(), Metric { spec: spec.clone(), values })
        });
        Self { metrics: metrics.collect(), kept, limit }
    }

    /// Adds to a counter. The error says why the value is dropped.
    pub(crate) fn count(&self, name: &str, labels: &[String], by: u64) -> Result<(), String> {
        let metric = self.metric(name, MetricKind::Counter)?;
        self.change(metric, labels, Value::Counter(0), |value| {
            if let Value::Counter(count) = value {
                // As in Prometheus' own clients, a counter that is full starts again.
                *count = count.wrapping_add(by);
            }
        })
    }

    /// Sets a gauge. The error says why the value is dropped.
    pub(crate) fn set(&self, name: &str, labels: &[String], to: f64) -> Result<(), String> {
        if !to.is_finite() {
            // Alerts compare, so they would never fire.
            return Err(format!("{to} is not a finite number"));
        }
        let metric = self.metric(name, MetricKind::Gauge)?;
        self.change(metric, labels, Value::Gauge(to), |value| *value = Value::Gauge(to))
    }

    /// All metrics.
    pub(super) fn all(&self) -> impl Iterator<Item = &Metric> {
        self.metrics.values()
    }

    fn metric(&self, name: &str, kind: MetricKind) -> Result<&Metric, String> {
        let metric = self.metrics.get(name).ok_or("the plugin does not describe it")?;
        match (metric.spec.kind, kind) {
            (MetricKind::Gauge, MetricKind::Counter) => {
                Err("it is a gauge, which can only be set".to_owned())
            }
            (MetricKind::Counter, MetricKind::Gauge) => {
                Err("it is a counter, which can only be added to".to_owned())
            }
            _ => Ok(metric),
        }
    }

    fn change(
        &self,
        metric: &Metric,
        labels: &[String],
        first: Value,
        change: impl FnOnce(&mut Value),
    ) -> Result<(), String> {
        let expected = metric.spec.labels.len();
        if labels.len() != expected {
            return Err(format!("{} label values, not {expected}", labels.len()));
        }
        if let Some(long) = labels.iter().find(|label| label.len() > MAX_LABEL) {
            let bytes = long.len();
            return Err(format!("a label of {bytes} bytes; at most {MAX_LABEL} are allowed"));
        }
        let mut series = metric.series();
        if let Some(value) = series.get_mut(labels) {
            change(value);
            return Ok(());
        }
        self.kept.add(labels, self.limit)?;
        let mut value = first;
        change(&mut value);
        series.insert(labels.to_vec(), value);
        Ok(())
    }
}

impl Metric {
    /// Its values, by those of its labels.
    pub(super) fn series(&self) -> MutexGuard<'_, HashMap<Vec<String>, Value>> {
        self.values.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        let series = self.series.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.kept.series.fetch_sub(series.len(), Ordering::Relaxed);
        self.kept
            .bytes
            .fetch_sub(series.keys().map(|labels| bytes(labels)).sum(), Ordering::Relaxed);
    }
}

impl Kept {
    /// Counts one more series, or says why there is no room for it.
    fn add(&self, labels: &[String], limit: usize) -> Result<(), String> {
        let more = bytes(labels);
        let series = self.series.fetch_add(1, Ordering::Relaxed);
        let kept = self.bytes.fetch_add(more, Ordering::Relaxed);
        let room = limit.saturating_mul(BYTES_PER_SERIES);
        if series < limit && kept.saturating_add(more) <= room {
            return Ok(());
        }
        self.series.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(more, Ordering::Relaxed);
        Err(if series >= limit {
            format!("the mount has {limit} series already, as many as `limits.series` allows")
        } else {
            format!(
                "the labels of the mount's series have {kept} bytes already; `limits.series` allows {room}"
            )
        })
    }
}

fn bytes(labels: &[String]) -> usize {
    labels.iter().map(String::len).sum()
}

/// Metrics for the tests of this folder.
#[cfg(test)]
pub(super) mod examples {
    use super::{MetricKind, MetricSpec};

    pub(in crate::metrics) fn spec(name: &str, kind: MetricKind, labels: &[&str]) -> MetricSpec {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        MetricSpec { name: name.to_owned(), kind, help: "Help.".to_owned(), labels }
    }

    pub(in crate::metrics) fn counter(labels: &[&str]) -> MetricSpec {
        spec("blobs_total", MetricKind::Counter, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::examples::{counter, spec};
    use super::*;

    fn value(metrics: &MountMetrics, labels: &[&str]) -> Option<Value> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        metrics.metrics["blobs_total"].series().get(&labels).copied()
    }

    #[test]
    fn a_counter_outlives_its_plugin_unless_its_labels_change() {
        let first = MountMetrics::new(&[counter(&["user"])], 10, None);
        first.count("blobs_total", &["a".to_owned()], 2).unwrap();
        let second = MountMetrics::new(&[counter(&["user"])], 10, Some(&first));
        second.count("blobs_total", &["a".to_owned()], 3).unwrap();
        // A call of the version before may end late.
        first.count("blobs_total", &["a".to_owned()], 4).unwrap();
        assert_eq!(value(&second, &["a"]), Some(Value::Counter(9)));
        let third = MountMetrics::new(&[counter(&["user", "repo"])], 10, Some(&second));
        assert!(third.count("blobs_total", &["a".to_owned()], 1).is_err());
        assert_eq!(value(&third, &["a", "b"]), None);
        // What only looks at a newer version changes nothing of the one that serves.
        assert_eq!(value(&second, &["a"]), Some(Value::Counter(9)));
    }

    #[test]
    fn all_metrics_of_a_mount_share_its_series() {
        let specs = [counter(&["user"]), spec("age", MetricKind::Gauge, &["user"])];
        let metrics = MountMetrics::new(&specs, 10, None);
        for n in 0..6 {
            metrics.count("blobs_total", &[n.to_string()], 1).unwrap();
        }
        for n in 0..4 {
            metrics.set("age", &[n.to_string()], 1.0).unwrap();
        }
        let why = metrics.set("age", &["one more".to_owned()], 1.0).unwrap_err();
        assert!(why.contains("10 series already"), "{why}");
        metrics.count("blobs_total", &["0".to_owned()], 1).unwrap();
        // A metric that is gone makes room as soon as no call uses it.
        let next = MountMetrics::new(&specs[..1], 10, Some(&metrics));
        assert!(next.count("blobs_total", &["one more".to_owned()], 1).is_err());
        drop(metrics);
        for n in 6..10 {
            next.count("blobs_total", &[n.to_string()], 1).unwrap();
        }
        assert!(next.count("blobs_total", &["one more".to_owned()], 1).is_err());
    }

    #[test]
    fn labels_are_bounded() {
        let metrics = MountMetrics::new(&[counter(&["user"])], 100, None);
        let why = metrics.count("blobs_total", &["x".repeat(MAX_LABEL + 1)], 1).unwrap_err();
        assert!(why.contains("257 bytes"), "{why}");
        for n in 0..50 {
            metrics.count("blobs_total", &[format!("{n:0256}")], 1).unwrap();
        }
        let why = metrics.count("blobs_total", &[format!("{:0256}", 50)], 1).unwrap_err();
        assert!(why.contains("12800 bytes already"), "{why}");
        assert!(metrics.count("blobs_total", &[], 1).is_err());
        assert!(metrics.count("other", &[], 1).is_err());
    }

    #[test]
    fn counters_are_counted_and_gauges_set() {
        let specs = [counter(&[]), spec("age", MetricKind::Gauge, &[])];
        let metrics = MountMetrics::new(&specs, 10, None);
        for wrong in [f64::NAN, f64::INFINITY] {
            let why = metrics.set("age", &[], wrong).unwrap_err();
            assert!(why.contains("not a finite number"), "{why}");
        }
        assert!(metrics.set("blobs_total", &[], 1.0).unwrap_err().contains("a counter"));
        assert!(metrics.count("age", &[], 1).unwrap_err().contains("a gauge"));
        metrics.set("age", &[], 1.5).unwrap();
        metrics.set("age", &[], -2.5).unwrap();
        assert_eq!(metrics.metrics["age"].series()[&Vec::new()], Value::Gauge(-2.5));
    }

    #[test]
    fn a_description_that_no_page_could_show_is_refused() {
        for (wrong, why) in [
            (counter(&["mount"]), "duplicate"),
            (counter(&["a b"]), "not a valid label name"),
            (spec("a-b", MetricKind::Gauge, &[]), "not a valid metric name"),
            (spec("keepgate_x", MetricKind::Gauge, &[]), "belongs to the gateway"),
        ] {
            let said = check(&[wrong]).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(check(&[counter(&[]), counter(&["user"])]).unwrap_err().contains("twice"));
        check(&[counter(&["user"])]).unwrap();
    }
}
