//! The stores as operators see them: lines of `check`, `/status`, `/ready`, metrics. A store is looked at when
//! somebody asks.

use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use serde_json::{Map, Value, json};

use super::backend::Backend;
use crate::metrics::families;

/// How long to wait for all stores together.
const PATIENCE: Duration = Duration::from_secs(2);

/// The stores that serve, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview(Vec<(String, Backend)>);

/// What is known about a store at one moment.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// For `/status`: where the store is, and what can be said of the place.
    pub(super) status: Map<String, Value>,
    /// For `check`: the first one describes the store.
    pub(super) lines: Vec<String>,
    /// Bytes that can be stored, where that is known.
    pub(super) free: Option<u64>,
    /// Why the store cannot be used.
    pub(super) unavailable: Option<String>,
    /// Whether it should be usable before the gateway serves.
    pub(super) is_problem: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            status: Map::new(),
            lines: Vec::new(),
            free: None,
            unavailable: None,
            is_problem: true,
        }
    }
}

impl Overview {
    pub(crate) fn new(stores: impl Iterator<Item = (String, Backend)>) -> Self {
        Self(stores.collect())
    }

    /// Looks at all of them, at once.
    fn look(&self) -> Vec<(&str, Report)> {
        let until = Instant::now() + PATIENCE;
        let looks: Vec<_> = self.0.iter().map(|(name, store)| (name, store.look())).collect();
        let reports = looks.into_iter().map(|(name, look)| (name.as_str(), look.report(until)));
        reports.collect()
    }

    /// For `/status`, by name.
    pub(crate) fn status(&self) -> Value {
        let stores = self.look().into_iter().map(|(name, report)| {
            let mut status = report.status;
            status.insert("available".to_owned(), json!(report.unavailable.is_none()));
            if let Some(reason) = report.unavailable {
                status.insert("reason".to_owned(), json!(reason));
            }
            (name.to_owned(), Value::Object(status))
        });
        Value::Object(stores.collect())
    }

    /// What makes the gateway not ready.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let looked = self.look().into_iter();
        looked.filter_map(|(name, report)| Some(format!("store {name}: {}", report.unavailable?)))
    }

    /// Lines for each store, and what is wrong with it. Connects to nothing.
    pub(crate) fn check(&self) -> Vec<(String, Option<String>)> {
        let until = Instant::now() + PATIENCE;
        let looks: Vec<_> =
            self.0.iter().map(|(name, store)| (name, store, store.look())).collect();
        let checked = looks.into_iter().map(|(name, store, look)| {
            let report = look.report(until);
            let mut lines = report.lines.into_iter();
            let mut text = format!("store {name}  {}", lines.next().unwrap_or_default());
            lines.for_each(|line| text = format!("{text}\nstore {name}: {line}"));
            let problem = report.unavailable.filter(|_| report.is_problem && store.is_local());
            (text, problem.map(|reason| format!("store {name:?}: {}: {reason}", store.place())))
        });
        checked.collect()
    }

    /// Tries those that are on servers: lines, and what is wrong.
    pub(crate) async fn connect(&self) -> (Vec<String>, Vec<String>) {
        let (mut lines, mut problems) = (Vec::new(), Vec::new());
        for (name, store) in &self.0 {
            let Some(diagnosis) = store.diagnose().await else { continue };
            lines.extend(diagnosis.lines.into_iter().map(|line| format!("store {name}: {line}")));
            let wrong = diagnosis.problems.into_iter();
            problems.extend(wrong.map(|problem| format!("[store.{name}] {problem}")));
        }
        (lines, problems)
    }
}

/// Whether stores are available and how much space is left, for Prometheus.
pub(crate) struct StoreMetrics<F> {
    stores: F,
    available: IntGaugeVec,
    free: IntGaugeVec,
}

impl<F: Fn() -> Overview> StoreMetrics<F> {
    /// Metrics of the stores that `stores` returns at the time of each scrape.
    pub(crate) fn new(stores: F) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["store"]);
        let available =
            "Whether a store can be used: 1, or 0 if its disk is missing or its server silent";
        Ok(Self {
            stores,
            available: gauge("keepgate_store_available", available)?,
            free: gauge("keepgate_store_free_bytes", "Bytes that are free on a store's disk")?,
        })
    }

    fn fill(&self) {
        self.available.reset();
        self.free.reset();
        for (name, report) in (self.stores)().look() {
            self.available.with_label_values(&[name]).set(report.unavailable.is_none().into());
            if let Some(free) = report.free {
                let free = i64::try_from(free).unwrap_or(i64::MAX);
                self.free.with_label_values(&[name]).set(free);
            }
        }
    }
}

impl<F: Fn() -> Overview + Send + Sync> Collector for StoreMetrics<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.available.desc().into_iter().chain(self.free.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.fill();
        families(self.available.collect().into_iter().chain(self.free.collect()))
    }
}
