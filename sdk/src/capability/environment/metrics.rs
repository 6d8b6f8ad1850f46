//! The metrics that a plugin declares in its description.

use crate::Description;
use crate::bindings::exports::keepgate::plugin::guest::{Metric, MetricKind};

impl Description {
    /// Declares a counter for [`environment::count`](crate::environment::count): a Prometheus name that ends
    /// in `_total`, a help text of one line, and the names of its labels. Names that start with `keepgate_`
    /// belong to the host, which refuses a plugin that declares one.
    #[must_use]
    pub fn counter(self, name: &str, help: &str, labels: &[&str]) -> Self {
        self.metric(MetricKind::Counter, name, help, labels)
    }

    /// Declares a gauge for [`environment::set`](crate::environment::set): a Prometheus name, a help text of
    /// one line, and the names of its labels. It has no value until it is set, and after a restart of the
    /// gateway.
    #[must_use]
    pub fn gauge(self, name: &str, help: &str, labels: &[&str]) -> Self {
        self.metric(MetricKind::Gauge, name, help, labels)
    }

    fn metric(mut self, kind: MetricKind, name: &str, help: &str, labels: &[&str]) -> Self {
        self.0.metrics.push(Metric {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        });
        self
    }
}
