//! The gateway's clock, by which it judges what is retained and what has expired. What it showed last is kept in the data
//! folder, so that a machine that starts with a wrong clock frees nothing; `keepgate_store::clock` says how it goes on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use keepgate_store::Clock;
use keepgate_store::clock::SteadyClock;
use prometheus::{Gauge, Registry};
use serde_json::{Value, json};

use crate::config::capability::StatusPart;
use crate::users::write_durably;

/// In the data folder: a time such as `2026-12-01T15:07:59Z`.
const FILE: &str = "clock";
/// How often it is written: rarely, because the data folder may be on a disk that sleeps.
const ROUNDS: Duration = Duration::from_secs(3600);
/// From how much on an operator is told that it is behind.
const WORTH_A_WORD: Duration = Duration::from_secs(3600);
/// Since 1970, in the year 2262: no kernel shows a later time.
const LAST: Duration = Duration::from_secs(i64::MAX as u64 / 1_000_000_000);

/// The clock of a gateway that serves.
#[derive(Clone, Debug)]
pub(crate) struct GatewayClock {
    clock: Clock,
    file: PathBuf,
}

impl GatewayClock {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// If what was kept cannot be read: without it, nobody could tell a wrong clock.
    pub(crate) fn start(data_dir: &Path) -> Result<Self> {
        let file = data_dir.join(FILE);
        let saved = read(&file)?;
        let this = Self { clock: Clock::steady(SteadyClock::start(saved)), file };
        let behind = this.clock.behind();
        if behind > WORTH_A_WORD {
            tracing::warn!(
                file = %this.file.display(),
                "this machine's clock is {} after the time at which the gateway last ran; what is retained or expires is \
                 judged by {}, which catches up by one day in eight; if the machine's clock is right, remove the file and \
                 restart",
                humantime::format_duration(Duration::from_secs(behind.as_secs())),
                shown(this.clock.now()),
            );
        }
        Ok(this)
    }

    /// What stores judge by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Writes what it shows, again and again, until it is aborted.
    pub(crate) async fn keep(self) {
        let mut failed = false;
        loop {
            let written = self.save().await;
            if let Err(error) = &written
                && !failed
            {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the clock cannot be kept; it is tried again"
                );
            }
            failed = written.is_err();
            tokio::time::sleep(ROUNDS).await;
        }
    }

    /// Writes what it shows.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) async fn save(&self) -> Result<()> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.write()).await?
    }

    fn write(&self) -> Result<()> {
        write_durably(&self.file, format!("{}\n", shown(self.clock.now())).as_bytes())
    }

    /// Registers a metric.
    pub(crate) fn register(&self, registry: &Registry) -> Result<()> {
        let clock = self.clock.clone();
        let help =
            "How far the clock by which retention and expiry are judged is behind this machine's.";
        let gauge = Gauge::new("keepgate_clock_behind_seconds", help)?;
        registry.register(Box::new(Behind { gauge, clock }))?;
        Ok(())
    }

    /// What `/status` shows of it.
    pub(crate) fn status_part(self) -> StatusPart {
        ("clock", Arc::new(move || self.status()))
    }

    fn status(&self) -> Value {
        json!({ "time": shown(self.clock.now()), "behind_seconds": self.clock.behind().as_secs() })
    }
}

/// The metric, set when it is collected.
struct Behind {
    gauge: Gauge,
    clock: Clock,
}

impl prometheus::core::Collector for Behind {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.gauge.set(self.clock.behind().as_secs_f64());
        self.gauge.collect()
    }
}

fn read(file: &Path) -> Result<Option<SystemTime>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let time = humantime::parse_rfc3339(text.trim()).ok();
    let time = time.filter(|time| time.duration_since(UNIX_EPOCH).is_ok_and(|since| since < LAST));
    let time = time.with_context(|| {
        format!(
            "{} should be a time such as 2026-12-01T15:07:59Z; if this machine's clock is right, remove the file",
            file.display()
        )
    })?;
    Ok(Some(time))
}

/// To the second.
fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_showed_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = GatewayClock::start(dir.path()).unwrap();
        assert!(first.clock.behind() < Duration::from_secs(1));
        first.write().unwrap();
        let kept = read(&dir.path().join(FILE)).unwrap().unwrap();
        assert!(first.clock.now().duration_since(kept).unwrap() < Duration::from_secs(2));

        // As if this machine's clock were years ahead.
        fs::write(dir.path().join(FILE), "2020-02-03T04:05:06Z\n").unwrap();
        let second = GatewayClock::start(dir.path()).unwrap();
        let status = second.status();
        assert!(status["time"].as_str().unwrap().starts_with("2020-02-03T04:05:"), "{status}");
        assert!(status["behind_seconds"].as_u64().unwrap() > 5 * 365 * 86_400, "{status}");
        let registry = Registry::new();
        second.register(&registry).unwrap();
        let shown = registry.gather()[0].get_metric()[0].get_gauge().get_value();
        assert!(shown > 1e8, "{shown}");
        second.write().unwrap();
        assert!(fs::read_to_string(dir.path().join(FILE)).unwrap().starts_with("2020-02-03T04:"));
    }

    #[test]
    fn what_is_no_time_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = format!("{:#}", GatewayClock::start(dir.path()).unwrap_err());
            assert!(
                error.contains("/clock should be a time such as 2026-12-01T15:07:59Z"),
                "{error}"
            );
        }
    }
}
