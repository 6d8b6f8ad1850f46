//! What the operator configures of a mount, and how much a call may use.

use std::time::Duration;

use crate::capability::grants::Grants;
use crate::circuit_breaker::Faults;

/// What the operator configures of a mount.
#[derive(Clone, Debug)]
pub struct MountSpec {
    /// `/`, or a path that starts with `/` and does not end with it.
    pub path: String,
    /// Where it is configured, for messages: file, line and column.
    pub place: Option<String>,
    /// The plugin's file name without `.wasm`.
    pub plugin: String,
    /// Passed to the plugin as JSON.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// What it grants the plugin.
    pub grants: Grants,
    /// What a call may use.
    pub limits: Limits,
    /// Whether an instance serves many requests, one after another, instead of one.
    pub warm: bool,
}

/// What a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance, in bytes. The host allocates at most as much again for a call.
    pub memory: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Time from the request to the end of the plugin's work. The host may still send the body after
    /// that.
    pub time: Duration,
    /// Time of one attempt of a job.
    pub job_time: Duration,
    /// The most calls in flight.
    pub calls: usize,
    /// The most series of the plugin's metrics.
    pub series: usize,
    /// When a plugin that keeps breaking down is suspended.
    pub faults: Faults,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu: Duration::from_secs(1),
            time: Duration::from_secs(3600),
            job_time: Duration::from_secs(24 * 3600),
            calls: 256,
            series: 10_000,
            faults: Faults::default(),
        }
    }
}

/// The part of [`Limits`] that one call is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Linear memory in bytes.
    pub(crate) memory: u64,
    /// Time spent computing.
    pub(crate) cpu: Duration,
    /// Time from beginning to end.
    pub(crate) time: Duration,
    /// Time to wait for an instance before it.
    pub(crate) patience: Duration,
}

/// How long a call waits if as many are in flight as the mount, or its share of the instances, allows.
pub(crate) const TURN: Duration = Duration::from_secs(10);

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self { memory: limits.memory, cpu: limits.cpu, time: limits.time, patience: TURN }
    }
}
