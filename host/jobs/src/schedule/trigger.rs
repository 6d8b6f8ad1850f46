//! When a schedule runs: parsing, validating and calculating times. Nothing here waits or has state.

use std::fmt;
use std::time::{Duration, SystemTime};

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::error::ScheduleError;

/// The shortest interval.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval: ten years, so that no sum of times overflows.
const MAX_INTERVAL: Duration = Duration::from_secs(3650 * 24 * 3600);

/// When a schedule runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// At the times of a cron pattern.
    Cron {
        /// Minute, hour, day of the month, month, day of the week; or `@daily` and its like.
        pattern: String,
        /// A name from the IANA database, such as `Europe/Berlin`, or `UTC`.
        time_zone: String,
    },
    /// At a fixed interval.
    Every {
        /// From one second to ten years.
        interval: Duration,
        /// Each run is delayed by a random time below this; at most the interval.
        jitter: Duration,
    },
}

impl Trigger {
    /// Validates the times.
    ///
    /// # Errors
    ///
    /// What is wrong, with the pattern or the name in it.
    pub fn check(&self) -> Result<(), ScheduleError> {
        match self {
            Self::Cron { pattern, time_zone } => {
                let cron = Pattern::new(pattern, time_zone)?;
                let now = SystemTime::now();
                cron.next_after(now).map(drop).ok_or_else(|| {
                    ScheduleError(format!("the cron pattern {pattern:?} never comes true"))
                })
            }
            Self::Every { interval, .. } if *interval < MIN_INTERVAL => {
                Err(ScheduleError("an interval is at least one second".to_owned()))
            }
            Self::Every { interval, .. } if *interval > MAX_INTERVAL => {
                Err(ScheduleError("an interval is at most ten years".to_owned()))
            }
            Self::Every { interval, jitter } if jitter > interval => Err(ScheduleError(
                "the jitter is longer than the interval; it is at most as long".to_owned(),
            )),
            Self::Every { .. } => Ok(()),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |time: &Duration| {
            let seconds = SignedDuration::try_from(*time).unwrap_or(SignedDuration::MAX);
            format!("{seconds:#}")
        };
        match self {
            Self::Cron { pattern, time_zone } => write!(f, "{pattern} in {time_zone}"),
            Self::Every { interval, jitter } if jitter.is_zero() => {
                write!(f, "every {}", words(interval))
            }
            Self::Every { interval, jitter } => {
                write!(f, "every {}, up to {} later", words(interval), words(jitter))
            }
        }
    }
}

/// A parsed cron pattern in its time zone.
#[derive(Debug)]
pub(super) struct Pattern {
    cron: Cron,
    zone: TimeZone,
}

impl Pattern {
    pub(super) fn new(pattern: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        let zone = match time_zone {
            // A small container may have no time zone database.
            "UTC" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| {
                ScheduleError(format!(
                    "unknown time zone {name:?}; expected a name such as \"Europe/Berlin\" from the \
                     system's tzdata, which must be installed"
                ))
            })?,
        };
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(pattern)
            .map_err(|error| {
                ScheduleError(format!(
                    "the cron pattern {pattern:?} cannot be read: {error} (five fields: minute, \
                     hour, day of the month, month, day of the week)"
                ))
            })?;
        Ok(Self { cron, zone })
    }

    /// The first later time; `None` if there is none in the foreseeable future.
    pub(super) fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        let from = Zoned::new(Timestamp::try_from(time).ok()?, self.zone.clone());
        self.cron.find_next_occurrence(&from, false).ok().map(|next| next.timestamp().into())
    }
}

/// The first time later than `now` that is a whole number of intervals after the planned one.
pub(super) fn next_in_step(
    planned: SystemTime,
    interval: Duration,
    now: SystemTime,
) -> Option<SystemTime> {
    let passed = now.duration_since(planned).unwrap_or_default().as_millis();
    let steps = passed / interval.as_millis().max(1) + 1;
    planned.checked_add(interval.checked_mul(u32::try_from(steps).ok()?)?)
}

/// A random duration below this one.
pub(super) fn random_part(of: Duration) -> Duration {
    let mut random = [0; 8];
    // Without random bits runs are on time, which does no harm.
    let _ = getrandom::fill(&mut random);
    let most = u64::try_from(of.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(u64::from_le_bytes(random) % most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    /// The times after `from`, in UTC.
    fn times(pattern: &str, time_zone: &str, from: &str, count: usize) -> Vec<String> {
        let pattern = Pattern::new(pattern, time_zone).unwrap();
        let next = |time: &SystemTime| pattern.next_after(*time);
        let times = std::iter::successors(next(&at(from)), next).take(count);
        times.map(|time| Timestamp::try_from(time).unwrap().to_string()).collect()
    }

    fn cron(pattern: &str, time_zone: &str) -> Trigger {
        Trigger::Cron { pattern: pattern.to_owned(), time_zone: time_zone.to_owned() }
    }

    #[test]
    fn a_time_skipped_in_spring_comes_right_after_the_gap() {
        // In Berlin 02:00 to 03:00 is skipped on 2026-03-29.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 3),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
        );
    }

    #[test]
    fn a_time_repeated_in_autumn_runs_once_and_steps_run_in_both_hours() {
        // In Berlin 02:00 to 03:00 happens twice on 2026-10-25.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:15:00Z", 4),
            [
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z"
            ]
        );
    }

    #[test]
    fn patterns_have_five_fields_or_a_name() {
        for pattern in
            ["0 * * * *", "5 4 * * SUN", "@hourly", "@daily", "0 22 * * 1-5", "0 0 L * *"]
        {
            assert_eq!(cron(pattern, "UTC").check(), Ok(()), "{pattern}");
        }
        let wrong =
            ["", "* * * *", "0 0 * * * *", "60 * * * *", "@reboot", "a b c d e", "0 0 30 2 *"];
        for pattern in wrong {
            let error = cron(pattern, "UTC").check().unwrap_err().to_string();
            assert!(error.contains(&format!("{pattern:?}")), "{error}");
        }
    }

    #[test]
    fn time_zones_come_from_the_system() {
        assert_eq!(cron("@daily", "America/New_York").check(), Ok(()));
        let error = cron("@daily", "Europe/Atlantis").check().unwrap_err().to_string();
        assert!(error.contains("Europe/Atlantis") && error.contains("tzdata"), "{error}");
    }

    #[test]
    fn intervals_have_bounds() {
        let every = |interval, jitter| Trigger::Every {
            interval: Duration::from_secs(interval),
            jitter: Duration::from_secs(jitter),
        };
        assert_eq!(every(1, 1).check(), Ok(()));
        assert!(every(0, 0).check().is_err());
        assert!(every(10, 11).check().is_err());
        assert!(every(u64::MAX, 0).check().is_err());
        assert_eq!(every(5400, 60).to_string(), "every 1h 30m, up to 1m later");
    }

    #[test]
    fn intervals_keep_their_phase_however_many_runs_were_missed() {
        let base = at("2026-01-01T00:00:00Z");
        let hour = Duration::from_secs(3600);
        let next = |now| next_in_step(base, hour, at(now)).unwrap();
        assert_eq!(next("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"));
        assert_eq!(next("2026-01-01T00:59:59Z"), at("2026-01-01T01:00:00Z"));
        assert_eq!(next("2026-07-01T10:20:00Z"), at("2026-07-01T11:00:00Z"));
        assert_eq!(next("2025-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"));
    }
}
