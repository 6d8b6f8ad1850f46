//! Properties of every policy and every set of items: nothing that must be kept expires, wider rules keep
//! more, and a second, simpler implementation of the same rules agrees. CONTRIBUTING.md says how to run more
//! cases.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

const NOW: u64 = 1_800_000_000;

/// A backup of the tests.
#[derive(Clone, Debug)]
struct Item {
    /// Different for each item.
    number: usize,
    time: Timestamp,
    spared: bool,
}

impl Dated for Item {
    fn time(&self) -> Timestamp {
        self.time
    }
}

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/retention/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![2 => Just(0_u32), 3 => 1..6_u32, 1 => Just(u32::MAX)];
    let within = prop_oneof![
        Just(None),
        (1..200_000_000_u64).prop_map(|seconds| Some(Duration::from_secs(seconds))),
        Just(Some(Duration::MAX)),
    ];
    let counts = (count(), count(), count(), count(), count());
    (counts, within).prop_map(|((last, daily, weekly, monthly, yearly), within)| Policy {
        last,
        within,
        daily,
        weekly,
        monthly,
        yearly,
    })
}

/// Items some hours, days or weeks apart, several within one second, and a few in the future.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let step = prop_oneof![0..3_u64, 0..90_000_u64, 0..900_000_u64, 0..9_000_000_u64];
    let begin = NOW - 100_000_000;
    proptest::collection::vec((step, any::<bool>()), 0..40).prop_map(move |steps| {
        let mut at = begin;
        let item = |(number, (step, spared)): (usize, (u64, bool))| {
            at += step;
            Item { number, time: seconds(at), spared: spared && step % 5 == 0 }
        };
        steps.into_iter().enumerate().map(item).collect()
    })
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

/// The numbers of the expired items.
fn expired(items: &[Item], policy: &Policy) -> BTreeSet<usize> {
    let expired = policy.expired(items, seconds(NOW), |item| item.spared);
    expired.into_iter().map(|item| item.number).collect()
}

/// Judges each item by itself: counts the newer ones.
fn model(items: &[Item], policy: &Policy) -> BTreeSet<usize> {
    let newer = |index: usize| items.get(index + 1..).unwrap_or_default();
    let by_period = |index: usize, count: u32, period: fn(&str, Date) -> String| {
        let of = |item: &Item| period(&item.time.to_string(), item.time.date());
        let periods: BTreeSet<_> = newer(index).iter().map(of).collect();
        !periods.contains(&of(&items[index])) && (periods.len() as u64) < u64::from(count)
    };
    let expires = |(index, item): (usize, &Item)| {
        let age = i128::from(NOW) - i128::from(item.time.as_secs());
        let young = policy.within.is_some_and(|limit| age <= i128::from(limit.as_secs()));
        let kept = item.spared
            || newer(index).is_empty()
            || (newer(index).len() as u64) < u64::from(policy.last)
            || young
            || by_period(index, policy.daily, |text, _| text[..10].to_owned())
            || by_period(index, policy.weekly, |_, date| {
                let monday = i64::from(date.weekday().number_days_from_monday());
                (date - time::Duration::days(monday)).to_string()
            })
            || by_period(index, policy.monthly, |text, _| text[..7].to_owned())
            || by_period(index, policy.yearly, |text, _| text[..4].to_owned());
        (!kept).then_some(item.number)
    };
    items.iter().enumerate().filter_map(expires).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_model_agrees(items in items(), policy in policy()) {
        prop_assert_eq!(expired(&items, &policy), model(&items, &policy));
    }

    #[test]
    fn what_must_stay_stays(items in items(), policy in policy()) {
        let expired = expired(&items, &policy);
        for item in items.iter().filter(|item| item.spared).chain(items.last()) {
            prop_assert!(!expired.contains(&item.number));
        }
    }

    #[test]
    fn wider_rules_keep_more(items in items(), policy in policy(), by in 1..4_u32, rule in 0..6_u8) {
        let mut wider = policy.clone();
        match rule {
            0 => wider.last = wider.last.saturating_add(by),
            1 => wider.daily = wider.daily.saturating_add(by),
            2 => wider.weekly = wider.weekly.saturating_add(by),
            3 => wider.monthly = wider.monthly.saturating_add(by),
            4 => wider.yearly = wider.yearly.saturating_add(by),
            _ => {
                let longer = Duration::from_secs(u64::from(by) * 86_400);
                wider.within = Some(wider.within.unwrap_or_default().saturating_add(longer));
            }
        }
        prop_assert!(expired(&items, &wider).is_subset(&expired(&items, &policy)));
    }

    #[test]
    fn what_stayed_stays_at_once_after(items in items(), policy in policy()) {
        let first = expired(&items, &policy);
        let left: Vec<_> =
            items.into_iter().filter(|item| !first.contains(&item.number)).collect();
        let again = expired(&left, &policy);
        prop_assert!(again.is_empty(), "{again:?}");
    }
}
