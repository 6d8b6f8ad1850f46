//! Names of backups: `snapshot-YYYYMMDD_HHMMSS.tar.gz`, in UTC. They are what tells a backup from
//! other files, and how old it is; whatever has another form belongs to somebody else.

use std::fmt;

use time::{Date, Month, Time, UtcDateTime};

use crate::settings::Format;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The largest number that a name ends with: backups within one second.
const MOST: u8 = 99;

/// The name of a backup. Names sort by time, then by their number within the second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    text: String,
    at: UtcDateTime,
    /// Within the second, from 1.
    number: u8,
}

impl Name {
    /// None where a text is no name of a backup, be it that there is no such day.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("snapshot-")?;
        let rest = Format::ALL.iter().find_map(|format| rest.strip_suffix(format.extension()))?;
        let (date, rest) = rest.split_once('_')?;
        let (time, number) = rest.split_once('_').map_or((rest, "01"), |(time, nth)| (time, nth));
        let ([year, month, day], [hour, minute, second]) =
            (digits(date, [4, 2, 2])?, digits(time, [2, 2, 2])?);
        let [number] = digits(number, [2])?;
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let date = Date::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()?;
        let small = |number: u16| u8::try_from(number).ok();
        let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
        let at = UtcDateTime::new(date, time);
        Some(Self { text: text.to_owned(), at, number: small(number)? })
    }

    /// The name for a backup begun at a time, in nanoseconds since the Unix epoch: behind all that
    /// are there of that second. One that has gone is not used again, since the order of names is
    /// the order of time, by which backups are rotated, and since somebody may have been told of it.
    ///
    /// None where this second and the next are full.
    pub(crate) fn next<'a>(
        begun: u64,
        format: Format,
        there: &(impl Iterator<Item = &'a Self> + Clone),
    ) -> Option<Self> {
        [begun, begun.saturating_add(SECOND)].into_iter().find_map(|begun| {
            let at = second(begun);
            let numbers = there.clone().filter(|name| name.at == at).map(|name| name.number);
            let number = numbers.max().unwrap_or(0) + 1;
            (number <= MOST).then(|| Self::new(at, number, format))
        })
    }

    fn new(at: UtcDateTime, number: u8, format: Format) -> Self {
        let (stamp, extension) = (Stamp(at), format.extension());
        let text = match number {
            1 => format!("{stamp}{extension}"),
            _ => format!("{stamp}_{number:02}{extension}"),
        };
        Self { text, at, number }
    }

    /// The file's name.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Without what tells the format.
    pub(crate) fn stem(&self) -> &str {
        self.text.split('.').next().unwrap_or_default()
    }

    /// When it was begun, to the second.
    pub(crate) fn at(&self) -> UtcDateTime {
        self.at
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What all names within a second begin with.
struct Stamp(UtcDateTime);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        let (hour, minute, second) = self.0.as_hms();
        let month = u8::from(month);
        write!(f, "snapshot-{year:04}{month:02}{day:02}_{hour:02}{minute:02}{second:02}")
    }
}

/// A time of the host, in nanoseconds since the Unix epoch. Ends with the year 9999, as names do.
pub(crate) fn moment(nanoseconds: u64) -> UtcDateTime {
    UtcDateTime::from_unix_timestamp_nanos(nanoseconds.into()).unwrap_or(UtcDateTime::MAX)
}

/// The second that a time is in: a name made is equal to the same name read.
fn second(nanoseconds: u64) -> UtcDateTime {
    moment(nanoseconds - nanoseconds % SECOND)
}

/// As in `2026-01-31T23:59:59.000Z`.
pub(crate) fn rfc3339(nanoseconds: u64) -> String {
    let at = moment(nanoseconds);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, milli) = at.as_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Numbers of so many digits each, and nothing else.
fn digits<const N: usize>(text: &str, widths: [usize; N]) -> Option<[u16; N]> {
    if text.len() != widths.iter().sum::<usize>() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut rest = text;
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let (first, after) = rest.split_at_checked(width)?;
        (*number, rest) = (first.parse().ok()?, after);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_one_form() {
        for good in [
            "snapshot-20181220_024105.tar.gz",
            "snapshot-20181220_024105.db.gz",
            "snapshot-20181220_024105_02.tar.gz",
            "snapshot-20240229_235959_99.db.gz",
        ] {
            let name = Name::parse(good).unwrap();
            assert_eq!(name.as_str(), good);
            assert!(good.starts_with(name.stem()) && !name.stem().contains('.'));
        }
        for bad in [
            "",
            "snapshot-20181220_024105.tar.gz.part",
            "snapshot-20181220_024105.tar",
            "snapshot-20181220_024105.gz",
            "snapshot-20181220-024105.tar.gz",
            "snapshot-20181220_024105_2.tar.gz",
            "snapshot-20181220_024105_002.tar.gz",
            "snapshot-20181220_024105_.tar.gz",
            "snapshot-20181220_024105_02_03.tar.gz",
            "snapshot-20181320_024105.tar.gz",
            "snapshot-20230229_024105.tar.gz",
            "snapshot-20181220_244105.tar.gz",
            "snapshot-2018122_0024105.tar.gz",
            "snapshot-+0181220_024105.tar.gz",
            "snapshot-２0181220_024105.tar.gz",
            "../snapshot-20181220_024105.tar.gz",
            "Snapshot-20181220_024105.tar.gz",
            "jobs",
            "index",
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_of_one_second_are_in_order() {
        let now = 1_545_273_665_999_999_999;
        let mut names = Vec::<Name>::new();
        for _ in 0..200 {
            names.extend(Name::next(now, Format::TarGz, &names.iter()));
        }
        assert_eq!(names[0].as_str(), "snapshot-20181220_024105.tar.gz");
        assert_eq!(names[1].as_str(), "snapshot-20181220_024105_02.tar.gz");
        assert_eq!(names[98].as_str(), "snapshot-20181220_024105_99.tar.gz");
        assert_eq!(names[99].as_str(), "snapshot-20181220_024106.tar.gz");
        assert!(names.is_sorted() && names.len() == 198);
        assert_eq!(rfc3339(now), "2018-12-20T02:41:05.999Z");
    }

    #[test]
    fn formats_share_their_numbers() {
        let now = 1_545_273_665_000_000_000;
        let there = ["snapshot-20181220_024105.db.gz", "snapshot-20181220_024105_03.tar.gz"];
        let there: Vec<_> = there.into_iter().filter_map(Name::parse).collect();
        let next = Name::next(now, Format::DbGz, &there.iter()).unwrap();
        assert_eq!(next.as_str(), "snapshot-20181220_024105_04.db.gz");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_made_is_read(now in 0..8_000_000_000_000_000_000_u64, number in 1..=MOST) {
            let made = Name::new(second(now), number, Format::DbGz);
            let read = Name::parse(made.as_str()).unwrap();
            prop_assert_eq!(read.at().unix_timestamp(), i64::try_from(now / SECOND).unwrap());
            prop_assert_eq!(made, read);
        }

        /// Whatever is removed meanwhile, as long as the newest stays.
        #[test]
        fn each_name_sorts_behind_all_before(
            steps in proptest::collection::vec((0..SECOND * 2, any::<u8>(), any::<bool>()), 1..200),
        ) {
            let (mut now, mut there, mut last) = (SECOND, Vec::<Name>::new(), None);
            for (step, removed, archive) in steps {
                now += step / if step % 3 == 0 { 1 } else { 1000 };
                let format = if archive { Format::TarGz } else { Format::DbGz };
                let name = Name::next(now, format, &there.iter()).unwrap();
                prop_assert!(last.as_ref() < Some(&name), "{last:?} {name}");
                if !there.is_empty() {
                    there.remove(usize::from(removed) % there.len());
                }
                there.push(name.clone());
                last = Some(name);
            }
        }

        #[test]
        fn no_text_breaks_it(text in "(snapshot-)?.{0,20}(\\.tar\\.gz)?") {
            let _ = Name::parse(&text);
        }
    }
}
