//! Metrics of upstreams for Prometheus: what requests come to, how long they take, and how much passes.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Seconds: from an answer on the same machine to one that has to be worked for.
const BUCKETS: [f64; 11] = [0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0];

/// The metrics of all upstreams. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    retries: IntCounterVec,
    resumes: IntCounterVec,
    sent: IntCounterVec,
    received: IntCounterVec,
    in_flight: IntGaugeVec,
    waiting: IntGaugeVec,
    failing: IntGaugeVec,
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
            keep(registry, IntGaugeVec::new(Opts::new(name, help), &["upstream"])?)
        };
        let seconds = HistogramOpts::new(
            "keepgate_upstream_request_duration_seconds",
            "From the beginning of a request to the head of its response",
        );
        let seconds = HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["upstream"]);
        Ok(Self {
            requests: counter(
                "keepgate_upstream_requests_total",
                "Requests to upstreams, by the class of the status or why there was none",
                &["upstream", "outcome"],
            )?,
            seconds: keep(registry, seconds?)?,
            retries: counter(
                "keepgate_upstream_retries_total",
                "Requests that were sent again because their connection had been closed",
                &["upstream"],
            )?,
            resumes: counter(
                "keepgate_upstream_resumes_total",
                "Responses that broke off and were read on from there",
                &["upstream"],
            )?,
            sent: counter(
                "keepgate_upstream_sent_bytes_total",
                "Bytes of bodies sent to upstreams",
                &["upstream"],
            )?,
            received: counter(
                "keepgate_upstream_received_bytes_total",
                "Bytes of bodies received from upstreams",
                &["upstream"],
            )?,
            in_flight: gauge(
                "keepgate_upstream_requests_in_flight",
                "Requests to upstreams under way, up to the end of the response's body",
            )?,
            waiting: gauge(
                "keepgate_upstream_requests_waiting",
                "Requests that wait because as many as allowed are under way",
            )?,
            failing: gauge(
                "keepgate_upstream_failing",
                "1 if the last request to the upstream had no response",
            )?,
        })
    }

    /// The metrics of one upstream.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let label = [name];
        // Made here, so that they are shown before anything happens.
        for counter in [&self.retries, &self.resumes, &self.sent, &self.received] {
            let _ = counter.with_label_values(&label);
        }
        UpstreamMetrics {
            in_flight: self.in_flight.with_label_values(&label),
            waiting: self.waiting.with_label_values(&label),
            failing: self.failing.with_label_values(&label),
            all: self.clone(),
            name: name.to_owned(),
        }
    }
}

/// The metrics of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    all: Metrics,
    name: String,
    in_flight: IntGauge,
    waiting: IntGauge,
    failing: IntGauge,
}

impl UpstreamMetrics {
    pub(crate) fn request(&self, outcome: &str, took: Option<Duration>) {
        self.all.requests.with_label_values(&[self.name.as_str(), outcome]).inc();
        if let Some(took) = took {
            let seconds = self.all.seconds.with_label_values(&[self.name.as_str()]);
            seconds.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn retry(&self) {
        self.all.retries.with_label_values(&[self.name.as_str()]).inc();
    }

    pub(crate) fn resume(&self) {
        self.all.resumes.with_label_values(&[self.name.as_str()]).inc();
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.all.sent.with_label_values(&[self.name.as_str()]).inc_by(bytes);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.all.received.with_label_values(&[self.name.as_str()]).inc_by(bytes);
    }

    pub(crate) fn failing(&self, failing: bool) {
        self.failing.set(i64::from(failing));
    }

    pub(crate) fn waiting(&self) -> Gauged {
        Gauged::new(&self.waiting)
    }

    pub(crate) fn in_flight(&self) -> Gauged {
        Gauged::new(&self.in_flight)
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
