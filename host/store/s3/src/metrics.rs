//! Metrics of stores in buckets for Prometheus: what requests come to, how long they take, and whether the server is
//! left alone for a while.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Seconds: from a look on the same machine to a large part on a slow line.
const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0];

/// The metrics of all stores. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    retries: IntCounterVec,
    seconds: HistogramVec,
    sent: IntCounterVec,
    received: IntCounterVec,
    in_flight: IntGaugeVec,
    waiting: IntGaugeVec,
    open: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If the registry has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        fn keep<C: Collector + Clone + 'static>(
            registry: &Registry,
            metric: C,
        ) -> Result<C, prometheus::Error> {
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        }
        let counter = |name: &str, help: &str, labels: &[&str]| {
            keep(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str| {
            keep(registry, IntGaugeVec::new(Opts::new(name, help), &["store"])?)
        };
        let seconds = HistogramOpts::new(
            "keepgate_s3_request_duration_seconds",
            "From the beginning of a request to the head of its response, with its repetitions",
        );
        let seconds = HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["store", "operation"]);
        Ok(Self {
            requests: counter(
                "keepgate_s3_requests_total",
                "Requests to S3 servers, by operation and by what came of them at last",
                &["store", "operation", "outcome"],
            )?,
            retries: counter(
                "keepgate_s3_retries_total",
                "Repetitions of requests to S3 servers",
                &["store", "operation"],
            )?,
            seconds: keep(registry, seconds?)?,
            sent: counter(
                "keepgate_s3_sent_bytes_total",
                "Bytes of bodies sent to S3 servers, with those sent again",
                &["store"],
            )?,
            received: counter(
                "keepgate_s3_received_bytes_total",
                "Bytes of blobs received from S3 servers",
                &["store"],
            )?,
            in_flight: gauge(
                "keepgate_s3_requests_in_flight",
                "Requests to S3 servers that wait for the head of a response",
            )?,
            waiting: gauge(
                "keepgate_s3_requests_waiting",
                "Requests that wait because as many as allowed are under way",
            )?,
            open: gauge(
                "keepgate_s3_circuit_breaker_open",
                "1 while requests fail at once because the S3 server kept failing",
            )?,
        })
    }

    /// The metrics of one store.
    pub fn store(&self, name: &str) -> StoreMetrics {
        let store = [name];
        // Made here, so that they are shown before anything happens.
        let _ = (self.sent.with_label_values(&store), self.received.with_label_values(&store));
        StoreMetrics {
            in_flight: self.in_flight.with_label_values(&store),
            waiting: self.waiting.with_label_values(&store),
            open: self.open.with_label_values(&store),
            all: self.clone(),
            store: name.to_owned(),
        }
    }
}

/// The metrics of one store.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    all: Metrics,
    store: String,
    in_flight: IntGauge,
    waiting: IntGauge,
    open: IntGauge,
}

impl StoreMetrics {
    pub(crate) fn request(&self, operation: &str, outcome: &str, took: Duration) {
        self.all.requests.with_label_values(&[self.store.as_str(), operation, outcome]).inc();
        let seconds = self.all.seconds.with_label_values(&[self.store.as_str(), operation]);
        seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn retry(&self, operation: &str) {
        self.all.retries.with_label_values(&[self.store.as_str(), operation]).inc();
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.all.sent.with_label_values(&[self.store.as_str()]).inc_by(bytes);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.all.received.with_label_values(&[self.store.as_str()]).inc_by(bytes);
    }

    pub(crate) fn waiting(&self) -> Gauged {
        Gauged::new(&self.waiting)
    }

    pub(crate) fn in_flight(&self) -> Gauged {
        Gauged::new(&self.in_flight)
    }

    pub(crate) fn breaker(&self, open: bool) {
        self.open.set(i64::from(open));
    }
}

/// One more of something, until it is dropped.
#[derive(Debug)]
pub(crate) struct Gauged(IntGauge);

impl Gauged {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}
