//! Which backups are kept: rules by count, age and calendar, for anything that has a time. Nothing here reads
//! a store or deletes a blob.
//!
//! A time that lies in the future was made by a clock that was wrong, so it says nothing about the item's age. Such
//! items are outside all rules: they do not expire, and they do not make others expire.

use std::time::Duration;

use serde::Deserialize;
use time::Date;

use crate::{Failure, HumanDuration, Timestamp};

/// How far ahead of the clock a time may be without being from the future: two gateways with one store, or a name for
/// the second that follows, may be a little ahead.
pub const SKEW: Duration = Duration::from_secs(300);

/// An item for retention: something that was made at a time.
pub trait Dated {
    /// When it was made.
    fn time(&self) -> Timestamp;
}

impl Dated for Timestamp {
    fn time(&self) -> Timestamp {
        *self
    }
}

/// The items that are further ahead of `now` than [`SKEW`]. [`Policy::expired`] leaves them alone. Tell people how many
/// there are, because no rule removes them before their time has come.
pub fn from_the_future<T: Dated>(items: &[T], now: Timestamp) -> Vec<&T> {
    items.iter().filter(|item| is_from_the_future(item.time(), now)).collect()
}

/// Orders items for a list whose last entry is taken for the newest: oldest first, those [from the
/// future](from_the_future) before all others, because nobody knows how old they are. Items of one time keep their order.
pub fn newest_last<T: Dated>(items: &mut [T], now: Timestamp) {
    items.sort_by_key(|item| (!is_from_the_future(item.time(), now), item.time()));
}

fn is_from_the_future(time: Timestamp, now: Timestamp) -> bool {
    time > now.saturating_add(SKEW)
}

/// A retention policy: an item stays if one of these rules keeps it.
///
/// In settings it is written by the names of its fields, `{ last = 3, within = "7d", monthly = 12 }`; at least
/// one rule must keep something.
///
/// ```
/// use std::time::Duration;
///
/// use keepgate_sdk::Timestamp;
/// use keepgate_sdk::retention::Policy;
///
/// let hours = |hours: u64| Timestamp(hours * 3_600_000_000_000);
/// let backups = [hours(1), hours(2), hours(30), hours(40)];
/// let policy = Policy { last: 1, daily: 2, ..Policy::default() };
/// assert_eq!(policy.expired(&backups, hours(41), |_| false), [&hours(1), &hours(30)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Rules")]
pub struct Policy {
    /// Keeps this many of the newest.
    pub last: u32,
    /// Keeps all that are not older than this.
    pub within: Option<Duration>,
    /// Keeps the newest of each day (UTC), for this many of the last days that have one.
    pub daily: u32,
    /// The same for ISO weeks, Monday to Sunday.
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// The same for years.
    pub yearly: u32,
}

impl Policy {
    /// A policy that keeps this many of the newest.
    pub fn last(count: u32) -> Self {
        Self { last: count, ..Self::default() }
    }

    /// The items that no rule keeps, oldest first. `items` must be ordered by time, oldest first. Those
    /// [from the future](from_the_future) are always kept, and no rule counts them. Of the others the newest one is
    /// always kept, and so is each for which `is_spared` is true.
    pub fn expired<'a, T: Dated>(
        &self,
        items: &'a [T],
        now: Timestamp,
        is_spared: impl Fn(&T) -> bool,
    ) -> Vec<&'a T> {
        let since = self.within.map(|within| now.saturating_sub(within));
        let mut last = self.last;
        let mut periods = [
            (self.daily, Periods::new(Date::to_julian_day)),
            (self.weekly, Periods::new(week)),
            (
                self.monthly,
                Periods::new(|date| date.year() * 12 + i32::from(u8::from(date.month()))),
            ),
            (self.yearly, Periods::new(Date::year)),
        ];
        let mut expired = Vec::new();
        let past = items.iter().rev().filter(|item| !is_from_the_future(item.time(), now));
        for (age, item) in past.enumerate() {
            let time = item.time();
            let mut kept = age == 0 || is_spared(item);
            kept |= take_one(&mut last);
            kept |= since.is_some_and(|since| time >= since);
            for (left, periods) in &mut periods {
                // Every rule sees every item, whatever the other rules keep.
                kept |= periods.begins(time.date()) && take_one(left);
            }
            if !kept {
                expired.push(item);
            }
        }
        expired.reverse();
        expired
    }
}

/// A removal of expired items that ended early.
#[derive(Debug)]
pub struct Unfinished<'a, T> {
    /// How many items are left, including the one that could not be removed.
    pub left: usize,
    /// The item that could not be removed.
    pub item: &'a T,
    /// Why it could not be removed.
    pub failure: Failure,
}

/// Removes expired items one after another. An item that was replaced or removed in the meantime is skipped:
/// `remove` fails for it with [`Failure::PreconditionFailed`], as
/// [`Store::delete_matching`](crate::Store::delete_matching) does. Any other failure ends the removal,
/// because the rest would fail for the same reason: the mount is append-only, or the store is down.
pub fn remove_each<'a, T>(
    expired: &[&'a T],
    mut remove: impl FnMut(&T) -> Result<(), Failure>,
) -> Result<(), Unfinished<'a, T>> {
    for (done, item) in expired.iter().copied().enumerate() {
        match remove(item) {
            Ok(()) | Err(Failure::PreconditionFailed) => {}
            Err(failure) => return Err(Unfinished { left: expired.len() - done, item, failure }),
        }
    }
    Ok(())
}

/// The form of a policy in settings.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rules {
    last: u32,
    within: Option<HumanDuration>,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
}

impl TryFrom<Rules> for Policy {
    type Error = &'static str;

    fn try_from(rules: Rules) -> Result<Self, &'static str> {
        let Rules { last, within, daily, weekly, monthly, yearly } = rules;
        let within = within.map(|HumanDuration(within)| within);
        let policy = Self { last, within, daily, weekly, monthly, yearly };
        if policy == Self::default() {
            return Err("no rule keeps anything; write `last = 14`, for example");
        }
        Ok(policy)
    }
}

fn take_one(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// The year times 100, plus the number of the ISO week.
fn week(date: Date) -> i32 {
    let (year, week, _) = date.to_iso_week_date();
    year * 100 + i32::from(week)
}

/// Tells where a new day, week, month or year begins, going back in time.
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
mod tests;
