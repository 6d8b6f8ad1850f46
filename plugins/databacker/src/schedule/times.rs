//! When runs are expected. Nothing here reads or writes anything.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};
use keepgate_sdk::{HumanDuration, Timestamp};

use super::Schedule;
use crate::events::Missed;

/// Of runs that one instance has missed at once, so many are counted. The documentation names the number.
pub(super) const MOST_COUNTED: u64 = 200;
/// The most bytes of a pattern or a beginning.
pub(super) const LONGEST_TEXT: usize = 256;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest time from one run to the next. It keeps sums of times from overflowing.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);
/// How much earlier than a pattern says a run may begin: clocks are put right now and then.
const EARLY: Duration = Duration::from_secs(5);

/// When runs are expected.
#[derive(Debug)]
pub(super) enum Plan {
    /// At the times of a pattern.
    Cron(Box<Cron>),
    /// So long after the one before, at the latest.
    Every(Duration),
    /// At no time that can be known.
    Unknown,
}

impl Plan {
    /// Reads a schedule. The error says what is wrong with it.
    pub(super) fn of(schedule: &Schedule) -> Result<Self, String> {
        let plan = Self::read(schedule)?;
        match &plan {
            Self::Cron(cron) if plan.after(Timestamp::now()).is_none() => {
                Err(format!("cron: {:?} never comes true", cron.as_str()))
            }
            _ => Ok(plan),
        }
    }

    /// Reads a schedule that may never come true.
    pub(super) fn read(schedule: &Schedule) -> Result<Self, String> {
        if schedule.once {
            return Ok(Self::Unknown);
        }
        for (name, text) in [("cron", &schedule.cron), ("begin", &schedule.begin)] {
            if text.as_ref().is_some_and(|text| text.len() > LONGEST_TEXT) {
                return Err(format!("{name}: at most {LONGEST_TEXT} bytes"));
            }
        }
        let pattern = schedule.cron.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let Some(pattern) = pattern else {
            let minutes = schedule.frequency_minutes.unwrap_or(24 * 60);
            if let Some(begin) = &schedule.begin {
                delay(begin, Timestamp(0)).ok_or_else(|| {
                    format!("begin: {begin:?} is neither + and minutes nor a time of day as 2330")
                })?;
            }
            return every(Duration::from_secs(minutes.saturating_mul(60)))
                .map_err(|why| format!("frequency: {minutes} {why}"));
        };
        if let Some(interval) = pattern.strip_prefix("@every ") {
            let HumanDuration(interval) =
                interval.trim().parse().map_err(|why| format!("cron: {why}"))?;
            return every(interval).map_err(|why| format!("cron: {pattern:?} {why}"));
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(pattern)
            .map_err(|error| {
                format!(
                    "cron: {pattern:?} cannot be read: {error} (five fields: minute, hour, day of the month, month, day of \
                     the week)"
                )
            })?;
        Ok(Self::Cron(Box::new(cron)))
    }

    /// When the first run is expected of a program that gets its schedule now.
    pub(super) fn first(&self, schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
        let begin = schedule.begin.as_deref().filter(|_| matches!(self, Self::Every(_)));
        let delay = begin.and_then(|begin| delay(begin, now)).unwrap_or_default();
        self.after(now.saturating_add(delay))
    }

    /// The first time later than this one.
    pub(super) fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => {
                let from = Instant::from_nanosecond(i128::from(time.0)).ok()?;
                let from = Zoned::new(from, TimeZone::UTC);
                let next = cron.find_next_occurrence(&from, false).ok()?;
                u64::try_from(next.timestamp().as_nanosecond()).ok().map(Timestamp)
            }
            Self::Every(interval) => Some(time.saturating_add(*interval)),
            Self::Unknown => None,
        }
    }

    /// Compares what was expected with the beginning of the newest run. Returns when the next run is expected, and what
    /// was missed, which is what is later than `late` by now.
    pub(super) fn settle(
        &self,
        expected: Timestamp,
        newest: Option<Timestamp>,
        now: Timestamp,
        late: Duration,
    ) -> (Option<Timestamp>, Option<Missed>) {
        let expected = match newest.map(|newest| self.fulfilled(expected, newest.min(now))) {
            None => expected,
            Some(Some(next)) => next,
            Some(None) => return (None, None),
        };
        let until = now.saturating_sub(late);
        if expected > until {
            return (Some(expected), None);
        }
        let mut times = 1;
        let mut next = self.after(expected);
        while let Some(time) = next.filter(|time| *time <= until) {
            if times == MOST_COUNTED {
                next = self.after(until);
                break;
            }
            times += 1;
            next = self.after(time);
        }
        (next, Some(Missed { expected, times }))
    }

    /// What is expected after a run has begun.
    fn fulfilled(&self, expected: Timestamp, begun: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => Some(expected.max(begun.saturating_add(*interval))),
            _ if begun.saturating_add(EARLY) < expected => Some(expected),
            _ => self.after(begun.max(expected)),
        }
    }
}

fn every(interval: Duration) -> Result<Plan, String> {
    match (MINUTE..=LONGEST).contains(&interval) {
        true => Ok(Plan::Every(interval)),
        false => Err("is not from a minute to ten years".to_owned()),
    }
}

/// How long it is from now to the first run.
fn delay(begin: &str, now: Timestamp) -> Option<Duration> {
    let digits = |text: &str| {
        let right = text.bytes().all(|byte| byte.is_ascii_digit());
        if right { text.parse::<u64>().ok() } else { None }
    };
    if let Some(minutes) = begin.strip_prefix('+') {
        let delay = Duration::from_secs(digits(minutes)?.checked_mul(60)?);
        return Some(delay).filter(|delay| *delay <= LONGEST);
    }
    let (hours, minutes) = begin.split_at_checked(2).filter(|_| begin.len() == 4)?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let day = DAY.as_secs();
    let wait = (hours * 3600 + minutes * 60 + day - now.as_secs() % day) % day;
    Some(Duration::from_secs(wait))
}

#[cfg(test)]
mod tests {
    use keepgate_sdk::testing::Host;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(&format!("2026-{text}Z")).unwrap()
    }

    fn cron(pattern: &str) -> Schedule {
        Schedule { cron: Some(pattern.to_owned()), ..Schedule::default() }
    }

    fn every(minutes: u64, begin: Option<&str>) -> Schedule {
        let begin = begin.map(str::to_owned);
        Schedule { frequency_minutes: Some(minutes), begin, ..Schedule::default() }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn patterns_are_in_utc() {
        let _host = Host::new();
        let now = at("01-30T12:00:00");
        for (pattern, next) in [
            ("30 2 * * *", "01-31T02:30:00"),
            ("@daily", "01-31T00:00:00"),
            ("@hourly", "01-30T13:00:00"),
            ("@weekly", "02-01T00:00:00"),
            (" 0 22 * * 1-5 ", "01-30T22:00:00"),
            ("0 0 31 * *", "01-31T00:00:00"),
            ("0 12 * * *", "01-31T12:00:00"),
            ("@every 1h30m", "01-30T13:30:00"),
        ] {
            let plan = Plan::of(&cron(pattern)).unwrap();
            assert_eq!(plan.first(&cron(pattern), now), Some(at(next)), "{pattern}");
        }
    }

    #[test]
    fn what_never_comes_or_cannot_be_read_is_named() {
        let _host = Host::new();
        for (schedule, said) in [
            (cron("0 0 30 2 *"), "\"0 0 30 2 *\" never comes true"),
            (cron("0 0 * * * *"), "cannot be read"),
            (cron("60 * * * *"), "cannot be read"),
            (cron("@reboot"), "cannot be read"),
            (cron("CRON_TZ=Europe/Berlin 0 0 * * *"), "cannot be read"),
            (cron("@every 1s"), "is not from a minute"),
            (cron("@every x"), "is not a duration"),
            (every(0, None), "frequency: 0 is not"),
            (every(u64::MAX, None), "is not from a minute"),
            (every(60, Some("25:00")), "begin: \"25:00\""),
            (every(60, Some("2460")), "begin:"),
            (every(60, Some("+-1")), "begin:"),
            (cron(&" ".repeat(300)), "cron: at most 256 bytes"),
        ] {
            let error = Plan::of(&schedule).unwrap_err();
            assert!(error.contains(said), "{schedule:?}: {error}");
        }
    }

    #[test]
    fn the_first_run_of_an_interval_is_given_its_delay() {
        let _host = Host::new();
        let now = at("01-30T12:00:00");
        for (begin, first) in [
            (None, "01-30T13:00:00"),
            (Some("+0"), "01-30T13:00:00"),
            (Some("+90"), "01-30T14:30:00"),
            (Some("2330"), "01-31T00:30:00"),
            (Some("1130"), "01-31T12:30:00"),
        ] {
            let schedule = every(60, begin);
            let plan = Plan::of(&schedule).unwrap();
            assert_eq!(plan.first(&schedule, now), Some(at(first)), "{begin:?}");
        }
        let plan = Plan::of(&Schedule::default()).unwrap();
        assert_eq!(plan.after(now), Some(at("01-31T12:00:00")));
        let once = Schedule { once: true, ..cron("@daily") };
        assert_eq!(Plan::of(&once).unwrap().first(&once, now), None);
    }

    #[test]
    fn a_run_that_began_in_time_or_late_fulfils_what_was_expected() {
        let _host = Host::new();
        let daily = Plan::of(&cron("0 3 * * *")).unwrap();
        let expected = at("01-30T03:00:00");
        let missed = |times| Some(Missed { expected, times });
        for (newest, now, next, what) in [
            // Not late yet.
            (None, "01-30T03:59:00", "01-30T03:00:00", None),
            (Some("01-29T03:00:00"), "01-30T04:00:00", "01-31T03:00:00", missed(1)),
            (None, "01-30T04:00:00", "01-31T03:00:00", missed(1)),
            // A week off.
            (None, "02-06T12:00:00", "02-07T03:00:00", missed(8)),
            (Some("01-30T03:00:00"), "01-30T04:00:00", "01-31T03:00:00", None),
            (Some("01-30T02:59:58"), "01-30T04:00:00", "01-31T03:00:00", None),
            (Some("01-30T03:50:00"), "01-30T04:00:00", "01-31T03:00:00", None),
            // The client's clock is wrong by years: the run counts once.
            (Some("12-31T00:00:00"), "01-30T04:00:00", "01-31T03:00:00", None),
        ] {
            let told = daily.settle(expected, newest.map(at), at(now), HOUR);
            assert_eq!(told, (Some(at(next)), what), "{newest:?} {now}");
        }
    }

    #[test]
    fn an_interval_begins_anew_with_each_run() {
        let _host = Host::new();
        let plan = Plan::of(&every(60, None)).unwrap();
        let expected = at("01-30T03:00:00");
        let settle =
            |newest: &str, now: &str| plan.settle(expected, Some(at(newest)), at(now), HOUR);
        assert_eq!(settle("01-30T02:30:00", "01-30T04:10:00"), (Some(at("01-30T03:30:00")), None));
        let missed = Missed { expected: at("01-30T03:30:00"), times: 3 };
        assert_eq!(
            settle("01-30T02:30:00", "01-30T06:40:00"),
            (Some(at("01-30T06:30:00")), Some(missed))
        );
    }

    #[test]
    fn counting_ends_somewhere() {
        let _host = Host::new();
        let plan = Plan::of(&cron("* * * * *")).unwrap();
        let (next, missed) = plan.settle(at("01-01T00:00:00"), None, at("01-30T01:00:00"), HOUR);
        assert_eq!(next, Some(at("01-30T00:01:00")));
        assert_eq!(missed.map(|missed| missed.times), Some(MOST_COUNTED));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused(pattern in ".{0,24}", begin in ".{0,6}") {
            let _host = Host::new();
            let schedule = Schedule { begin: Some(begin), ..cron(&pattern) };
            if let Ok(plan) = Plan::of(&schedule) {
                let first = plan.first(&schedule, at("01-30T12:00:00"));
                prop_assert!(first.is_none_or(|first| first > at("01-30T12:00:00")));
            }
        }
    }
}
