//! Each rule on its own.

use super::*;
use crate::TimeNames;

const STAMPS: TimeNames = TimeNames::new("%Y%m%d_%H%M%S");
const NOW: &str = "20260301_120000";

fn time(stamp: &str) -> Timestamp {
    STAMPS.parse(stamp).unwrap().time()
}

/// The times of the items that are kept.
fn kept<'a>(stamps: &[&'a str], policy: &Policy) -> Vec<&'a str> {
    let times: Vec<_> = stamps.iter().map(|stamp| time(stamp)).collect();
    let expired = policy.expired(&times, time(NOW), |_| false);
    stamps.iter().copied().filter(|stamp| !expired.contains(&&time(stamp))).collect()
}

#[test]
fn the_newest_stay() {
    let all = ["20260101_000000", "20260101_000001", "20260102_000000", "20260103_000000"];
    let last = |last| kept(&all, &Policy::last(last));
    assert_eq!(last(1), all[3..]);
    assert_eq!(last(3), all[1..]);
    assert_eq!(last(4), all);
    assert_eq!(last(u32::MAX), all);
    assert!(kept(&[], &Policy::last(1)).is_empty());
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
    let two_days = kept(&all, &Policy { daily: 2, ..none.clone() });
    assert_eq!(two_days, ["20260228_120000", "20260301_110000"]);
    let weeks = kept(&all, &Policy { weekly: 4, ..none.clone() });
    let expected = ["20250105_235959", "20250106_120000", "20250201_120000", "20260301_110000"];
    assert_eq!(weeks, expected);
    let months = kept(&all, &Policy { monthly: 3, ..none.clone() });
    assert_eq!(months, ["20250201_120000", "20260228_120000", "20260301_110000"]);
    let years = kept(&all, &Policy { yearly: 9, ..none });
    assert_eq!(years, ["20241231_230000", "20250201_120000", "20260301_110000"]);
}

#[test]
fn rules_add_up() {
    let all = ["20260101_000000", "20260215_000000", "20260301_000000", "20260301_110000"];
    let policy = Policy { last: 1, monthly: 2, ..Policy::default() };
    assert_eq!(kept(&all, &policy), ["20260215_000000", "20260301_110000"]);
}

#[test]
fn what_is_young_stays() {
    let all = ["20260227_115959", "20260227_120000", "20260301_110000", "20300101_000000"];
    let within = Some(Duration::from_secs(2 * 86_400));
    let policy = Policy { within, ..Policy::default() };
    assert_eq!(kept(&all, &policy), all[1..]);
    let within = Some(Duration::MAX);
    assert_eq!(kept(&all, &Policy { within, ..Policy::default() }), all);
}

#[test]
fn what_is_from_the_future_neither_counts_nor_goes() {
    let right = ["20260201_120000", "20260227_120000", "20260228_120000", "20260301_120500"];
    let ahead = ["20260301_120501", "20260302_000000", "20300101_000000"];
    let all = [right.as_slice(), &ahead].concat();
    let none = Policy::default();
    for policy in [
        Policy::last(2),
        Policy { within: Some(Duration::from_secs(2 * 86_400)), ..none.clone() },
        Policy { daily: 2, ..none.clone() },
        Policy { weekly: 2, ..none.clone() },
        Policy { monthly: 2, ..none.clone() },
        Policy { yearly: 2, ..none },
    ] {
        let expected = [kept(&right, &policy).as_slice(), &ahead].concat();
        assert_eq!(kept(&all, &policy), expected, "{policy:?}");
    }
    assert_eq!(kept(&all, &Policy::last(1)), [&["20260301_120500"], ahead.as_slice()].concat());
    assert_eq!(kept(&ahead, &Policy::last(1)), ahead);
    let times = all.iter().map(|stamp| time(stamp)).collect::<Vec<_>>();
    let found: Vec<_> = from_the_future(&times, time(NOW)).into_iter().copied().collect();
    assert_eq!(found, ahead.map(time));
    let mut listed = times;
    newest_last(&mut listed, time(NOW));
    assert_eq!(
        listed,
        [ahead.as_slice(), &right].concat().into_iter().map(time).collect::<Vec<_>>()
    );
}

#[test]
fn the_newest_and_what_is_spared_stay() {
    let items = ["20200101_000000", "20210101_000000", "20220101_000000"].map(time);
    let policy = Policy { within: Some(Duration::from_secs(1)), ..Policy::default() };
    let expired = policy.expired(&items, time(NOW), |item| *item == items[0]);
    assert_eq!(expired, [&items[1]]);
}

#[test]
fn policies_are_read_from_settings() {
    let read = serde_json::from_str::<Policy>;
    let text = r#"{"last": 1, "within": "7d", "daily": 2, "weekly": 3, "monthly": 4, "yearly": 5}"#;
    let within = Some(Duration::from_secs(7 * 86_400));
    let policy = Policy { last: 1, within, daily: 2, weekly: 3, monthly: 4, yearly: 5 };
    assert_eq!(read(text).unwrap(), policy);
    for (text, words) in [
        ("{}", "no rule keeps anything"),
        (r#"{"daily": 0}"#, "no rule keeps anything"),
        (r#"{"within": "0s"}"#, "\"0s\" is not a duration"),
        (r#"{"hourly": 3}"#, "unknown field `hourly`"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn removal_passes_over_what_changed_and_ends_at_a_failure() {
    let expired = [&1, &2, &3, &4];
    let mut seen = Vec::new();
    let unfinished = remove_each(&expired, |item| {
        seen.push(*item);
        match item {
            2 => Err(Failure::PreconditionFailed),
            3 => Err(Failure::Denied("append-only".to_owned())),
            _ => Ok(()),
        }
    });
    let Unfinished { left, item, failure } = unfinished.unwrap_err();
    assert_eq!((left, *item, failure.status()), (2, 3, 403));
    assert_eq!(seen, [1, 2, 3]);
}
