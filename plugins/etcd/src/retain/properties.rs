//! What holds of every policy and every shelf: nothing that must stay goes, more rules keep more,
//! and a plainer reading of the same rules says the same. CONTRIBUTING.md says how to run many cases.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::settings::Format;

const NOW: u64 = 1_800_000_000;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/retain/properties.regressions");
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

/// Backups some hours, days or weeks apart, several of some seconds, now and then in the future.
fn shelf() -> impl Strategy<Value = Vec<Backup>> {
    let step = prop_oneof![0..3_u64, 0..90_000_u64, 0..900_000_u64, 0..9_000_000_u64];
    let begin = NOW - 100_000_000;
    proptest::collection::vec((step, any::<bool>()), 0..40).prop_map(move |steps| {
        let (mut at, mut backups) = (begin, Vec::<Backup>::new());
        for (step, spared) in steps {
            at += step;
            let there = backups.iter().map(|backup| &backup.name);
            let name = Name::next(at * 1_000_000_000, Format::TarGz, &there).unwrap();
            backups.push(Backup { name, spared: spared && step % 5 == 0 });
        }
        backups
    })
}

fn gone(backups: &[Backup], policy: &Policy) -> BTreeSet<Name> {
    superfluous(backups, policy, now()).into_iter().cloned().collect()
}

fn now() -> UtcDateTime {
    UtcDateTime::from_unix_timestamp(i64::try_from(NOW).unwrap()).unwrap()
}

/// Each backup by itself: counts what is newer.
fn model(backups: &[Backup], policy: &Policy) -> BTreeSet<Name> {
    let newer = |index: usize| backups.get(index + 1..).unwrap_or_default();
    let by_period = |index: usize, count: u32, period: fn(&Name) -> String| {
        let own = period(&backups[index].name);
        let periods: BTreeSet<_> = newer(index).iter().map(|b| period(&b.name)).collect();
        !periods.contains(&own) && (periods.len() as u64) < u64::from(count)
    };
    let goes = |(index, backup): (usize, &Backup)| {
        let age = (now() - backup.name.at()).whole_seconds();
        let young = policy
            .within
            .is_some_and(|limit| age <= i64::try_from(limit.as_secs()).unwrap_or(i64::MAX));
        let kept = backup.spared
            || newer(index).is_empty()
            || (newer(index).len() as u64) < u64::from(policy.last)
            || young
            || by_period(index, policy.daily, |name| name.stem()[..17].to_owned())
            || by_period(index, policy.weekly, |name| {
                let date = name.at().date();
                let monday = i64::from(date.weekday().number_days_from_monday());
                (date - time::Duration::days(monday)).to_string()
            })
            || by_period(index, policy.monthly, |name| name.stem()[..15].to_owned())
            || by_period(index, policy.yearly, |name| name.stem()[..13].to_owned());
        (!kept).then(|| backup.name.clone())
    };
    backups.iter().enumerate().filter_map(goes).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_model_says_the_same(backups in shelf(), policy in policy()) {
        prop_assert_eq!(gone(&backups, &policy), model(&backups, &policy));
    }

    #[test]
    fn what_must_stay_stays(backups in shelf(), policy in policy()) {
        let gone = gone(&backups, &policy);
        for backup in backups.iter().filter(|backup| backup.spared).chain(backups.last()) {
            prop_assert!(!gone.contains(&backup.name));
        }
    }

    #[test]
    fn wider_rules_keep_more(backups in shelf(), policy in policy(), by in 1..4_u32, rule in 0..6_u8) {
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
        prop_assert!(gone(&backups, &wider).is_subset(&gone(&backups, &policy)));
    }

    #[test]
    fn what_stayed_stays_at_once_after(backups in shelf(), policy in policy()) {
        let first = gone(&backups, &policy);
        let left: Vec<_> =
            backups.into_iter().filter(|backup| !first.contains(&backup.name)).collect();
        let again = gone(&left, &policy);
        prop_assert!(again.is_empty(), "{again:?}");
    }
}
