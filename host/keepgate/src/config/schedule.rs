//! `[schedule.NAME]`, a job that starts by itself.

use std::ops::Range;
use std::time::Duration;

use keepgate_jobs::Trigger;
use serde::Deserialize;
use toml::Spanned;

use super::{Config, Interval, Problem, Problems};

/// `[schedule.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// The path of a mount.
    pub(crate) mount: Spanned<String>,
    /// A kind of job that its plugin runs.
    pub(crate) job: Spanned<String>,
    #[serde(default)]
    pub(crate) cron: Option<Spanned<String>>,
    /// Of `cron`; UTC by default.
    #[serde(default)]
    pub(crate) time_zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) every: Option<Interval>,
    /// The longest random delay of each run of `every`.
    #[serde(default)]
    pub(crate) jitter: Option<Spanned<Interval>>,
    /// Passed to the plugin as JSON.
    #[serde(default)]
    pub(crate) input: toml::Table,
    #[serde(default)]
    pub(crate) missed: Missed,
    #[serde(default)]
    pub(crate) attempts: Option<Spanned<u32>>,
    #[serde(default)]
    pub(crate) backoff: Option<Interval>,
}

/// What happens to a run that was missed because the gateway was down.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Missed {
    Skip,
    /// The default, because a machine that is off at that hour every day would never have a backup.
    #[default]
    Run,
}

impl Schedule {
    /// When it runs.
    pub(crate) fn when(&self) -> Result<Trigger, Problem> {
        trigger(Times {
            cron: self.cron.as_ref(),
            time_zone: self.time_zone.as_ref(),
            every: self.every,
            jitter: self.jitter.as_ref(),
            place: self.mount.span(),
        })
    }

    /// The input of its jobs.
    pub(crate) fn input(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.input)?)
    }
}

/// The keys that say when something runs, as several tables have them.
pub(super) struct Times<'a> {
    pub(super) cron: Option<&'a Spanned<String>>,
    pub(super) time_zone: Option<&'a Spanned<String>>,
    pub(super) every: Option<Interval>,
    pub(super) jitter: Option<&'a Spanned<Interval>>,
    /// Where an error is reported that belongs to none of them.
    pub(super) place: Range<usize>,
}

/// When something runs that has these keys.
pub(super) fn trigger(times: Times<'_>) -> Result<Trigger, Problem> {
    let Times { cron, time_zone, every, jitter, place } = times;
    let (when, span) = match (cron, every) {
        (Some(cron), None) => {
            if let Some(jitter) = jitter {
                let message = "`jitter` applies only to `every`; remove it";
                return Err(Problem::new(jitter.span(), message));
            }
            let zone = time_zone.map_or("UTC", |zone| zone.get_ref());
            let (pattern, time_zone) = (cron.get_ref().clone(), zone.to_owned());
            (Trigger::Cron { pattern, time_zone }, cron.span())
        }
        (None, Some(Interval(interval))) => {
            if let Some(zone) = time_zone {
                let message = "`time_zone` applies only to `cron`; remove it";
                return Err(Problem::new(zone.span(), message));
            }
            let jitter = jitter.map_or(Duration::ZERO, |later| later.get_ref().0);
            (Trigger::Every { interval, jitter }, place)
        }
        _ => {
            let message = "a schedule needs either `cron` or `every`";
            return Err(Problem::new(place, message));
        }
    };
    when.check().map_err(|error| Problem::new(span, error.to_string()))?;
    Ok(when)
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, schedule) in &config.schedule {
        check_schedule(config, name, schedule, problems);
    }
}

fn check_schedule(config: &Config, name: &str, schedule: &Schedule, problems: &mut Problems) {
    let mount = &schedule.mount;
    if !config.jobs.enabled {
        let message = format!("[schedule.{name}] needs jobs, but [jobs] has `enabled = false`");
        problems.add(mount.span(), message);
    }
    // Automatic mounts are known only once plugins are loaded.
    let mounted = config.mount.iter().any(|other| other.path.get_ref() == mount.get_ref());
    if !mounted && config.auto_mount.is_none() {
        let known = super::names(config.mount.iter().map(|mount| mount.path.get_ref()));
        let path = mount.get_ref();
        let message =
            format!("[schedule.{name}] unknown mount {path:?}; configured mounts: {known}");
        problems.add(mount.span(), message);
    }
    if let Some(attempts) = &schedule.attempts
        && *attempts.get_ref() == 0
    {
        problems.add(attempts.span(), format!("[schedule.{name}] attempts must be at least 1"));
    }
    problems.add_error(schedule.when());
}
