//! Metrics of copies, from what their last runs have left.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use super::{Copies, LastRun};
use crate::metrics::families;

/// Metrics of copies for Prometheus.
pub(crate) struct CopyMetrics<F> {
    copies: F,
    last_success: IntGaugeVec,
    last_run: IntGaugeVec,
    last_failed: IntGaugeVec,
    behind_blobs: IntGaugeVec,
    behind_bytes: IntGaugeVec,
    missing_blobs: IntGaugeVec,
    failures: IntCounterVec,
}

impl<F: Fn() -> Copies> CopyMetrics<F> {
    /// Metrics of the copies that `copies` returns at the time of each scrape.
    pub(crate) fn new(copies: F) -> Result<Self, prometheus::Error> {
        let labels = ["copy"];
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &labels);
        Ok(Self {
            copies,
            last_success: gauge(
                "keepgate_copy_last_success_timestamp_seconds",
                "When a run last left a complete copy",
            )?,
            last_run: gauge("keepgate_copy_last_run_timestamp_seconds", "When the last run ended")?,
            last_failed: gauge(
                "keepgate_copy_last_failed",
                "Whether the last run left an incomplete copy: 1, or 0",
            )?,
            behind_blobs: gauge(
                "keepgate_copy_behind_blobs",
                "Blobs that the last run found to be new and did not copy",
            )?,
            behind_bytes: gauge(
                "keepgate_copy_behind_bytes",
                "Bytes of blobs that the last run found to be new and did not copy",
            )?,
            missing_blobs: gauge(
                "keepgate_copy_missing_blobs",
                "Blobs in the copy that the last run did not find in the source",
            )?,
            failures: IntCounterVec::new(
                Opts::new("keepgate_copy_failures_total", "Runs that left an incomplete copy"),
                &labels,
            )?,
        })
    }

    fn gauges(&self) -> [&IntGaugeVec; 6] {
        [
            &self.last_success,
            &self.last_run,
            &self.last_failed,
            &self.behind_blobs,
            &self.behind_bytes,
            &self.missing_blobs,
        ]
    }

    fn fill(&self) {
        self.gauges().iter().for_each(|gauge| gauge.reset());
        self.failures.reset();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, copy) in (self.copies)() {
            let labels = [name.as_str()];
            let last = LastRun::read(&copy.folder).unwrap_or_default();
            // Zero before the first success, so that an alert on its age fires.
            let success = number(last.last_success.unwrap_or(0));
            self.last_success.with_label_values(&labels).set(success);
            self.last_run.with_label_values(&labels).set(number(last.ended));
            let failed = last.ended > 0 && !last.succeeded;
            self.last_failed.with_label_values(&labels).set(failed.into());
            let report = &last.report;
            self.behind_blobs.with_label_values(&labels).set(number(report.behind.blobs));
            self.behind_bytes.with_label_values(&labels).set(number(report.behind.bytes));
            self.missing_blobs.with_label_values(&labels).set(number(report.missing.count));
            self.failures.with_label_values(&labels).inc_by(last.failures);
        }
    }
}

impl<F: Fn() -> Copies + Send + Sync> Collector for CopyMetrics<F> {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(Collector::desc);
        gauges.chain(self.failures.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.fill();
        let gauges = self.gauges().into_iter().flat_map(Collector::collect);
        families(gauges.chain(self.failures.collect()))
    }
}
