//! What holds of every part of a blob: its bytes are those that a list of all places says.
//! CONTRIBUTING.md says how to run many cases.

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

/// Small numbers, and those at the end of all numbers.
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

/// Whether the byte at a place belongs to the part.
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
    fn a_part_has_the_bytes_that_it_names(part in part(), size in 0..40_u64) {
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
    fn a_part_is_inside_its_blob_however_large(part in part(), size in number()) {
        if let Some((offset, length)) = part.within(size) {
            prop_assert!(offset.checked_add(length).is_some_and(|end| end <= size));
        }
    }
}
