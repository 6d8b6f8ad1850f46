//! Patterns of times as the clients of databacker read them, in UTC, in which they run unless their machine is set to
//! another zone. Refused is what they do not understand, although others do.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use keepgate_sdk::Timestamp;

const WHAT: &str = "write five fields, as in \"0 3 * * *\": minute, hour, day of the month, month, day of the week, in UTC";

/// Reads a pattern that comes true at some time. The error says what to write.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    match next(&parse(pattern)?, Timestamp::now()) {
        Some(_) => Ok(()),
        None => Err(format!("{WHAT}; this one never comes true")),
    }
}

/// Reads a pattern, which may never come true.
pub(super) fn parse(pattern: &str) -> Result<Cron, String> {
    const NICKNAMES: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
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
    let read = read.filter(|_| pattern.len() <= LONGEST).ok_or(WHAT)?;
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(&read)
        .map_err(|error| format!("{WHAT} ({error})"))
}

/// The longest pattern, in bytes.
const LONGEST: usize = 256;
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
pub(super) fn next(cron: &Cron, time: Timestamp) -> Option<Timestamp> {
    let time = jiff::Timestamp::from_nanosecond(time.0.into()).ok()?;
    let next = cron.find_next_occurrence(&time.to_zoned(jiff::tz::TimeZone::UTC), false).ok()?;
    u64::try_from(next.timestamp().as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_a_value_goes_to_the_end() {
        let _host = keepgate_sdk::testing::Host::new();
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        let cron = parse("40/10 5 * * ?").unwrap();
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
            assert!(check(right).is_ok(), "{right}: {:?}", check(right));
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
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_a_pattern_or_refused(text in "[-0-9*/,?LW#@a-z ]{0,20}|.{0,20}") {
            let _host = keepgate_sdk::testing::Host::new();
            let _ = check(&text);
        }
    }
}
