//! Schedules: jobs that the gateway starts by itself, and what is known about their runs.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `trigger` | patterns and intervals, and the times that follow from them |
//! | `plan` | the next time of each schedule: set at startup and reload, advanced with each run |
//!
//! # When a schedule runs
//!
//! A cron pattern has five fields, or is one of `@hourly`, `@daily`, `@weekly`, `@monthly` and
//! `@yearly`, and is evaluated in a time zone. If the clock is set forward, a time that is skipped
//! (`30 2 * * *` in Berlin on the last Sunday of March) is replaced by the first moment after the
//! gap. If the clock is set back, a pattern of fixed times runs once, at the first of the two; a
//! pattern with steps or stars for the hour or minute runs in both hours.
//!
//! An interval counts from the previously planned time, so runs do not drift; each run is delayed by
//! a new random part of the jitter. A schedule that has never run starts within its jitter, or at
//! once if it has none. A schedule whose times were changed continues from its last run.
//!
//! A run that is due while the gateway is up is started, however late. A run that was due while the
//! gateway was down is *missed* after more than a minute: it is run once or skipped, as the schedule
//! says. If the clock is set back, the next run moves to the first time after the new now.
//!
//! A run joins an existing job of its kind and key, so runs never pile up; the end of that job then
//! counts for the schedule.

mod plan;
mod trigger;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::ScheduleError;
use crate::job::State;

pub(crate) use self::plan::{PlannedSchedule, SchedulePlans};
pub use self::trigger::Trigger;

/// What happens to a run that was missed while the gateway was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It is skipped. A gateway that is down at the same time every day never runs what is due
    /// then.
    #[default]
    Skip,
    /// It is run at startup; once, however many were missed.
    Run,
}

/// A job that the gateway starts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Unique in the configuration.
    pub name: String,
    /// As in [`NewJob`](crate::NewJob), like all fields down to `input`.
    pub mount: String,
    /// What kind of work it is.
    pub kind: String,
    /// At most one job of a mount, kind and key runs at a time.
    pub key: String,
    /// The job's input.
    pub input: Vec<u8>,
    /// When it runs.
    pub when: Trigger,
    /// What happens to missed runs.
    pub missed: Missed,
    /// The most attempts of a run, at least 1.
    pub attempts: u32,
    /// The pause after the first failed attempt; it doubles with each attempt.
    pub backoff: Duration,
}

impl Schedule {
    /// Validates the schedule.
    ///
    /// # Errors
    ///
    /// What is wrong with its times, or with the job that it starts.
    pub fn check(&self) -> Result<(), ScheduleError> {
        if self.name.is_empty() || self.name.len() > 128 {
            return Err(ScheduleError("a schedule's name has 1 to 128 bytes".to_owned()));
        }
        self.when.check()?;
        self.job(format!("schedule {}", self.name))
            .check()
            .map_err(|error| ScheduleError(error.to_string()))
    }

    pub(crate) fn job(&self, origin: String) -> crate::NewJob {
        crate::NewJob {
            mount: self.mount.clone(),
            kind: self.kind.clone(),
            key: self.key.clone(),
            origin,
            schedule: Some(self.name.clone()),
            // Schedules belong to the operator.
            user: None,
            input: self.input.clone(),
            attempts: self.attempts,
            backoff: self.backoff,
            not_before: None,
            finally: None,
            when_busy: crate::WhenBusy::Join,
        }
    }
}

/// The status of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleStatus {
    /// As in the configuration.
    pub name: String,
    /// Path of the mount whose plugin runs the job.
    pub mount: String,
    /// Kind of the job.
    pub kind: String,
    /// Key of the job.
    pub key: String,
    /// Its times as text: `0 3 * * * in Europe/Berlin`, `every 1h`.
    pub when: String,
    /// The next run. `None` if the schedule was read from a file and is no longer in use.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub next: Option<SystemTime>,
    /// When it last started or joined a job, including at an operator's request.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub last_run: Option<SystemTime>,
    /// When the newest of its jobs that succeeded ended.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub last_success: Option<SystemTime>,
    /// Id of the last run's job.
    pub last_job: Option<String>,
    /// The final state of the last of its jobs that ended.
    pub last_outcome: Option<State>,
}
