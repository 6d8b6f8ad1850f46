//! Metrics of tables for Prometheus.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::Records;

/// `keepgate_records` and `keepgate_records_bytes`, each by mount.
///
/// # Errors
///
/// If prometheus does not take the names.
pub fn metrics(records: &Records) -> prometheus::Result<Box<dyn Collector>> {
    let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["mount"]);
    Ok(Box::new(Sizes {
        records: records.clone(),
        count: gauge("keepgate_records", "Records of a mount.")?,
        bytes: gauge("keepgate_records_bytes", "Bytes of keys and values of a mount's records.")?,
    }))
}

struct Sizes {
    records: Records,
    count: IntGaugeVec,
    bytes: IntGaugeVec,
}

impl Collector for Sizes {
    fn desc(&self) -> Vec<&Desc> {
        self.count.desc().into_iter().chain(self.bytes.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, size) in self.records.sizes() {
            let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.count.with_label_values(&[&name]).set(whole(size.records));
            self.bytes.with_label_values(&[&name]).set(whole(size.bytes));
        }
        self.count.collect().into_iter().chain(self.bytes.collect()).collect()
    }
}
