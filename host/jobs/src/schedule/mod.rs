//! Schedules: jobs that the gateway starts by itself, and what is known of their runs.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `when` | patterns and intervals, and the times that come of them |
//! | `plan` | the next time of each schedule: fixed at start and reload, moved on with each run |
//!
//! # When a schedule runs
//!
//! A cron pattern has five fields, or is one of `@hourly`, `@daily`, `@weekly`, `@monthly` and
//! `@yearly`, and is read in a time zone. Where the clock is set forward, a time that is left out
//! (`30 2 * * *` in Berlin on the last Sunday of March) is replaced by the first moment after the
//! gap. Where the clock is set back, a pattern of fixed times runs at the first of both, once; a
//! pattern with steps or stars for the hour or minute runs in both hours.
//!
//! An interval counts from the time that was planned before, so that runs do not drift; each is
//! put off by a random part of the jitter, anew each time. A schedule that never ran begins within
//! its jitter, that is at once where there is none. One whose times were changed goes on from its
//! last run.
//!
//! A run that is due while the gateway is up is started, however late. What was due while it was
//! down is, after more than a minute, *missed*: it is run once, or left out, as the schedule says.
//! A clock that goes back brings the next run forward to the first time after the new now.
//!
//! A run joins a job of its kind and key that is there already, so runs never pile up; that job's
//! end then counts for the schedule.

mod plan;
mod when;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::ScheduleError;
use crate::job::State;

pub(crate) use self::plan::{Planned, Plans};
pub use self::when::When;

/// What happens to a run whose time passed while the gateway was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It is left out. A gateway that is down at the same time every day never runs what is due
    /// then.
    #[default]
    Skip,
    /// It is run at the start; once, however many were missed.
    Run,
}

/// A job that the gateway starts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Unique in the configuration.
    pub name: String,
    /// As in [`NewJob`](crate::NewJob), as all down to `input`.
    pub mount: String,
    /// What is to be done.
    pub kind: String,
    /// Of the same mount, kind and key one job runs at a time.
    pub key: String,
    /// What the job is given.
    pub input: Vec<u8>,
    /// At which times.
    pub when: When,
    /// What happens to runs whose time passed while the gateway was down.
    pub missed: Missed,
    /// How often a run is tried at most, from 1.
    pub attempts: u32,
    /// The pause after the first failed attempt; it doubles with each.
    pub backoff: Duration,
}

impl Schedule {
    /// Says whether it can be used.
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
            // The operator's own.
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

/// What is known of a schedule.
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
    /// Its times, in words: `0 3 * * * in Europe/Berlin`, `every 1h`.
    pub when: String,
    /// The next run. None where the schedule was read from a file in which it is no longer in use.
    #[serde(with = "crate::form::optional_time")]
    pub next: Option<SystemTime>,
    /// When it last started a job, or joined one; by an operator's wish too.
    #[serde(with = "crate::form::optional_time")]
    pub last_run: Option<SystemTime>,
    /// When the newest of its jobs that succeeded ended.
    #[serde(with = "crate::form::optional_time")]
    pub last_success: Option<SystemTime>,
    /// Id of the job of the last run.
    pub last_job: Option<String>,
    /// How the last of its jobs that ended did so.
    pub last_outcome: Option<State>,
}
