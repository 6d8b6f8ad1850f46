//! Times in the contract's form, nanoseconds since the Unix epoch, and their texts. All of them are in UTC.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{Date, Month, Time, UtcDateTime};

use crate::environment;

/// A time, in nanoseconds since the Unix epoch. It is shown, and written in JSON, as RFC 3339 with
/// milliseconds; JSON in any form of RFC 3339 is read.
///
/// ```
/// use keepgate_sdk::Timestamp;
///
/// #[derive(serde::Serialize)]
/// struct Backup {
///     created: Timestamp,
/// }
///
/// let backup = Backup { created: Timestamp(1_769_903_998_250_000_000) };
/// let json = serde_json::to_string(&backup)?;
/// assert_eq!(json, r#"{"created":"2026-01-31T23:59:58.250Z"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// The nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

impl Timestamp {
    /// The host's clock. Tests set it with [`Host::set_now`](crate::testing::Host::set_now).
    pub fn now() -> Self {
        Self(environment::now())
    }

    /// Parses RFC 3339, such as `2026-01-31T23:59:58.25+01:00`. Returns `None` if the text has another form,
    /// or if the time is before 1970 or after 2554.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let end = rest.rfind(['Z', 'z', '+', '-'])?;
        let (clock, offset) = rest.split_at_checked(end)?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let [year, month, day] = numbers(date, "Y-2-2")?;
        let [hour, minute, second] = numbers(clock, "2:2:2")?;
        let [ahead, minutes] = match offset.split_at_checked(1)? {
            ("Z" | "z", "") => [0, 0],
            (_, offset) => numbers(offset, "2:2").filter(|[h, m]| *h < 24 && *m < 60)?,
        };
        if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let fraction = format!("{fraction:0<9}").get(..9)?.parse::<i128>().ok()?;
        let time = Self::utc([year, month, day], [hour, minute, second])?;
        let ahead = (i128::from(ahead) * 60 + i128::from(minutes)) * 60 * i128::from(SECOND);
        let ahead = if offset.starts_with('-') { -ahead } else { ahead };
        u64::try_from(i128::from(time.0) + fraction - ahead).ok().map(Self)
    }

    /// The time for year, month and day, and hour, minute and second. `None` if it does not exist, or if it
    /// is before 1970 or after 2554.
    pub(crate) fn utc(date: [u16; 3], time: [u16; 3]) -> Option<Self> {
        let seconds = u64::try_from(unix_seconds(date, time)?).ok()?;
        seconds.checked_mul(SECOND).map(Self)
    }

    /// Like `utc`, but a time before 1970 or after 2554 becomes the nearest whole second that can be
    /// represented.
    pub(crate) fn utc_saturating(date: [u16; 3], time: [u16; 3]) -> Option<Self> {
        let seconds = u64::try_from(unix_seconds(date, time)?).unwrap_or(0);
        Some(Self(seconds.min(u64::MAX / SECOND) * SECOND))
    }

    /// Seconds since the Unix epoch, rounded down.
    pub fn as_secs(self) -> u64 {
        self.0 / SECOND
    }

    /// The time rounded down to seconds.
    #[must_use]
    pub fn to_second(self) -> Self {
        Self(self.0 - self.0 % SECOND)
    }

    /// This time plus a duration, or the latest time if the result is later.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// This time minus a duration, or 1970 if the result is earlier.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }

    /// The time elapsed since an earlier time; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The day in the calendar, for rules by day, week, month and year.
    pub(crate) fn date(self) -> Date {
        self.calendar().date()
    }

    pub(crate) fn calendar(self) -> UtcDateTime {
        // 64 bits of nanoseconds end in the year 2554.
        UtcDateTime::from_unix_timestamp_nanos(self.0.into()).unwrap_or(UtcDateTime::MAX)
    }
}

/// Reads numbers of a fixed width from a text. In the pattern, `2` stands for two digits and `Y` for the four
/// digits of a year; every other character must match.
fn numbers<const N: usize>(text: &str, pattern: &str) -> Option<[u16; N]> {
    let (mut rest, mut numbers) = (text, [0; N]);
    let mut next = numbers.iter_mut();
    for symbol in pattern.chars() {
        let width = match symbol {
            'Y' => 4,
            '2' => 2,
            literal => {
                rest = rest.strip_prefix(literal)?;
                continue;
            }
        };
        let (number, after) = digits(rest, width)?;
        (*next.next()?, rest) = (number, after);
    }
    rest.is_empty().then_some(numbers)
}

/// A number with exactly this many digits at the start of a text, and the rest of the text.
pub(crate) fn digits(text: &str, width: usize) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(width)?;
    // `parse` would accept a sign.
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok().map(|number| (number, rest)))?
}

/// Seconds since the Unix epoch; `None` if the time does not exist.
fn unix_seconds([year, month, day]: [u16; 3], [hour, minute, second]: [u16; 3]) -> Option<i64> {
    let small = |number: u16| u8::try_from(number).ok();
    let month = Month::try_from(small(month)?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, small(day)?).ok()?;
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    Some(UtcDateTime::new(date, time).unix_timestamp())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.calendar();
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second, milli) = at.as_hms_milli();
        let month = u8::from(month);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| {
            let advice = "write it as in `2026-01-31T23:59:58Z`";
            de::Error::custom(format!("{text:?} is not a time of RFC 3339; {advice}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_shown_with_milliseconds() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_545_273_665_999_999_999, "2018-12-20T02:41:05.999Z"),
            (u64::MAX, "2554-07-21T23:34:33.709Z"),
        ] {
            assert_eq!(Timestamp(nanoseconds).to_string(), text);
        }
    }

    #[test]
    fn other_forms_of_rfc_3339_are_read() {
        let expected = Some(Timestamp(1_769_903_998_250_000_000));
        for text in
            ["2026-01-31T23:59:58.25Z", "2026-02-01t00:59:58.250+01:00", "2026-01-31T23:59:58.250z"]
        {
            assert_eq!(Timestamp::parse_rfc3339(text), expected, "{text}");
        }
        for text in ["", "2026-01-31", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "soon"] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
        let error = serde_json::from_str::<Timestamp>("\"soon\"").unwrap_err().to_string();
        assert!(error.contains("\"soon\" is not a time"), "{error}");
    }

    #[test]
    fn arithmetic_stays_within_what_there_is() {
        let second = Duration::from_secs(1);
        assert_eq!(Timestamp(5).saturating_sub(second), Timestamp(0));
        assert_eq!(Timestamp(5).saturating_add(Duration::MAX), Timestamp(u64::MAX));
        assert_eq!(Timestamp(SECOND).since(Timestamp(1)), Duration::from_nanos(999_999_999));
        assert_eq!(Timestamp(1).since(Timestamp(SECOND)), Duration::ZERO);
        assert_eq!(Timestamp(SECOND + 7).to_second(), Timestamp(SECOND));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_shown_is_read(milliseconds in 0..u64::MAX / 1_000_000) {
            let time = Timestamp(milliseconds * 1_000_000);
            prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Some(time));
        }
    }
}
