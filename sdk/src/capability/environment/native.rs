//! The environment of a test: its settings and clock, and a log and metrics that the test can inspect.

use std::collections::BTreeMap;

use super::Level;
use crate::testing::{Host, with};

#[derive(Debug)]
struct Environment {
    settings: String,
    now: u64,
    /// How often random bytes were asked for.
    random: u64,
    log: Vec<(Level, String)>,
    counts: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            settings: "{}".to_owned(),
            now: 0,
            random: 0,
            log: Vec::new(),
            counts: BTreeMap::new(),
            gauges: BTreeMap::new(),
        }
    }
}

/// The mount's settings, as a JSON object.
pub fn settings() -> String {
    with(|own: &mut Environment| own.settings.clone())
}

/// Nanoseconds since the Unix epoch. [`Timestamp::now`](crate::Timestamp::now) returns the same time as a
/// type with methods.
pub fn now() -> u64 {
    with(|own: &mut Environment| own.now)
}

/// Unpredictable bytes, at most 65536. In tests they are zeros, and in later calls count up from there.
pub fn random(length: u32) -> Vec<u8> {
    let calls = with(|own: &mut Environment| {
        own.random += 1;
        own.random - 1
    });
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    for (byte, of_count) in bytes.iter_mut().rev().zip(calls.to_le_bytes()) {
        *byte = of_count;
    }
    bytes
}

/// In a test's log, fields follow the message, as in `stored name="a.tar"`.
pub(super) fn log_fields(level: Level, message: &str, fields: &[(String, String)]) {
    let mut line = message.to_owned();
    for (name, value) in fields {
        line.push_str(&format!(" {name}={value:?}"));
    }
    with(|own: &mut Environment| own.log.push((level, line)));
}

/// Adds to a counter that [`Description::counter`](crate::Description::counter) declared.
pub fn count(metric: &str, labels: &[&str], by: u64) {
    with(|own: &mut Environment| *own.counts.entry(series(metric, labels)).or_default() += by);
}

/// Sets a gauge that [`Description::gauge`](crate::Description::gauge) declared. The value stays until it is
/// set again or the gateway ends. A value that is not finite is dropped.
pub fn set(metric: &str, labels: &[&str], value: f64) {
    if value.is_finite() {
        with(|own: &mut Environment| own.gauges.insert(series(metric, labels), value));
    }
}

fn series(metric: &str, labels: &[&str]) -> String {
    let series = std::iter::once(metric).chain(labels.iter().copied());
    series.collect::<Vec<_>>().join(" ")
}

impl Host {
    /// Sets the settings, a JSON object.
    #[must_use]
    pub fn settings(self, settings: &serde_json::Value) -> Self {
        with(|own: &mut Environment| own.settings = settings.to_string());
        self
    }

    /// Sets the clock, in nanoseconds since the Unix epoch. It stands still until it is set again.
    pub fn set_now(&self, nanoseconds: u64) {
        with(|own: &mut Environment| own.now = nanoseconds);
    }

    /// The value of a counter, by its name and the values of its labels, joined with blanks.
    pub fn count(&self, series: &str) -> u64 {
        with(|own: &mut Environment| own.counts.get(series).copied().unwrap_or(0))
    }

    /// The value of a gauge, by its name and the values of its labels, joined with blanks; `None` if it was
    /// never set.
    pub fn gauge(&self, series: &str) -> Option<f64> {
        with(|own: &mut Environment| own.gauges.get(series).copied())
    }

    /// The log so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        with(|own: &mut Environment| own.log.clone())
    }
}
