//! Properties of every `Range` header: it selects the bytes that RFC 9110 says. The tests determine these
//! again by looking at each position. CONTRIBUTING.md says how to run more cases.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/range/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// Digits: small numbers, leading zeros, and numbers that fit no machine type.
fn digits() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..40_u64).prop_map(|number| number.to_string()),
        1 => "0{1,3}[0-9]",
        1 => ((u64::MAX - 3)..=u64::MAX).prop_map(|number| number.to_string()),
        1 => "[1-9][0-9]{19,40}",
    ]
}

/// Digits as a number. All numbers beyond 64 bits become the same one.
fn value(digits: &str) -> u128 {
    digits.parse().unwrap_or(u128::MAX)
}

/// Offset and length of a part, calculated as the host does.
fn bytes(part: Part, size: u64) -> Option<(u64, u64)> {
    use keepgate_store::Part as Hosts;
    let part = match part {
        Part::Whole => Hosts::Whole,
        Part::Slice((offset, length)) => Hosts::Slice { offset, length },
        Part::Suffix(length) => Hosts::Suffix(length),
    };
    part.within(size)
}

/// Checks that exactly the positions for which `has` is true are returned.
fn expect(range: Range, size: u64, has: impl Fn(u128) -> bool) -> Result<(), TestCaseError> {
    let places: Vec<u64> = (0..size).filter(|place| has(u128::from(*place))).collect();
    let Range::Part(part) = range else {
        return Err(TestCaseError::fail(format!("{range:?} is not one part")));
    };
    let (offset, length) = bytes(part, size).unwrap_or((0, 0));
    prop_assert_eq!(places, (offset..offset + length).collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn from_one_place_to_another(
        first in digits(),
        last in digits(),
        size in 0..40_u64,
        blanks in prop::array::uniform4(" {0,2}"),
    ) {
        let [a, b, c, d] = blanks;
        let range = Range::parse(Some(&format!("{a}bytes={b}{first}-{last}{c}{d}")));
        let (first, last) = (value(&first), value(&last));
        let within = |number: u128| number < u128::from(u64::MAX) - 1;
        if first <= last {
            expect(range, size, |place| (first..=last).contains(&place))?;
        } else if within(first) {
            prop_assert!(matches!(range, Range::Malformed), "{:?}", range);
        } else if let Range::Part(part) = range {
            // The largest numbers become the same one, so this may look like a valid range. No blob may have
            // a byte in it.
            prop_assert_eq!(bytes(part, size), None);
        }
    }

    #[test]
    fn from_one_place_on(first in digits(), size in 0..40_u64) {
        let range = Range::parse(Some(&format!("bytes={first}-")));
        let first = value(&first);
        expect(range, size, |place| place >= first)?;
    }

    #[test]
    fn the_last_so_many(count in digits(), size in 0..40_u64) {
        let range = Range::parse(Some(&format!("bytes=-{count}")));
        let count = value(&count);
        expect(range, size, |place| place.saturating_add(count) >= u128::from(size))?;
    }

    #[test]
    fn several_ranges_are_the_whole(
        ranges in proptest::collection::vec((0..40_u64, 0..40_u64), 2..5),
        comma in prop_oneof![Just(","), Just(", "), Just(" , "), Just(",,")],
    ) {
        let one = |(first, more): &(u64, u64)| format!("{first}-{}", first + more);
        let ranges: Vec<String> = ranges.iter().map(one).collect();
        let range = Range::parse(Some(&format!("bytes={}", ranges.join(comma))));
        prop_assert!(matches!(range, Range::Whole), "{:?}", range);
    }

    #[test]
    fn any_text_is_answered(text in prop_oneof!["(?s).{0,20}", "(bytes)?=?[0-9, +-]{0,30}"]) {
        let range = Range::parse(Some(&text));
        if let Range::Part(part) = range {
            let rest = text.trim().strip_prefix("bytes=");
            let fine = |letter: char| letter.is_ascii_digit() || ",- \t".contains(letter);
            prop_assert!(rest.is_some_and(|rest| {
                rest.chars().all(|letter| fine(letter) || letter.is_whitespace())
            }), "{:?}", part);
            for size in [0, 1, 100, u64::MAX] {
                if let Some((offset, length)) = bytes(part, size) {
                    prop_assert!(length > 0 && offset.checked_add(length).unwrap() <= size);
                }
            }
        }
    }
}
