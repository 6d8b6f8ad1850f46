//! `[schedule.NAME]`, a job that starts by itself.

use std::time::Duration;

use keepgate_jobs::When;
use serde::Deserialize;
use toml::Spanned;

use super::check::{Complaint, complain};
use super::{Config, Interval};

/// A job that starts by itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// The path of a mount.
    pub(crate) mount: Spanned<String>,
    /// A kind of job that its plugin runs.
    pub(crate) job: Spanned<String>,
    #[serde(default)]
    pub(crate) cron: Option<Spanned<String>>,
    /// Of `cron`; UTC without it.
    #[serde(default)]
    pub(crate) time_zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) every: Option<Interval>,
    /// Each run of `every` is later by up to this.
    #[serde(default)]
    pub(crate) jitter: Option<Spanned<Interval>>,
    /// Handed to the plugin as JSON.
    #[serde(default)]
    pub(crate) input: toml::Table,
    #[serde(default)]
    pub(crate) missed: Missed,
    #[serde(default)]
    pub(crate) attempts: Option<Spanned<u32>>,
    #[serde(default)]
    pub(crate) backoff: Option<Interval>,
}

/// What happens to a run whose time passed while the gateway was down.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Missed {
    Skip,
    /// A machine that is down at that hour every day would never have a backup otherwise.
    #[default]
    Run,
}

impl Schedule {
    /// When it runs, or what is wrong with that in words.
    pub(crate) fn when(&self) -> Result<When, Complaint> {
        let (when, place) = match (&self.cron, self.every) {
            (Some(cron), None) => {
                if let Some(jitter) = &self.jitter {
                    return Err((jitter.span().start, "`jitter` is for `every`".to_owned()));
                }
                let zone = self.time_zone.as_ref().map_or("UTC", |zone| zone.get_ref());
                let (pattern, time_zone) = (cron.get_ref().clone(), zone.to_owned());
                (When::Cron { pattern, time_zone }, cron.span().start)
            }
            (None, Some(Interval(interval))) => {
                if let Some(zone) = &self.time_zone {
                    return Err(complain(zone, "`time_zone` is for `cron`"));
                }
                let jitter = self.jitter.as_ref().map_or(Duration::ZERO, |later| later.get_ref().0);
                (When::Every { interval, jitter }, self.mount.span().start)
            }
            _ => {
                let what = "a schedule has `cron` or `every`: write one of them";
                return Err(complain(&self.mount, what));
            }
        };
        when.check().map_err(|error| (place, error.to_string()))?;
        Ok(when)
    }

    /// What the plugin is handed.
    pub(crate) fn input(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.input)?)
    }
}

pub(super) fn check(config: &Config) -> Result<(), Complaint> {
    config.schedule.iter().try_for_each(|(name, schedule)| check_schedule(config, name, schedule))
}

fn check_schedule(config: &Config, name: &str, schedule: &Schedule) -> Result<(), Complaint> {
    if !config.jobs.enabled {
        let what = format!("[schedule.{name}] needs jobs, and [jobs] says `enabled = false`");
        return Err(complain(&schedule.mount, &what));
    }
    // Mounts that plugins get by themselves are known only once plugins are loaded.
    let mounted = config.mount.iter().any(|mount| mount.path.get_ref() == schedule.mount.get_ref());
    if !mounted && config.auto_mount.is_none() {
        let what = format!("there is no mount {}", schedule.mount.get_ref());
        return Err(complain(&schedule.mount, &what));
    }
    if let Some(attempts) = &schedule.attempts
        && *attempts.get_ref() == 0
    {
        return Err((attempts.span().start, "a job has one attempt at least".to_owned()));
    }
    schedule.when().map(|_| ())
}
