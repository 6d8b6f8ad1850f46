//! Property: a part consists of the bytes that a naive check of every position selects.
//! CONTRIBUTING.md says how to run more cases.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// Small numbers, and the largest ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..40_u64, 1 => (u64::MAX - 3)..=u64::MAX, 1 => any::<u64>()]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        1 => Just(Part::Whole),
        4 => (number(), proptest::option::of(number()))
            .prop_map(|(offset, length)| Part::Slice { offset, length }),
        2 => number().prop_map(Part::Suffix),
    ]
}

/// Whether the byte at this position belongs to the part.
fn has(part: Part, size: u64, place: u64) -> bool {
    let (place, size) = (u128::from(place), u128::from(size));
    match part {
        Part::Whole => true,
        Part::Slice { offset, length } => {
            let begin = u128::from(offset);
            place >= begin && length.is_none_or(|length| place < begin + u128::from(length))
        }
        Part::Suffix(length) => place + u128::from(length) >= size,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_part_selects_the_bytes_it_names(part in part(), size in 0..40_u64) {
        let places: Vec<u64> = (0..size).filter(|place| has(part, size, *place)).collect();
        match part.within(size) {
            Some((offset, length)) => {
                prop_assert_eq!(places, (offset..offset + length).collect::<Vec<_>>());
                prop_assert!(length > 0 || part == Part::Whole);
            }
            None => prop_assert!(places.is_empty() && part != Part::Whole),
        }
    }

    #[test]
    fn a_part_never_reaches_past_its_blob(part in part(), size in number()) {
        if let Some((offset, length)) = part.within(size) {
            prop_assert!(offset.checked_add(length).is_some_and(|end| end <= size));
        }
    }
}
