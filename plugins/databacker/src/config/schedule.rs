//! When a configuration lets its instance dump, as its client understands it. Patterns are in UTC, in which clients run
//! unless their machine is set to another zone.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use keepgate_sdk::Timestamp;
use serde_json::Value;

/// How often a client dumps that is not told, in minutes.
const FREQUENCY: u64 = 1440;

/// When an instance dumps.
#[derive(Clone, Debug)]
pub(crate) enum Schedule {
    /// At the times of a pattern.
    Cron(Box<Cron>),
    /// Again and again, beginning when the client starts, or at a time of the day.
    Every { frequency: Duration, begin: Option<Begin> },
    /// When its client starts, which then ends.
    Once,
}

/// When a client dumps for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// So long after the client starts: what the API says of `begin`, which is in minutes.
    After(Duration),
    /// So long after midnight, UTC: what clients make of a number of four digits.
    At(Duration),
}

impl Schedule {
    /// The next time after this one, the time of the last run, or none if there is none.
    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => next(cron, time),
            Self::Every { frequency, .. } => Some(time.saturating_add(*frequency)),
            Self::Once => None,
        }
    }
}

/// When a document lets its instance dump. `None` if it does not say, which an encrypted one or one that is elsewhere never
/// does.
pub(crate) fn schedule(document: &Value) -> Option<Schedule> {
    if document.get("kind")? != "local" {
        return None;
    }
    let schedule = document.pointer("/spec/dump/schedule")?;
    let number = |name: &str| schedule.get(name).and_then(Value::as_u64);
    if schedule.get("once").and_then(Value::as_bool) == Some(true) {
        return Some(Schedule::Once);
    }
    if let Some(pattern) = schedule.get("cron").and_then(Value::as_str) {
        return Some(Schedule::Cron(Box::new(cron(pattern).ok()?)));
    }
    let (frequency, begin) = (number("frequency"), number("begin"));
    if frequency.is_none() && begin.is_none() {
        return None;
    }
    let frequency = minutes(frequency.unwrap_or(FREQUENCY));
    Some(Schedule::Every { frequency, begin: begin.map(begin_of) })
}

fn begin_of(number: u64) -> Begin {
    match (number / 100, number % 100) {
        (hour @ 10..24, minute @ 0..60) => Begin::At(minutes(hour * 60 + minute)),
        _ => Begin::After(minutes(number)),
    }
}

fn minutes(number: u64) -> Duration {
    Duration::from_secs(number.saturating_mul(60))
}

/// Reads a pattern. Refused is what clients do not understand, although others do. The error says what to write.
pub(super) fn cron(pattern: &str) -> Result<Cron, String> {
    const NICKNAMES: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    let what = "write five fields, as in \"0 3 * * *\": minute, hour, day of the month, month, day of the week, in UTC";
    let fields: Vec<&str> = pattern.split_ascii_whitespace().take(6).collect();
    let read = match fields.as_slice() {
        [nickname] if NICKNAMES.contains(nickname) => Some((*nickname).to_owned()),
        [minute, hour, day, month, weekday] => [
            field(minute, 0, 59, &[]),
            field(hour, 0, 23, &[]),
            field(day, 1, 31, &[]),
            field(month, 1, 12, &MONTHS),
            field(weekday, 0, 6, &DAYS),
        ]
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(|fields| fields.join(" ")),
        _ => None,
    };
    let read = read.filter(|_| pattern.len() <= LONGEST_PATTERN).ok_or(what)?;
    let cron = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(&read)
        .map_err(|error| format!("{what} ({error})"))?;
    match next(&cron, Timestamp::now()) {
        Some(_) => Ok(cron),
        None => Err(format!("{what}; this one never comes true")),
    }
}

/// The longest pattern, in bytes.
const LONGEST_PATTERN: usize = 256;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field as clients understand it, in numbers: a list of values, ranges and `*` or `?`, each with a step if need be. A
/// value with a step is the beginning of a range. `None` if they do not understand it.
fn field(text: &str, least: u8, most: u8, names: &[&str]) -> Option<String> {
    let value = |text: &str| {
        let name = names.iter().zip(least..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = || number(text).filter(|number| (least..=most).contains(number));
        name.map(|(_, number)| number).or_else(number)
    };
    let piece = |piece: &str| {
        let (span, step) = match piece.split_once('/') {
            Some((span, step)) => (span, Some(number(step).filter(|step| *step > 0)?)),
            None => (piece, None),
        };
        let (from, to) = match span.split_once('-') {
            Some((from, to)) => (value(from)?, value(to)?),
            None if matches!(span, "*" | "?") => {
                return Some(step.map_or("*".to_owned(), |step| format!("*/{step}")));
            }
            None if step.is_some() => (value(span)?, most),
            None => return value(span).map(|value| value.to_string()),
        };
        let step = step.map(|step| format!("/{step}")).unwrap_or_default();
        (from <= to).then(|| format!("{from}-{to}{step}"))
    };
    let pieces: Option<Vec<String>> = text.split(',').map(piece).collect();
    Some(pieces?.join(","))
}

fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The first time of a pattern after this one, in UTC; none if there is none in the foreseeable future.
fn next(cron: &Cron, time: Timestamp) -> Option<Timestamp> {
    let time = jiff::Timestamp::from_nanosecond(time.0.into()).ok()?;
    let next = cron.find_next_occurrence(&time.to_zoned(jiff::tz::TimeZone::UTC), false).ok()?;
    u64::try_from(next.timestamp().as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(schedule: Value) -> Option<Schedule> {
        let _host = keepgate_sdk::testing::Host::new();
        super::schedule(&json!({"kind": "local", "spec": {"dump": {"schedule": schedule}}}))
    }

    #[test]
    fn a_schedule_is_what_clients_make_of_it() {
        let every = |schedule| match of(schedule) {
            Some(Schedule::Every { frequency, begin }) => (frequency.as_secs() / 60, begin),
            other => panic!("{other:?}"),
        };
        assert_eq!(every(json!({"frequency": 60})), (60, None));
        let begin = Begin::At(minutes(23 * 60 + 30));
        assert_eq!(every(json!({"begin": 2330})), (1440, Some(begin)));
        assert_eq!(every(json!({"begin": 90})), (1440, Some(Begin::After(minutes(90)))));
        assert!(matches!(of(json!({"once": true})), Some(Schedule::Once)));
        assert!(of(json!({"once": false})).is_none() && of(json!({})).is_none());
        assert!(schedule(&json!({"kind": "remote", "spec": {}})).is_none());
        let cron = of(json!({"cron": "30 2 * * *", "once": false})).unwrap();
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        let next = cron.next_after(at("2026-01-31T02:30:00Z")).unwrap();
        assert_eq!(next, at("2026-02-01T02:30:00Z"));
    }

    #[test]
    fn a_step_of_a_value_goes_to_the_end() {
        let _host = keepgate_sdk::testing::Host::new();
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        let cron = cron("40/10 5 * * ?").unwrap();
        let times =
            std::iter::successors(Some(at("2026-01-31T05:41:00Z")), |time| next(&cron, *time));
        let expected = ["2026-01-31T05:50:00.000Z", "2026-02-01T05:40:00.000Z"];
        assert_eq!(
            times.skip(1).take(2).map(|time| time.to_string()).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn patterns_are_those_that_clients_read() {
        let _host = keepgate_sdk::testing::Host::new();
        for right in
            ["0 3 * * *", "*/5 0-6,12 1 JAN,jul mon-fri", "@daily", "0  0 29 2 *", "5/10 * * * 0"]
        {
            assert!(cron(right).is_ok(), "{right}: {:?}", cron(right));
        }
        for wrong in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "* * L * *",
            "* * * * 5#2",
            "* * 15W * *",
            "@reboot",
            "@every 5m",
            "TZ=UTC 0 3 * * *",
            "0 0 30 2 *",
            "*/0 * * * *",
            "a * * * *",
            "+5 * * * *",
            "1- * * * *",
            "5-1 * * * *",
            "* * * * fri-mon",
            "*/ * * * *",
            ", * * * *",
            "1-2-3 * * * *",
            "*-5 * * * *",
            "* * * * MON#1",
        ] {
            assert!(cron(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_a_pattern_or_refused(text in "[-0-9*/,?LW#@a-z ]{0,20}|.{0,20}") {
            let _host = keepgate_sdk::testing::Host::new();
            let _ = cron(&text);
        }
    }
}
