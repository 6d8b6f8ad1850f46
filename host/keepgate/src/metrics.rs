//! What the collectors of this crate share.

use prometheus::proto::MetricFamily;

/// The families that have metrics: the encoder rejects the others.
pub(crate) fn families(all: impl IntoIterator<Item = MetricFamily>) -> Vec<MetricFamily> {
    all.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}
