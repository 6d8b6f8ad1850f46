//! Properties that hold for all bytes and all ways of chunking them. CONTRIBUTING.md says how to run
//! more cases.

use std::io::Read as _;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keepgate_store::{Body, BodyError};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

/// Runs of equal and of random bytes, with lengths around the sizes of pieces and chunks.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        2 => 0..600_usize,
        1 => 16_300..16_500_usize,
        1 => 65_400..65_700_usize,
        1 => 0..200_000_usize,
    ];
    let run = (any::<u32>(), any::<bool>(), length).prop_map(|(seed, same, length)| {
        let mut state = seed | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        let first = next();
        (0..length).map(|_| if same { first } else { next() }).collect::<Vec<u8>>()
    });
    proptest::collection::vec(run, 0..4).prop_map(|runs| runs.concat())
}

/// Sizes of chunks; 0 is an empty chunk followed by a pause.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    let cut = prop_oneof![2 => 0..3_usize, 3 => 1..1000_usize, 2 => 1..100_000_usize];
    proptest::collection::vec(cut, 0..20)
}

/// The bytes in chunks of these sizes, then the rest.
fn cut(bytes: &[u8], cuts: &[usize]) -> Body {
    let (length, mut rest) = (bytes.len() as u64, Bytes::copy_from_slice(bytes));
    let mut chunks: Vec<_> = cuts.iter().map(|size| rest.split_to(rest.len().min(*size))).collect();
    chunks.push(rest);
    let chunks = stream::iter(chunks).then(|chunk| async move {
        if chunk.is_empty() {
            tokio::task::yield_now().await;
        }
        Ok(chunk)
    });
    Body::from_stream(Some(length), chunks)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

async fn all(body: Body) -> Result<Vec<u8>, BodyError> {
    body.collect(u64::MAX).await.map(Vec::from)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn gunzip_restores_what_gzip_compressed_however_the_bytes_are_chunked(
        content in content(), level in 0..10_u8, first in cuts(), second in cuts(),
    ) {
        run(async {
            let packed = all(gzip(Body::from_bytes(content.clone()), level).unwrap()).await.unwrap();
            let again = all(gzip(cut(&content, &first), level).unwrap()).await.unwrap();
            prop_assert!(packed == again);
            prop_assert!(all(gunzip(cut(&packed, &second))).await.unwrap() == content);
            let twice = [packed.clone(), packed].concat();
            prop_assert!(all(gunzip(cut(&twice, &first))).await.unwrap() == content.repeat(2));
            Ok(())
        })?;
    }

    /// Also bytes for which a fixed code is longer than they are.
    #[test]
    fn gzip_makes_nothing_longer(
        content in content(), level in 0..10_u8, above in prop_oneof![Just(0_u8), Just(144_u8)],
    ) {
        let content: Vec<u8> = content.iter().map(|byte| byte % (255 - above) + above).collect();
        let packed = run(all(gzip(Body::from_bytes(content.clone()), level).unwrap())).unwrap();
        // Header, checksum and length, and 5 bytes for each 16 KiB.
        let most = content.len() + content.len() / 1000 + 64;
        prop_assert!(packed.len() <= most, "{} bytes became {}", content.len(), packed.len());
    }

    #[test]
    fn damaged_gzip_never_becomes_other_bytes(
        content in content(), level in prop_oneof![Just(1_u8), Just(6_u8)],
        at in any::<prop::sample::Index>(), flip in 1..=255_u8, cuts in cuts(),
    ) {
        run(async {
            let packed = all(gzip(Body::from_bytes(content.clone()), level).unwrap()).await.unwrap();
            let at = at.index(packed.len());
            let outcome = all(gunzip(cut(&packed[..at], &cuts))).await;
            prop_assert!(matches!(outcome, Err(BodyError::Truncated)), "{:?}", outcome);
            let mut damaged = packed;
            damaged[at] ^= flip;
            match all(gunzip(cut(&damaged, &cuts))).await {
                // A flag, or the time in the header.
                Ok(bytes) => prop_assert!(bytes == content),
                Err(BodyError::Invalid(_) | BodyError::Truncated) => {}
                Err(other) => prop_assert!(false, "{:?}", other),
            }
            Ok(())
        })?;
    }

    #[test]
    fn archives_contain_what_was_put_in(
        files in proptest::collection::vec(
            ("[a-zé]{1,150}(/[a-z.é]{3,60}){0,3}", content(), 0..0o10000_u32, 0..1_u64 << 34), 0..4,
        ),
        cuts in cuts(),
    ) {
        // Read back with the crate's own reader.
        prop_assume!(files.iter().all(|(path, ..)| !path.split('/').any(|part| part == "..")));
        let entry = |(path, content, mode, seconds): &(String, Vec<u8>, u32, u64)| Entry {
            path: path.clone(),
            size: content.len() as u64,
            mode: *mode,
            modified: UNIX_EPOCH + Duration::from_secs(*seconds),
            body: cut(content, &cuts),
        };
        let archive = tar(files.iter().map(entry).collect()).unwrap();
        let length = archive.length();
        let archive = run(all(archive)).unwrap();
        prop_assert_eq!(length, Some(archive.len() as u64));
        let mut reader = ::tar::Archive::new(archive.as_slice());
        let mut entries = reader.entries().unwrap();
        for (path, content, mode, seconds) in &files {
            let mut found = entries.next().unwrap().unwrap();
            prop_assert_eq!(found.path_bytes(), path.as_bytes());
            prop_assert_eq!(found.header().mode().unwrap(), *mode);
            prop_assert_eq!(found.header().mtime().unwrap(), *seconds);
            prop_assert_eq!(found.header().uid().unwrap() + found.header().gid().unwrap(), 0);
            let mut bytes = Vec::new();
            found.read_to_end(&mut bytes).unwrap();
            prop_assert!(bytes == *content);
        }
        prop_assert!(entries.next().is_none());
    }

    #[test]
    fn meters_and_spools_report_size_and_hash_and_change_nothing(content in content(), cuts in cuts()) {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (meter, body) = Meter::attach(cut(&content, &cuts));
            let spooled = Spool::new(folder.path().to_owned(), u64::MAX).read(body).await.unwrap();
            let sum = Sum { size: content.len() as u64, sha256: Sha256::digest(&content).into() };
            prop_assert_eq!(meter.sum(), Some(sum));
            prop_assert_eq!(Sum { size: spooled.size, sha256: spooled.sha256 }, sum);
            prop_assert!(all(spooled.body).await.unwrap() == content);
            Ok(())
        })?;
    }

    #[test]
    fn checksums_are_of_all_bytes_and_change_nothing(content in content(), cuts in cuts()) {
        run(async {
            let (checksum, body) = Checksum::attach(cut(&content, &cuts));
            prop_assert_eq!(body.length(), Some(content.len() as u64));
            prop_assert_eq!(checksum.xxh3(), None);
            prop_assert!(all(body).await.unwrap() == content);
            prop_assert_eq!(checksum.xxh3(), Some(XxHash3_128::oneshot(&content)));
            Ok(())
        })?;
    }

    #[test]
    fn verified_bytes_pass_whole_or_lack_their_end(
        content in content(), cuts in cuts(), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
    ) {
        let (sha256, xxh3) = (Sha256::digest(&content).into(), XxHash3_128::oneshot(&content));
        let held: [&dyn Fn(Body) -> Body; 2] = [&|body| verified(body, sha256), &|body| checked(body, xxh3)];
        let mut wrong = content.clone();
        match wrong.len() {
            0 => wrong.push(flip),
            length => wrong[at.index(length)] ^= flip,
        }
        for held in held {
            run(async {
                let right = held(cut(&content, &cuts));
                prop_assert_eq!(right.length(), Some(content.len() as u64));
                prop_assert!(all(right).await.unwrap() == content);
                let (mut body, mut passed) = (held(cut(&wrong, &cuts)), 0);
                let end = loop {
                    match body.chunk().await {
                        Some(Ok(chunk)) => passed += chunk.len(),
                        end => break end,
                    }
                };
                prop_assert!(matches!(end, Some(Err(BodyError::Mismatch { .. }))), "{:?}", end);
                prop_assert!(passed < wrong.len());
                prop_assert!(body.chunk().await.is_none());
                Ok(())
            })?;
        }
    }

    #[test]
    fn bodies_are_held_to_a_length(content in content(), cuts in cuts(), other in 0..200_000_u64) {
        run(async {
            let length = content.len() as u64;
            // Also without a length that is known before.
            let unknown = || Body::from_stream(None, cut(&content, &cuts));
            for body in [cut(&content, &cuts), unknown()] {
                prop_assert!(all(limit(body, length)).await.unwrap() == content);
            }
            let same = exactly(unknown(), length);
            prop_assert_eq!(same.length(), Some(length));
            prop_assert!(all(same).await.unwrap() == content);
            prop_assume!(other != length);
            for body in [cut(&content, &cuts), unknown()] {
                match all(exactly(body, other)).await {
                    Err(BodyError::TooLarge { limit }) => prop_assert!(limit == other && other < length),
                    Err(BodyError::Truncated) => prop_assert!(other > length),
                    outcome => prop_assert!(false, "{:?}", outcome),
                }
            }
            let limited = all(limit(unknown(), other)).await;
            prop_assert_eq!(limited.is_ok(), length <= other);
            Ok(())
        })?;
    }

    #[test]
    fn joined_bodies_follow_each_other(parts in proptest::collection::vec(content(), 0..4), cuts in cuts()) {
        run(async {
            let body = join(parts.iter().map(|part| cut(part, &cuts)).collect());
            let whole = parts.concat();
            prop_assert_eq!(body.length(), Some(whole.len() as u64));
            prop_assert!(all(body).await.unwrap() == whole);
            Ok(())
        })?;
    }
}
