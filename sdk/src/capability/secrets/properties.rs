//! The double must behave as the host does: the same MACs, lengths, limits and failures.

use keepgate_secrets::{HmacKey, Material, NotSealed, RANDOM_LENGTH, SealKeys, seal as host};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::Failure;
use crate::testing::Host;

fn config() -> ProptestConfig {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/capability/secrets/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// What happens to something that is sealed before it is opened.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    Bit(prop::sample::Index),
    Cut(prop::sample::Index),
    Context(Vec<u8>),
    /// The key that sealed is the second one by now, or is gone.
    Key(bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Nothing),
        any::<prop::sample::Index>().prop_map(Change::Bit),
        any::<prop::sample::Index>().prop_map(Change::Cut),
        bytes(20).prop_map(Change::Context),
        any::<bool>().prop_map(Change::Key),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn signing_has_the_results_of_the_host(key in bytes(200), message in bytes(300), wrong in bytes(40)) {
        let double = Host::new();
        double.hmac_key("k", &key);
        let real = HmacKey::new(&Material::of(&key));
        let mac = hmac_sha256("k", &message).unwrap();
        prop_assert_eq!(&mac, &real.sign(&message));
        prop_assert!(verify_hmac_sha256("k", &message, &mac).unwrap());
        prop_assert_eq!(verify_hmac_sha256("k", &message, &wrong).unwrap(), real.verify(&message, &wrong));
    }

    #[test]
    fn sealing_has_the_outcome_of_the_host(plaintext in bytes(300), context in bytes(20), change in change()) {
        let double = Host::new();
        let (one, two) = ([1; 32], [2; 32]);
        double.seal_keys(&[&one]);
        let real = |keys: &[[u8; 32]]| {
            let keys: Vec<_> = keys.iter().map(|key| Material::of(key)).collect();
            SealKeys::new("name", &keys).unwrap()
        };
        let mut keys = real(&[one]);
        let mut theirs = keys.seal(&plaintext, &context, [0; RANDOM_LENGTH]).unwrap();
        let mut ours = seal(&plaintext, &context).unwrap();
        prop_assert_eq!(ours.len(), theirs.len());
        let mut other = context.clone();
        match change {
            Change::Nothing => {}
            Change::Bit(bit) => {
                let bit = bit.index(ours.len() * 8);
                for sealed in [&mut ours, &mut theirs] {
                    sealed[bit / 8] ^= 1 << (bit % 8);
                }
            }
            Change::Cut(length) => {
                let length = length.index(ours.len());
                ours.truncate(length);
                theirs.truncate(length);
            }
            Change::Context(context) => other = context,
            Change::Key(kept) => {
                let now = if kept { vec![two, one] } else { vec![two] };
                keys = real(&now);
                double.seal_keys(&now.iter().map(|key| &key[..]).collect::<Vec<_>>());
            }
        }
        let outcome = keys.open(&theirs, &other);
        let expected = outcome.map_err(|NotSealed| Failure::Invalid(NotSealed.to_string()));
        prop_assert_eq!(open(&ours, &other), expected);
    }
}

#[test]
fn limits_are_those_of_the_host() {
    assert_eq!(MAX_MESSAGE, keepgate_secrets::MAX_MESSAGE);
    assert_eq!(MAX_CONTEXT, keepgate_secrets::MAX_CONTEXT);
    let double = Host::new();
    double.hmac_key("k", b"key");
    double.seal_keys(&[b"key"]);
    let (most, more) = (vec![0; MAX_MESSAGE], vec![0; MAX_MESSAGE + 1]);
    let (longest, longer) = (vec![0; MAX_CONTEXT], vec![0; MAX_CONTEXT + 1]);
    let (message, context) =
        (Failure::TooLarge(MAX_MESSAGE as u64), Failure::TooLarge(MAX_CONTEXT as u64));
    assert!(hmac_sha256("k", &most).is_ok());
    assert_eq!(hmac_sha256("k", &more).unwrap_err(), message);
    assert_eq!(verify_hmac_sha256("k", &more, &[]).unwrap_err(), message);
    let sealed = seal(&most, &longest).unwrap();
    assert_eq!(sealed.len(), MAX_MESSAGE + host::OVERHEAD);
    assert_eq!(open(&sealed, &longest).unwrap(), most);
    assert_eq!(seal(&more, b"").unwrap_err(), message);
    assert_eq!(seal(b"", &longer).unwrap_err(), context);
    assert_eq!(open(&sealed, &longer).unwrap_err(), context);
}

#[test]
fn what_is_not_granted_is_denied_and_named() {
    let double = Host::new();
    let denied = |what: &str| Failure::Denied(what.to_owned());
    assert_eq!(
        hmac_sha256("k", b"").unwrap_err(),
        denied("the mount grants no key \"k\"; granted: (none)")
    );
    double.hmac_key("b", b"key");
    double.hmac_key("a", b"key");
    assert_eq!(keys(), ["a", "b"]);
    assert_eq!(
        verify_hmac_sha256("k", b"", b"").unwrap_err(),
        denied("the mount grants no key \"k\"; granted: a, b")
    );
    let none = denied("the mount grants no key for sealing");
    assert_eq!(seal(b"", b"").unwrap_err(), none);
    assert_eq!(open(b"", b"").unwrap_err(), none);
}

#[test]
fn the_same_is_sealed_differently_each_time() {
    Host::new().seal_keys(&[b"key"]);
    assert_ne!(seal(b"same", b"").unwrap(), seal(b"same", b"").unwrap());
}
