//! What is sealed opens with the same key, name and context, and with nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use keepgate_secrets::seal::OVERHEAD;
use keepgate_secrets::{Material, NotSealed, RANDOM_LENGTH, SealError, SealKeys};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// Keys by numbers, the first of which seals.
fn keys(name: &str, numbers: &[u8]) -> SealKeys {
    let materials: Vec<_> = numbers.iter().map(|number| Material::of(&[*number; 32])).collect();
    SealKeys::new(name, &materials).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_sealed_opens(
        plaintext in prop::collection::vec(any::<u8>(), 0..2000),
        context in prop::collection::vec(any::<u8>(), 0..100),
        random in any::<[u8; RANDOM_LENGTH]>(),
    ) {
        let keys = keys("mine", &[1]);
        let sealed = keys.seal(&plaintext, &context, random).unwrap();
        prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
        prop_assert_eq!(keys.open(&sealed, &context).unwrap(), plaintext);
    }

    #[test]
    fn whatever_is_changed_or_cut_off_does_not_open(
        plaintext in prop::collection::vec(any::<u8>(), 0..200),
        bit in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        added in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let keys = keys("mine", &[1]);
        let sealed = keys.seal(&plaintext, b"context", [7; RANDOM_LENGTH]).unwrap();
        let mut changed = sealed.clone();
        let bit = bit.index(sealed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(keys.open(&changed, b"context"), Err(NotSealed));
        prop_assert_eq!(keys.open(&sealed[..cut.index(sealed.len())], b"context"), Err(NotSealed));
        prop_assert_eq!(keys.open(&[&sealed[..], &added].concat(), b"context"), Err(NotSealed));
    }

    #[test]
    fn another_context_or_name_does_not_open(
        context in prop::collection::vec(any::<u8>(), 0..100),
        other in prop::collection::vec(any::<u8>(), 0..100),
        name in "[a-z]{0,8}",
        other_name in "[a-z]{0,8}",
    ) {
        prop_assume!(context != other && name != other_name);
        let keys_of_name = keys(&name, &[1]);
        let sealed = keys_of_name.seal(b"plaintext", &context, [7; RANDOM_LENGTH]).unwrap();
        prop_assert_eq!(keys_of_name.open(&sealed, &other), Err(NotSealed));
        prop_assert_eq!(keys(&other_name, &[1]).open(&sealed, &context), Err(NotSealed));
        prop_assert!(keys(&name, &[1]).open(&sealed, &context).is_ok(), "as another gateway does");
    }

    #[test]
    fn bytes_that_nobody_sealed_do_not_open(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(keys("mine", &[1]).open(&bytes, b""), Err(NotSealed));
    }
}

#[test]
fn an_older_key_opens_until_it_is_taken_away() {
    let sealed = keys("mine", &[1]).seal(b"plaintext", b"", [7; RANDOM_LENGTH]).unwrap();
    assert_eq!(keys("mine", &[3, 2, 1]).open(&sealed, b"").unwrap(), b"plaintext");
    assert_eq!(keys("mine", &[3, 2]).open(&sealed, b""), Err(NotSealed));
    let newer = keys("mine", &[2, 1]).seal(b"plaintext", b"", [7; RANDOM_LENGTH]).unwrap();
    assert_eq!(keys("mine", &[1]).open(&newer, b""), Err(NotSealed), "the first key seals");
    assert!(keys("mine", &[2]).open(&newer, b"").is_ok());
}

#[test]
fn keys_that_would_not_do_what_the_operator_thinks_are_refused() {
    let same = [1, 2, 3, 2].map(|number| Material::of(&[number; 32]));
    assert_eq!(SealKeys::new("mine", &same).unwrap_err(), SealError::Same(1, 3));
    assert_eq!(SealKeys::new("mine", &[]).unwrap_err(), SealError::NoKey);
}

#[test]
fn debug_shows_no_key() {
    let material = Material::of(b"confidential, and long enough here");
    let keys = SealKeys::new("mine", [&material]).unwrap();
    let hmac = keepgate_secrets::HmacKey::new(&material);
    let shown = format!("{material:?} {keys:?} {hmac:?}");
    assert_eq!(shown, "Material(..) SealKeys { name: \"mine\", .. } HmacKey(..)");
}

/// What was sealed must open for ever: these bytes were made by the first version.
#[test]
fn the_format_stays_the_same() {
    let keys = keys("mine", &[1]);
    let sealed = keys.seal(b"plaintext", b"context", [7; RANDOM_LENGTH]).unwrap();
    assert_eq!(hex::encode(&sealed), KEPT);
    assert_eq!(keys.open(&hex::decode(KEPT).unwrap(), b"context").unwrap(), b"plaintext");
}

const KEPT: &str = "0122c7e38eb0b33747070707070707070707070707070707070707070707070707b9ba9ca89fcef9757cf5fe4f53e4e0bbeb31ccc2eae3f548f8";
