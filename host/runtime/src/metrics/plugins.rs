//! The metrics of all mounts on the pages of metrics: which are shown, and under which names.
//!
//! A metric belongs to a plugin at a mount and to nobody else. On a page, its name begins with `plugin_` and the name of the
//! plugin's file, so no plugin can take, hide or redefine a metric of another, or of the gateway. Dashboards made for other
//! servers expect their own names; the operator lists the plugins that are shown with them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::series::{MOUNT, Metric, MetricKind, MetricSpec, MountMetrics};

/// Names that begin with these are the gateway's, whatever the operator lists.
const OWN: [&str; 3] = ["keepgate_", "plugin_", "process_"];

/// The metrics of the mounts of the current generation.
#[derive(Debug, Default)]
pub(crate) struct PluginMetrics(Mutex<Current>);

#[derive(Debug, Default)]
struct Current {
    mounts: BTreeMap<Owner, Arc<MountMetrics>>,
    /// Plugins whose metrics have no prefix. If two of them have the same name, it is the first one's.
    unprefixed: Vec<String>,
}

/// A plugin at a mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) mount: String,
    pub(super) plugin: String,
}

impl PluginMetrics {
    /// Metrics for a plugin at a mount. Nobody sees them before [`serve`](Self::serve) is told of the mount; what the mount
    /// has already goes on.
    pub(crate) fn prepare(
        &self,
        (mount, plugin): (&str, &str),
        specs: &[MetricSpec],
        limit: usize,
    ) -> Arc<MountMetrics> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = Owner { mount: mount.to_owned(), plugin: plugin.to_owned() };
        let before = current.mounts.get(&owner).map(|before| &**before);
        Arc::new(MountMetrics::new(specs, limit, before))
    }

    /// Sets the mounts whose metrics are shown. A mount whose plugin cannot serve it at the moment keeps what it had; the
    /// metrics of mounts that are gone are forgotten.
    pub(super) fn serve(&self, mounts: Vec<(Owner, Option<Arc<MountMetrics>>)>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        for (owner, metrics) in mounts {
            if let Some(metrics) = metrics.or_else(|| current.mounts.get(&owner).cloned()) {
                kept.insert(owner, metrics);
            }
        }
        current.mounts = kept;
    }

    /// Sets the plugins whose metrics are shown under the plugin's own names.
    pub(super) fn show_unprefixed(&self, plugins: Vec<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unprefixed = plugins;
    }

    /// All metrics.
    pub(super) fn collect(&self) -> Vec<proto::MetricFamily> {
        self.families(true, |_| true)
    }

    /// The families of the metrics that `wanted` accepts, with a label for the mount or with sums over all mounts.
    fn families(
        &self,
        with_mounts: bool,
        wanted: impl Fn(&MetricSpec) -> bool,
    ) -> Vec<proto::MetricFamily> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let unprefixed = |owner: &Owner| {
            let mut listed = current.unprefixed.iter();
            listed.position(|plugin| *plugin == owner.plugin).unwrap_or(usize::MAX)
        };
        let mut mounts: Vec<_> = current.mounts.iter().collect();
        // What begins with the names of two plugins, `plugin_a_b_…`, is that of the longer one, `a_b`.
        mounts.sort_by_key(|(owner, _)| (unprefixed(owner), Reverse(owner.plugin.len())));
        for (owner, metrics) in mounts {
            let is_listed = unprefixed(owner) != usize::MAX;
            for metric in metrics.all().filter(|metric| wanted(&metric.spec)) {
                let plain = is_listed && !OWN.iter().any(|own| metric.spec.name.starts_with(own));
                let names =
                    [plain.then(|| metric.spec.name.clone()), Some(prefixed(owner, metric))];
                // It has the first of these names that is not taken. Both can be only if a plugin chose a name that
                // begins with that of another file, or if two versions of a file serve: then it is not shown.
                names.into_iter().flatten().any(|name| {
                    let new = || Family::new(owner, &metric.spec);
                    families.entry(name).or_insert_with(new).take(owner, metric, with_mounts)
                });
            }
        }
        // The encoder rejects a family without series.
        let families = families.into_iter().filter(|(_, family)| !family.series.is_empty());
        families.map(|(name, family)| family.into_proto(name)).collect()
    }
}

/// The name of a metric on a page, unless its plugin is shown without a prefix. The name of the plugin is not repeated if
/// the metric's begins with it.
fn prefixed(owner: &Owner, metric: &Metric) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let plugin: String = owner.plugin.chars().map(plain).collect();
    let name = &metric.spec.name;
    match name.strip_prefix(&plugin) {
        Some(rest) if rest.starts_with('_') => format!("plugin_{name}"),
        _ => format!("plugin_{plugin}_{name}"),
    }
}

/// What a page shows under one name.
#[derive(Debug)]
struct Family {
    plugin: String,
    kind: MetricKind,
    help: String,
    /// By their labels.
    series: BTreeMap<Vec<(String, String)>, f64>,
}

impl Family {
    fn new(owner: &Owner, spec: &MetricSpec) -> Self {
        let (plugin, help) = (owner.plugin.clone(), spec.help.clone());
        Self { plugin, kind: spec.kind, help, series: BTreeMap::new() }
    }

    /// Adds the series of a metric, if it is of the same plugin and kind.
    fn take(&mut self, owner: &Owner, metric: &Metric, with_mounts: bool) -> bool {
        if (&*self.plugin, self.kind) != (&*owner.plugin, metric.spec.kind) {
            return false;
        }
        for (values, value) in &*metric.series() {
            let mount = with_mounts.then(|| (MOUNT.to_owned(), owner.mount.clone()));
            let labels = metric.spec.labels.iter().cloned().zip(values.iter().cloned());
            let mut labels: Vec<_> = mount.into_iter().chain(labels).collect();
            labels.sort();
            *self.series.entry(labels).or_default() += value.number();
        }
        true
    }

    fn into_proto(self, name: String) -> proto::MetricFamily {
        let label = |(name, value)| {
            let mut label = proto::LabelPair::default();
            label.set_name(name);
            label.set_value(value);
            label
        };
        let metrics = self.series.into_iter().map(|(labels, value)| {
            let mut metric = proto::Metric::from_label(labels.into_iter().map(label).collect());
            match self.kind {
                MetricKind::Counter => {
                    let mut counter = proto::Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                }
                MetricKind::Gauge => {
                    let mut gauge = proto::Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
            }
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(name);
        family.set_help(self.help);
        family.set_field_type(match self.kind {
            MetricKind::Counter => proto::MetricType::COUNTER,
            MetricKind::Gauge => proto::MetricType::GAUGE,
        });
        family.set_metric(metrics.collect());
        family
    }
}

/// The counters without the label `mount`: the sum over all mounts, which gauges do not have.
pub(super) struct AddedUp(pub(super) Arc<PluginMetrics>);

impl Collector for AddedUp {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.0.families(false, |spec| spec.kind == MetricKind::Counter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::examples::{counter, spec};
    use super::*;

    fn owner((mount, plugin): (&str, &str)) -> Owner {
        Owner { mount: mount.to_owned(), plugin: plugin.to_owned() }
    }

    /// Serves plugins at mounts, each with its metrics.
    fn serve(
        own: &PluginMetrics,
        mounts: &[(&str, &str, &[MetricSpec])],
    ) -> Vec<Arc<MountMetrics>> {
        let prepared = mounts.iter().map(|(mount, plugin, specs)| {
            (owner((mount, plugin)), own.prepare((mount, plugin), specs, 100))
        });
        let prepared: Vec<_> = prepared.collect();
        own.serve(prepared.iter().map(|(owner, one)| (owner.clone(), Some(one.clone()))).collect());
        prepared.into_iter().map(|(_, metrics)| metrics).collect()
    }

    fn text(families: &[proto::MetricFamily]) -> String {
        prometheus::TextEncoder::new().encode_to_string(families).unwrap()
    }

    #[test]
    fn each_plugin_has_names_of_its_own() {
        let own = PluginMetrics::default();
        let gauge = [spec("blobs_total", MetricKind::Gauge, &["repo"])];
        let one = [counter(&["user"])];
        let served = serve(&own, &[("/a", "a-b", &gauge), ("/b", "restic", &one)]);
        served[0].set("blobs_total", &["r".to_owned()], 7.0).unwrap();
        served[1].count("blobs_total", &["u".to_owned()], 2).unwrap();
        let page = text(&own.collect());
        assert_eq!(
            page,
            "# HELP plugin_a_b_blobs_total Help.\n# TYPE plugin_a_b_blobs_total gauge\n\
             plugin_a_b_blobs_total{mount=\"/a\",repo=\"r\"} 7\n\
             # HELP plugin_restic_blobs_total Help.\n# TYPE plugin_restic_blobs_total counter\n\
             plugin_restic_blobs_total{mount=\"/b\",user=\"u\"} 2\n"
        );
        own.show_unprefixed(vec!["restic".to_owned(), "a-b".to_owned()]);
        let page = text(&own.collect());
        assert!(page.contains("\nblobs_total{mount=\"/b\",user=\"u\"} 2\n"), "{page}");
        assert!(page.contains("\nplugin_a_b_blobs_total{mount=\"/a\",repo=\"r\"} 7\n"), "{page}");
    }

    #[test]
    fn a_name_that_begins_with_two_plugins_is_the_longer_ones() {
        let own = PluginMetrics::default();
        let of = |name| [spec(name, MetricKind::Counter, &[])];
        let (forged, real) = (of("b_x"), of("x"));
        let served = serve(
            &own,
            &[("/1", "a", &forged), ("/2", "a_b", &real), ("/3", "etcd", &of("etcd_x"))],
        );
        for (name, metrics) in ["b_x", "x", "etcd_x"].iter().zip(&served) {
            metrics.count(name, &[], 1).unwrap();
        }
        let page = text(&own.collect());
        assert!(page.contains("plugin_a_b_x{mount=\"/2\"} 1\n") && !page.contains("/1"), "{page}");
        assert!(page.contains("\nplugin_etcd_x{mount=\"/3\"} 1\n"), "{page}");
    }

    #[test]
    fn names_of_the_process_are_never_a_plugins() {
        let own = PluginMetrics::default();
        own.show_unprefixed(vec!["x".to_owned()]);
        let served = serve(
            &own,
            &[("/", "x", &[spec("process_cpu_seconds_total", MetricKind::Gauge, &[])])],
        );
        served[0].set("process_cpu_seconds_total", &[], 1.0).unwrap();
        assert_eq!(own.collect()[0].name(), "plugin_x_process_cpu_seconds_total");
    }

    #[test]
    fn metrics_are_shown_while_their_mount_exists() {
        let own = PluginMetrics::default();
        let specs = [counter(&[]), spec("age", MetricKind::Gauge, &[])];
        let served = serve(&own, &[("/a", "x", &specs), ("/b", "x", &specs)]);
        for one in &served {
            one.count("blobs_total", &[], 1).unwrap();
            one.set("age", &[], 5.0).unwrap();
        }
        assert_eq!(own.collect().iter().map(|family| family.get_metric().len()).sum::<usize>(), 4);
        // Its plugin is refused at the moment.
        own.serve(vec![(owner(("/a", "x")), None)]);
        let page = text(&own.collect());
        assert!(page.contains("plugin_x_age{mount=\"/a\"} 5\n") && !page.contains("/b"), "{page}");
        own.serve(Vec::new());
        assert!(own.collect().is_empty());
        serve(&own, &[("/a", "x", &specs)]);
        assert!(own.collect().is_empty(), "what was forgotten begins anew");
    }

    #[test]
    fn what_was_only_prepared_is_not_shown() {
        let own = PluginMetrics::default();
        let prepared = own.prepare(("/", "x"), &[counter(&[])], 10);
        prepared.count("blobs_total", &[], 1).unwrap();
        assert!(own.collect().is_empty());
    }

    #[test]
    fn counters_without_mounts_are_sums_and_gauges_are_left_out() {
        let own = Arc::new(PluginMetrics::default());
        own.show_unprefixed(vec!["x".to_owned()]);
        let specs = [counter(&["user"]), spec("age", MetricKind::Gauge, &[])];
        let served = serve(&own, &[("/a", "x", &specs), ("/b", "x", &specs), ("/c", "y", &specs)]);
        for (at, user, by) in [(0, "x", 1), (1, "x", 2), (1, "y", 4), (2, "x", 8)] {
            served[at].count("blobs_total", &[user.to_owned()], by).unwrap();
            served[at].set("age", &[], 1.0).unwrap();
        }
        let page = text(&AddedUp(own).collect());
        assert!(page.contains("\nblobs_total{user=\"x\"} 3\n"), "{page}");
        assert!(page.contains("\nblobs_total{user=\"y\"} 4\n"), "{page}");
        assert!(page.contains("\nplugin_y_blobs_total{user=\"x\"} 8\n"), "{page}");
        assert!(!page.contains("age"), "{page}");
    }
}
