//! What a plugin says of itself.

use crate::bindings::exports::keepgate::plugin::guest;
use crate::capability;

/// What a plugin says of itself at load.
#[derive(Clone, Debug)]
pub struct Description(pub(crate) guest::Description);

impl Description {
    /// A plugin by name and version, mounted at `/name` where the operator says nothing.
    pub fn new(name: &str, version: &str) -> Self {
        Self(capability::described(name, version))
    }

    /// One line for operators.
    pub fn summary(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.0.summary);
        self
    }

    /// Where it is mounted when the operator says nothing; begins with `/`.
    pub fn default_mount(mut self, path: &str) -> Self {
        path.clone_into(&mut self.0.default_mount);
        self
    }

    /// A counter for [`environment::count`](crate::environment::count): a Prometheus name that
    /// ends in `_total`, one line of help, label names. Names that begin with `keepgate_` are the
    /// host's: it refuses a plugin that has one.
    pub fn counter(self, name: &str, help: &str, labels: &[&str]) -> Self {
        self.metric(guest::MetricKind::Counter, name, help, labels)
    }

    /// A gauge for [`environment::set`](crate::environment::set): a Prometheus name, one line of help,
    /// label names. It has no value until it is set, also after a restart of the gateway.
    pub fn gauge(self, name: &str, help: &str, labels: &[&str]) -> Self {
        self.metric(guest::MetricKind::Gauge, name, help, labels)
    }

    fn metric(mut self, kind: guest::MetricKind, name: &str, help: &str, labels: &[&str]) -> Self {
        self.0.metrics.push(guest::Metric {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        });
        self
    }
}
