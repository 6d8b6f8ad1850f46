//! The clock, the randomness and the ear of a world: see [`TestHooks`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use keepgate_jobs::Clock;
use keepgate_runtime::{Failure, TestHooks};
use tokio::time::Instant;

use crate::case::Content;

/// The time of day of a world. It follows the clock of its runtime, which stands while the plugin
/// works and jumps where everybody waits: an hour of silence costs nothing.
#[derive(Clone, Debug)]
pub(crate) struct WorldClock {
    start: SystemTime,
    origin: Instant,
}

impl WorldClock {
    pub(crate) fn new(start: SystemTime) -> Self {
        Self { start, origin: Instant::now() }
    }
}

impl Clock for WorldClock {
    fn now(&self) -> SystemTime {
        self.start + self.origin.elapsed()
    }
}

/// A call of the plugin to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As in `blobs.put`.
    pub import: &'static str,
    /// What matters of its arguments, as in `main keys/abc absent`.
    pub about: String,
    /// Why it failed, in the contract's word, as in `not-found`.
    pub failed: Option<&'static str>,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.import)?;
        if !self.about.is_empty() {
            write!(f, " {}", self.about)?;
        }
        self.failed.map_or(Ok(()), |word| write!(f, " -> {word}"))
    }
}

/// An addition to one of the plugin's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The counter's name.
    pub metric: String,
    /// Values of its labels, in order.
    pub labels: Vec<String>,
    /// How much was added.
    pub by: u64,
    /// Why it was dropped.
    pub refused: Option<String>,
}

/// What the plugin set one of its gauges to.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// The gauge's name.
    pub metric: String,
    /// Values of its labels, in order.
    pub labels: Vec<String>,
    /// What it was set to.
    pub value: f64,
    /// Why it was dropped.
    pub refused: Option<String>,
}

/// Hears all that a plugin asks of its host.
#[derive(Debug)]
pub(crate) struct Ear {
    clock: WorldClock,
    seed: AtomicU64,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) calls: Vec<Call>,
    /// Level and line, as in `warn: text`.
    pub(crate) log: Vec<String>,
    pub(crate) counts: Vec<Count>,
    pub(crate) gauges: Vec<Gauge>,
}

impl Ear {
    pub(crate) fn new(clock: WorldClock, seed: u64) -> Arc<Self> {
        Arc::new(Self { clock, seed: AtomicU64::new(seed), heard: Mutex::default() })
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TestHooks for Ear {
    fn now(&self) -> SystemTime {
        Clock::now(&self.clock)
    }

    fn random(&self, bytes: &mut [u8]) {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let content = Content { random: Some(bytes.len()), seed, ..Content::default() };
        // Neither a file nor a name is asked for, so that this cannot fail.
        let made = content.bytes(std::path::Path::new(""), &Default::default());
        if let Ok(made) = made {
            bytes.copy_from_slice(&made);
        }
    }

    fn called(&self, import: &'static str, about: String) -> u64 {
        let mut heard = self.heard();
        heard.calls.push(Call { import, about, failed: None });
        heard.calls.len() as u64 - 1
    }

    fn failed(&self, call: u64, failure: &Failure) {
        let index = usize::try_from(call).unwrap_or(usize::MAX);
        if let Some(call) = self.heard().calls.get_mut(index) {
            call.failed = Some(word(failure));
        }
    }

    fn logged(&self, level: &'static str, line: &str) {
        self.heard().log.push(format!("{level}: {line}"));
    }

    fn counted(&self, metric: &str, labels: &[String], by: u64, refused: Option<&str>) {
        self.heard().counts.push(Count {
            metric: metric.to_owned(),
            labels: labels.to_vec(),
            by,
            refused: refused.map(str::to_owned),
        });
    }

    fn set(&self, metric: &str, labels: &[String], value: f64, refused: Option<&str>) {
        self.heard().gauges.push(Gauge {
            metric: metric.to_owned(),
            labels: labels.to_vec(),
            value,
            refused: refused.map(str::to_owned),
        });
    }
}

/// A failure's name in the contract.
pub(crate) fn word(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotFound => "not-found",
        Failure::AlreadyExists => "already-exists",
        Failure::PreconditionFailed => "precondition-failed",
        Failure::ChecksumMismatch(_) => "checksum-mismatch",
        Failure::Truncated => "truncated",
        Failure::TooLarge(_) => "too-large",
        Failure::OutOfRange(_) => "out-of-range",
        Failure::QuotaExceeded(_) => "quota-exceeded",
        Failure::NoSpace => "no-space",
        Failure::Denied(_) => "denied",
        Failure::Invalid(_) => "invalid",
        Failure::Unsupported(_) => "unsupported",
        Failure::Unavailable(_) => "unavailable",
        Failure::Busy(_) => "busy",
        Failure::TimedOut => "timed-out",
        Failure::Internal(_) => "internal",
        Failure::Refused(_) => "refused",
    }
}
