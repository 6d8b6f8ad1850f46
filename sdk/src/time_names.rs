//! Names of blobs that contain the time at which they were made: `snapshot-20260131_235958_02.tar.gz`. A
//! surface declares the form once, as [`TimeNames`]. Its names are unique, tell their age, and sort by time.

use std::fmt;

use crate::Timestamp;
use crate::retention::Dated;
use crate::timestamp::digits;

/// A form of names: a stamp, a number for what is made within the same second, and what the name ends with.
///
/// ```
/// use keepgate_sdk::{TimeNames, Timestamp};
///
/// const NAMES: TimeNames =
///     TimeNames::new("backup_%Y-%m-%d-%H-%M%S").numbered("-", 1, 9).suffixes(&[".tar.gz", ""]);
///
/// let name = NAMES.parse("backup_2022-02-16-04-1040-2.tar.gz").unwrap();
/// assert_eq!((name.time().to_string().as_str(), name.number()), ("2022-02-16T04:10:40.000Z", 2));
/// assert!(NAMES.parse("backup_2022-02-30-04-1040").is_none(), "there is no such day");
///
/// let next = NAMES.next(name.time(), ".tar.gz", [&name]).unwrap();
/// assert_eq!(next.as_str(), "backup_2022-02-16-04-1040-3.tar.gz");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeNames {
    pattern: &'static str,
    separator: &'static str,
    width: usize,
    most: u16,
    suffixes: &'static [&'static str],
}

/// A name with a time. Names are ordered by time, then by their number within the second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeName {
    time: Timestamp,
    number: u16,
    text: String,
    /// The length of the suffix in bytes.
    suffix: usize,
}

impl TimeNames {
    /// A form whose stamp consists of texts and `%Y`, `%m`, `%d`, `%H`, `%M`, `%S`: year, month, day, hour,
    /// minute and second, in UTC and of fixed width. It has one name for each second, and no suffix.
    pub const fn new(pattern: &'static str) -> Self {
        Self { pattern, separator: "", width: 1, most: 1, suffixes: &[""] }
    }

    /// Adds numbers: the second name within a second ends with `separator` and `2`, padded with zeros to
    /// `width` digits. `most` is the largest number.
    #[must_use]
    pub const fn numbered(self, separator: &'static str, width: usize, most: u16) -> Self {
        Self { separator, width, most, ..self }
    }

    /// Adds suffixes for the formats of the blob, such as `.tar.gz`. All of them share the numbers within a
    /// second.
    #[must_use]
    pub const fn suffixes(self, suffixes: &'static [&'static str]) -> Self {
        Self { suffixes, ..self }
    }

    /// Parses a name. Returns `None` if it does not have exactly this form, or if the day does not exist. A
    /// time before 1970 or after 2554 becomes the nearest that a [`Timestamp`] can represent.
    pub fn parse(&self, text: &str) -> Option<TimeName> {
        self.suffixes.iter().find_map(|suffix| {
            let (time, number) = self.parse_stem(text.strip_suffix(suffix)?)?;
            Some(TimeName { time, number, text: text.to_owned(), suffix: suffix.len() })
        })
    }

    /// A name for something made now, after all names of this second in `there`. Returns `None` if all
    /// numbers of this second and the next are taken, or if the form does not have the suffix.
    ///
    /// A number whose blob is gone is not used again while a higher one exists, so that names stay in the
    /// order of time.
    pub fn next<'a>(
        &self,
        now: Timestamp,
        suffix: &str,
        there: impl IntoIterator<Item = &'a TimeName>,
    ) -> Option<TimeName> {
        let suffix = self.suffixes.iter().find(|known| **known == suffix)?;
        let this = now.to_second();
        let following = this.saturating_add(std::time::Duration::from_secs(1));
        let mut taken = [(this, 0), (following, 0)];
        for name in there {
            for (second, number) in &mut taken {
                if name.time == *second {
                    *number = name.number.max(*number);
                }
            }
        }
        let (time, number) = taken.into_iter().find(|(_, number)| *number < self.most)?;
        Some(self.name(time, number + 1, suffix))
    }

    fn name(&self, time: Timestamp, number: u16, suffix: &str) -> TimeName {
        let mut text = self.stamp(time);
        if number != 1 {
            text += &format!("{}{number:0width$}", self.separator, width = self.width);
        }
        text += suffix;
        TimeName { time, number, text, suffix: suffix.len() }
    }

    fn stamp(&self, time: Timestamp) -> String {
        let at = time.calendar();
        let mut text = String::new();
        let mut symbols = self.pattern.chars();
        while let Some(symbol) = symbols.next() {
            let field = if symbol == '%' { symbols.next() } else { None };
            text += &match field {
                Some('Y') => format!("{:04}", at.year()),
                Some('m') => format!("{:02}", u8::from(at.month())),
                Some('d') => format!("{:02}", at.day()),
                Some('H') => format!("{:02}", at.hour()),
                Some('M') => format!("{:02}", at.minute()),
                Some('S') => format!("{:02}", at.second()),
                Some(other) => other.to_string(),
                None => symbol.to_string(),
            };
        }
        text
    }

    fn parse_stem(&self, stem: &str) -> Option<(Timestamp, u16)> {
        let mut rest = stem;
        let [mut year, mut month, mut day, mut hour, mut minute, mut second] = [0; 6];
        let mut symbols = self.pattern.chars();
        while let Some(symbol) = symbols.next() {
            let field = if symbol == '%' { symbols.next() } else { None };
            let (number, width) = match field {
                Some('Y') => (&mut year, 4),
                Some('m') => (&mut month, 2),
                Some('d') => (&mut day, 2),
                Some('H') => (&mut hour, 2),
                Some('M') => (&mut minute, 2),
                Some('S') => (&mut second, 2),
                literal => {
                    rest = rest.strip_prefix(literal.unwrap_or(symbol))?;
                    continue;
                }
            };
            (*number, rest) = digits(rest, width)?;
        }
        let time = Timestamp::utc_saturating([year, month, day], [hour, minute, second])?;
        if rest.is_empty() {
            return Some((time, 1));
        }
        let digits = rest.strip_prefix(self.separator)?;
        let number = digits.parse().ok().filter(|number| *number <= self.most)?;
        (format!("{number:0width$}", width = self.width) == digits).then_some((time, number))
    }
}

impl TimeName {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name without its suffix.
    pub fn stem(&self) -> &str {
        let end = self.text.len().saturating_sub(self.suffix);
        self.text.get(..end).unwrap_or_default()
    }

    /// The time, in whole seconds.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Its number within the second, from 1.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Dated for TimeName {
    fn time(&self) -> Timestamp {
        self.time
    }
}

impl fmt::Display for TimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NAMES: TimeNames = TimeNames::new("snapshot-%Y%m%d_%H%M%S")
        .numbered("_", 2, 99)
        .suffixes(&[".tar.gz", ".db.gz"]);

    #[test]
    fn names_from_before_1970_and_after_2554_are_names_too() {
        let [old, recent, future, later] = ["19691231", "20260101", "29990101", "30000101"]
            .map(|day| NAMES.parse(&format!("snapshot-{day}_000000.tar.gz")).unwrap());
        assert!(old < recent && recent < future && future < later);
    }

    #[test]
    fn names_have_one_form() {
        for good in [
            "snapshot-20181220_024105.tar.gz",
            "snapshot-20181220_024105.db.gz",
            "snapshot-20181220_024105_02.tar.gz",
            "snapshot-20240229_235959_99.db.gz",
        ] {
            let name = NAMES.parse(good).unwrap();
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
            "snapshot-20181220_024105_100.tar.gz",
            "snapshot-20181220_024105_+2.tar.gz",
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
            assert!(NAMES.parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_of_one_second_are_in_order() {
        let now = Timestamp(1_545_273_665_999_999_999);
        let mut names = Vec::<TimeName>::new();
        for _ in 0..200 {
            names.extend(NAMES.next(now, ".tar.gz", &names));
        }
        assert_eq!(names[0].as_str(), "snapshot-20181220_024105.tar.gz");
        assert_eq!(names[1].as_str(), "snapshot-20181220_024105_02.tar.gz");
        assert_eq!(names[98].as_str(), "snapshot-20181220_024105_99.tar.gz");
        assert_eq!(names[99].as_str(), "snapshot-20181220_024106.tar.gz");
        assert!(names.is_sorted() && names.len() == 198);
        assert!(NAMES.next(now, ".zip", []).is_none());
    }

    #[test]
    fn suffixes_share_their_numbers() {
        let now = Timestamp(1_545_273_665_000_000_000);
        let there = ["snapshot-20181220_024105.db.gz", "snapshot-20181220_024105_03.tar.gz"];
        let there: Vec<_> = there.into_iter().filter_map(|name| NAMES.parse(name)).collect();
        let next = NAMES.next(now, ".db.gz", &there).unwrap();
        assert_eq!(next.as_str(), "snapshot-20181220_024105_04.db.gz");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_made_is_read(now in 0..8_000_000_000_000_000_000_u64, number in 1..=99_u16) {
            let made = NAMES.name(Timestamp(now).to_second(), number, ".db.gz");
            let read = NAMES.parse(made.as_str()).unwrap();
            prop_assert_eq!(read.time().as_secs(), now / SECOND);
            prop_assert_eq!(made, read);
        }

        /// Whatever is removed in the meantime, as long as the newest stays. Texts sort as names do.
        #[test]
        fn each_name_sorts_behind_all_before(
            steps in proptest::collection::vec((0..SECOND * 2, any::<u8>(), any::<bool>()), 1..200),
        ) {
            let (mut now, mut there, mut last) = (SECOND, Vec::<TimeName>::new(), None);
            for (step, removed, archive) in steps {
                now += step / if step % 3 == 0 { 1 } else { 1000 };
                let suffix = if archive { ".tar.gz" } else { ".db.gz" };
                let name = NAMES.next(Timestamp(now), suffix, &there).unwrap();
                prop_assert!(last.as_ref() < Some(&name), "{last:?} {name}");
                prop_assert!(last.as_ref().is_none_or(|last| last.as_str() < name.as_str()));
                if !there.is_empty() {
                    there.remove(usize::from(removed) % there.len());
                }
                there.push(name.clone());
                last = Some(name);
            }
        }

        #[test]
        fn no_text_breaks_it(text in "(snapshot-)?.{0,20}(\\.tar\\.gz)?") {
            let _ = NAMES.parse(&text);
        }
    }
}
