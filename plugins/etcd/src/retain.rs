//! Which backups stay. A pure function of names and policy: nothing here reads or removes.

use std::time::Duration;

use time::{Date, UtcDateTime};

use crate::name::Name;

/// A backup stays where one of these rules keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// So many, the newest.
    pub(crate) last: u32,
    /// All that are not older.
    pub(crate) within: Option<Duration>,
    /// The newest of each of so many days that have one, in UTC; likewise the others.
    pub(crate) daily: u32,
    /// ISO weeks, Monday to Sunday.
    pub(crate) weekly: u32,
    pub(crate) monthly: u32,
    pub(crate) yearly: u32,
}

/// A backup as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    pub(crate) name: Name,
    /// Stays whatever the policy says.
    pub(crate) spared: bool,
}

/// Those that no rule keeps, oldest first. `backups` are in the order of their names. One at least
/// stays, the newest.
pub(crate) fn superfluous<'a>(
    backups: &'a [Backup],
    policy: &Policy,
    now: UtcDateTime,
) -> Vec<&'a Name> {
    let since =
        policy.within.map(|within| now.saturating_sub(within.try_into().unwrap_or(LONGEST)));
    let mut last = policy.last;
    let mut periods = [
        (policy.daily, Periods::new(Date::to_julian_day)),
        (policy.weekly, Periods::new(week)),
        (policy.monthly, Periods::new(|date| date.year() * 12 + i32::from(u8::from(date.month())))),
        (policy.yearly, Periods::new(Date::year)),
    ];
    let mut gone = Vec::new();
    for (age, backup) in backups.iter().rev().enumerate() {
        let at = backup.name.at();
        let mut kept = backup.spared || age == 0;
        kept |= take_one(&mut last);
        kept |= since.is_some_and(|since| at >= since);
        for (left, periods) in &mut periods {
            // Each backup is seen by each rule, whatever the others say of it.
            kept |= periods.begins(at.date()) && take_one(left);
        }
        if !kept {
            gone.push(&backup.name);
        }
    }
    gone.reverse();
    gone
}

const LONGEST: time::Duration = time::Duration::MAX;

fn take_one(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// Years times 100, and ISO's number of the week.
fn week(date: Date) -> i32 {
    let (year, week, _) = date.to_iso_week_date();
    year * 100 + i32::from(week)
}

/// Tells where a new day, week, month or year begins, going backwards.
struct Periods {
    number: fn(Date) -> i32,
    current: Option<i32>,
}

impl Periods {
    fn new(number: fn(Date) -> i32) -> Self {
        Self { number, current: None }
    }

    fn begins(&mut self, date: Date) -> bool {
        let number = Some((self.number)(date));
        std::mem::replace(&mut self.current, number) != number
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(stamp: &str) -> Backup {
        let name = Name::parse(&format!("snapshot-{stamp}.tar.gz")).unwrap();
        Backup { name, spared: false }
    }

    /// What stays, as its time.
    fn kept(stamps: &[&str], policy: &Policy, now: &str) -> Vec<String> {
        let backups: Vec<_> = stamps.iter().map(|stamp| backup(stamp)).collect();
        let gone = superfluous(&backups, policy, backup(now).name.at());
        let kept = backups.iter().filter(|backup| !gone.contains(&&backup.name));
        kept.map(|backup| backup.name.stem().replace("snapshot-", "")).collect()
    }

    const NOW: &str = "20260301_120000";

    #[test]
    fn the_newest_stay() {
        let all = ["20260101_000000", "20260101_000000_02", "20260102_000000", "20260103_000000"];
        let last = |last| kept(&all, &Policy { last, ..Policy::default() }, NOW);
        assert_eq!(last(1), all[3..]);
        assert_eq!(last(3), all[1..]);
        assert_eq!(last(4), all);
        assert_eq!(last(u32::MAX), all);
        assert!(kept(&[], &Policy { last: 1, ..Policy::default() }, NOW).is_empty());
    }

    #[test]
    fn days_weeks_months_and_years_keep_their_newest() {
        let all = [
            "20241231_230000", // Tuesday of ISO week 2025-W01
            "20250102_000000", // the same week, the next year
            "20250105_235959", // its Sunday
            "20250106_000000", // Monday: W02
            "20250106_120000",
            "20250201_120000",
            "20260228_120000", // Saturday
            "20260301_110000", // Sunday
        ];
        let none = Policy::default();
        let two_days = kept(&all, &Policy { daily: 2, ..none.clone() }, NOW);
        assert_eq!(two_days, ["20260228_120000", "20260301_110000"]);
        let weeks = kept(&all, &Policy { weekly: 4, ..none.clone() }, NOW);
        let expected = ["20250105_235959", "20250106_120000", "20250201_120000", "20260301_110000"];
        assert_eq!(weeks, expected);
        let months = kept(&all, &Policy { monthly: 3, ..none.clone() }, NOW);
        assert_eq!(months, ["20250201_120000", "20260228_120000", "20260301_110000"]);
        let years = kept(&all, &Policy { yearly: 9, ..none }, NOW);
        assert_eq!(years, ["20241231_230000", "20250201_120000", "20260301_110000"]);
    }

    #[test]
    fn rules_add_up() {
        let all = ["20260101_000000", "20260215_000000", "20260301_000000", "20260301_110000"];
        let policy = Policy { last: 1, monthly: 2, ..Policy::default() };
        assert_eq!(kept(&all, &policy, NOW), ["20260215_000000", "20260301_110000"]);
    }

    #[test]
    fn what_is_young_stays() {
        let all = ["20260227_115959", "20260227_120000", "20260301_110000", "20300101_000000"];
        let within = Some(Duration::from_secs(2 * 86_400));
        let policy = Policy { within, ..Policy::default() };
        assert_eq!(kept(&all, &policy, NOW), all[1..], "what is in the future is young");
        let within = Some(Duration::MAX);
        assert_eq!(kept(&all, &Policy { within, ..Policy::default() }, NOW), all);
    }

    #[test]
    fn the_newest_and_what_is_spared_stay() {
        let mut backups = ["20200101_000000", "20210101_000000", "20220101_000000"].map(backup);
        backups[0].spared = true;
        let policy = Policy { within: Some(Duration::from_secs(1)), ..Policy::default() };
        let gone = superfluous(&backups, &policy, backup(NOW).name.at());
        assert_eq!(gone, [&backups[1].name]);
    }
}
