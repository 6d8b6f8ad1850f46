//! Properties of all snapshots, however they are split into messages. CONTRIBUTING.md says how to run
//! more cases.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sha2::{Digest as _, Sha256};

use super::{InvalidSnapshot, MAGIC, SECTOR, TRAILER, Verifier, size};

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/etcd/verify/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// A valid file.
fn snapshot() -> impl Strategy<Value = Vec<u8>> {
    let sectors = prop::collection::vec(any::<[u8; 32]>(), 1..6);
    sectors.prop_map(|sectors| {
        let mut file: Vec<u8> = sectors.iter().flat_map(|part| part.repeat(16)).collect();
        file[16..20].copy_from_slice(&MAGIC);
        let hash = Sha256::digest(&file);
        file.extend(hash);
        file
    })
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

/// Verifies these bytes, split at these positions.
fn look(
    bytes: &[u8],
    size: usize,
    cuts: &[prop::sample::Index],
) -> Result<String, InvalidSnapshot> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let mut verifier = Verifier::new(size as u64);
    for cut in places.windows(2) {
        verifier.push(&bytes[cut[0]..cut[1]])?;
        assert_eq!(verifier.seen(), cut[1] as u64);
    }
    verifier.finish()
}

#[test]
fn a_small_snapshot_is_valid_however_it_is_split_once() {
    let mut file = vec![7; 512];
    file[16..20].copy_from_slice(&MAGIC);
    let hash = Sha256::digest(&file);
    file.extend(hash);
    for cut in 0..=file.len() {
        let mut verifier = Verifier::new(file.len() as u64);
        verifier.push(&file[..cut]).unwrap();
        verifier.push(&file[cut..]).unwrap();
        assert_eq!(verifier.finish(), Ok(hex::encode(hash)));
    }
    let mut verifier = Verifier::new(file.len() as u64);
    for byte in &file {
        verifier.push(&[*byte]).unwrap();
    }
    assert_eq!(verifier.finish(), Ok(hex::encode(hash)));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_valid_snapshot_is_accepted(file in snapshot(), cuts in cuts()) {
        let trailer = hex::encode(&file[file.len() - 32..]);
        prop_assert_eq!(look(&file, file.len(), &cuts), Ok(trailer));
    }

    #[test]
    fn a_flipped_bit_is_detected(
        mut file in snapshot(), cuts in cuts(), at in any::<prop::sample::Index>(), bit in 0..8_u8
    ) {
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        let expected = if (16..20).contains(&at) { InvalidSnapshot::NoDatabase } else { InvalidSnapshot::Checksum };
        prop_assert_eq!(look(&file, file.len(), &cuts), Err(expected));
    }

    #[test]
    fn missing_bytes_are_detected(
        file in snapshot(), cuts in cuts(), kept in any::<prop::sample::Index>()
    ) {
        let kept = kept.index(file.len());
        let (seen, size) = (kept as u64, file.len() as u64);
        prop_assert_eq!(look(&file[..kept], file.len(), &cuts), Err(InvalidSnapshot::Shorter { seen, size }));
    }

    #[test]
    fn excess_bytes_are_detected(
        file in snapshot(), cuts in cuts(), more in prop::collection::vec(any::<u8>(), 1..100)
    ) {
        let size = file.len();
        let file = [file, more].concat();
        prop_assert_eq!(look(&file, size, &cuts), Err(InvalidSnapshot::Longer { size: size as u64 }));
    }

    /// Both ways of counting give the same length, and any other sum is refused.
    #[test]
    fn a_valid_length_is_that_of_a_database_and_its_checksum(
        sectors in 1..1_u64 << 54, off in 0..SECTOR, blob in any::<prop::sample::Index>()
    ) {
        let sum = sectors * SECTOR + off;
        let blob = (blob.index(usize::MAX) as u64) % (sum + 1);
        let found = size(blob, sum - blob);
        match off {
            0 => prop_assert_eq!(found, Ok(sum + TRAILER)),
            TRAILER => prop_assert_eq!(found, Ok(sum)),
            _ => prop_assert_eq!(found, Err(InvalidSnapshot::Length { blob, remaining: sum - blob })),
        }
    }
}

#[test]
fn no_length_overflows_and_none_is_empty() {
    assert!(size(u64::MAX, 1).is_err());
    assert!(size(u64::MAX - 511, 0).is_ok());
    for (blob, remaining) in [(0, 0), (32, 0), (0, 32), (1, 0)] {
        assert!(size(blob, remaining).is_err());
    }
}
