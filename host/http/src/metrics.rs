//! Counters and timers, with names that start with `keepgate_http_`. The handles of a mount are looked up
//! once, when a site is built, so that a request only increments them. Names and labels are public:
//! dashboards depend on them.

mod page;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

pub use page::MetricsPage;
pub(crate) use page::encode;

/// From below a millisecond (a warm plugin) to half an hour (a large upload).
const BUCKETS: &[f64] = &[0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 300.0, 1800.0];

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"];

/// `none` if the client went away before there was a status.
const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

/// The label of requests without a mount.
const NO_MOUNT: &str = "";

/// The metrics of all listeners.
#[derive(Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGaugeVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    login_failures: IntCounterVec,
    rate_limited: IntCounterVec,
    pub(crate) connections: IntGauge,
    mounts: Mutex<HashMap<String, Arc<MountMetrics>>>,
}

/// The metrics of one mount.
pub(crate) struct MountMetrics {
    mount: String,
    requests: IntCounterVec,
    /// By method and status class; a series appears with its first request.
    counters: [[OnceLock<IntCounter>; CLASSES.len()]; METHODS.len()],
    seconds: Histogram,
    pub(crate) in_flight: IntGauge,
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) login_failures: IntCounter,
    rate_limited: IntCounterVec,
}

impl Metrics {
    /// Registers all metrics. Fails if the registry already has them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let metrics = Self {
            requests: counter(
                "keepgate_http_requests_total",
                "Requests answered, by mount, method and class of status.",
                &["mount", "method", "status"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "keepgate_http_request_duration_seconds",
                    "From a request's head to the last byte of its reply.",
                )
                .buckets(BUCKETS.to_vec()),
                &["mount"],
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new("keepgate_http_requests_in_flight", "Requests under way."),
                &["mount"],
            )?,
            received: counter(
                "keepgate_http_received_bytes_total",
                "Bytes of request bodies.",
                &["mount"],
            )?,
            sent: counter("keepgate_http_sent_bytes_total", "Bytes of reply bodies.", &["mount"])?,
            login_failures: counter(
                "keepgate_http_login_failures_total",
                "Logins that were refused.",
                &["mount"],
            )?,
            rate_limited: counter(
                "keepgate_http_rate_limited_total",
                "Requests refused by a rate limit, by mount and limit.",
                &["mount", "limit"],
            )?,
            connections: IntGauge::new("keepgate_http_connections", "Open connections.")?,
            mounts: Mutex::default(),
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        Ok(metrics)
    }

    /// The handles of the mount at this path; the same ones on each call.
    pub(crate) fn mount(&self, path: &str) -> Arc<MountMetrics> {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mount) = mounts.get(path) {
            return mount.clone();
        }
        let labels = &[path];
        let mount = Arc::new(MountMetrics {
            mount: path.to_owned(),
            requests: self.requests.clone(),
            counters: Default::default(),
            seconds: self.seconds.with_label_values(labels),
            in_flight: self.in_flight.with_label_values(labels),
            received: self.received.with_label_values(labels),
            sent: self.sent.with_label_values(labels),
            login_failures: self.login_failures.with_label_values(labels),
            rate_limited: self.rate_limited.clone(),
        });
        mounts.insert(path.to_owned(), mount.clone());
        mount
    }

    /// The handles for requests without a mount.
    pub(crate) fn no_mount(&self) -> Arc<MountMetrics> {
        self.mount(NO_MOUNT)
    }
}

impl MountMetrics {
    /// The path of the mount; empty for requests without one.
    pub(crate) fn path(&self) -> &str {
        &self.mount
    }

    /// The counter of requests that a rate limit refused. Looked up for each of them, because only refusals need it.
    pub(crate) fn rate_limited(&self, limit: &str) -> IntCounter {
        self.rate_limited.with_label_values(&[self.mount.as_str(), limit])
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, method: &Method, status: Option<StatusCode>, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method.as_str());
        let method = method.unwrap_or(METHODS.len() - 1);
        let class = match status.map(|status| status.as_u16()) {
            Some(..300) => 0,
            Some(300..400) => 1,
            Some(400..500) => 2,
            Some(500..) => 3,
            None => 4,
        };
        self.seconds.observe(took.as_secs_f64());
        if let Some(counter) = self.counters.get(method).and_then(|row| row.get(class)) {
            counter.get_or_init(|| self.counter(method, class)).inc();
        }
    }

    fn counter(&self, method: usize, class: usize) -> IntCounter {
        let label = |names: &[&'static str], index| names.get(index).copied().unwrap_or_default();
        let labels = &[self.mount.as_str(), label(&METHODS, method), label(&CLASSES, class)];
        self.requests.with_label_values(labels)
    }
}

impl fmt::Debug for MountMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountMetrics").field("mount", &self.mount).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_appear_with_their_first_request_and_survive_reloads() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();

        let mount = metrics.mount("/restic");
        assert!(!text().contains("keepgate_http_requests_total{"));
        mount.ended(&Method::GET, Some(StatusCode::PARTIAL_CONTENT), Duration::from_millis(1));
        let again = metrics.mount("/restic");
        again.ended(&Method::GET, Some(StatusCode::OK), Duration::from_millis(1));
        again.ended(&Method::from_bytes(b"BREW").unwrap(), None, Duration::ZERO);

        let text = text();
        let series = |method, status| {
            format!(r#"_requests_total{{method="{method}",mount="/restic",status="{status}"}}"#)
        };
        assert!(text.contains(&format!("{} 2\n", series("GET", "2xx"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", series("other", "none"))), "{text}");
        assert!(text.contains("_duration_seconds_count{mount=\"/restic\"} 3\n"), "{text}");
    }

    #[test]
    fn metrics_register_once() {
        let registry = Registry::new();
        Metrics::new(&registry).unwrap();
        assert!(Metrics::new(&registry).is_err());
    }
}
