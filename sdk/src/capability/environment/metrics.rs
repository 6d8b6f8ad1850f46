//! The metrics that a plugin has, as its description names them.

use crate::Description;
use crate::bindings::exports::keepgate::plugin::guest::{Metric, MetricKind};

impl Description {
    /// Names a counter for [`environment::count`](crate::environment::count): a Prometheus name that ends in
    /// `_total`, one line of help, and the names of its labels. Names that begin with `keepgate_` are the host's:
    /// it refuses a plugin that has one.
    #[must_use]
    pub fn counter(self, name: &str, help: &str, labels: &[&str]) -> Self {
        self.metric(MetricKind::Counter, name, help, labels)
    }

    /// Names a gauge for [`environment::set`](crate::environment::set): a Prometheus name, one line of help, and
    /// the names of its labels. It has no value until it is set, also after a restart of the gateway.
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
