//! The store of tests must behave like a real one: every call has the same outcome as with the gateway's own
//! memory store, which a test suite in `host/store/tests` compares with the disk.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use keepgate_store as host;
use keepgate_store::memory::MemoryStore as HostStore;
use keepgate_store::{BlobStore, Clock, Folder, Key, expiry};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sha2::{Digest as _, Sha256};

use super::{MemoryStore, hex};
use crate::{Change, Condition, Failure, Part, Piece, PutOptions};

const KEYS: [&str; 6] = ["a", "a/b", "a/b/c", "a/d", "e", "f/../g"];
const FOLDERS: [&str; 4] = ["", "a", "a/b", "none"];

fn config() -> ProptestConfig {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/capability/blobs/memory_store/properties.regressions"
    );
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
enum Call {
    Put { key: usize, bytes: Vec<u8>, when: When, hash: Hash, until: Until },
    Concat { key: usize, pieces: Vec<(usize, Part)>, when: When },
    Rename { key: usize, to: usize, when: When },
    Delete { key: usize, matches: Option<bool> },
    List { folder: usize, recursive: bool, after: Option<String> },
    Prepare(usize),
}

#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Absent,
    AbsentOrIdentical,
    /// The existing blob has this etag, or another one.
    Matches(bool),
}

/// When a blob expires. The clocks of both stores stand still.
#[derive(Clone, Copy, Debug)]
enum Until {
    Never,
    Now,
    Later,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    None,
    Right,
    Wrong,
}

fn call() -> impl Strategy<Value = Call> {
    let key = 0..KEYS.len();
    let bytes = proptest::collection::vec(0_u8..2, 0..3);
    let when = prop_oneof![
        Just(When::Always),
        Just(When::Absent),
        Just(When::AbsentOrIdentical),
        any::<bool>().prop_map(When::Matches),
    ];
    let until =
        prop_oneof![4 => Just(Until::Never), 2 => Just(Until::Now), 1 => Just(Until::Later)];
    let hash = prop_oneof![Just(Hash::None), Just(Hash::Right), Just(Hash::Wrong)];
    let part = prop_oneof![
        Just(Part::Whole),
        (0_u64..4, proptest::option::of(0_u64..4)).prop_map(Part::Slice),
        (0_u64..4).prop_map(Part::Suffix),
    ];
    let pieces = proptest::collection::vec((key.clone(), part), 0..4);
    let after = proptest::option::of("[a-f/]{0,4}");
    prop_oneof![
        4 => (key.clone(), bytes, when.clone(), hash, until)
            .prop_map(|(key, bytes, when, hash, until)| Call::Put { key, bytes, when, hash, until }),
        2 => (key.clone(), pieces, when.clone())
            .prop_map(|(key, pieces, when)| Call::Concat { key, pieces, when }),
        2 => (key.clone(), key.clone(), when)
            .prop_map(|(key, to, when)| Call::Rename { key, to, when }),
        2 => (key, proptest::option::of(any::<bool>()))
            .prop_map(|(key, matches)| Call::Delete { key, matches }),
        2 => (0..FOLDERS.len(), any::<bool>(), after)
            .prop_map(|(folder, recursive, after)| Call::List { folder, recursive, after }),
        1 => (0..FOLDERS.len()).prop_map(Call::Prepare),
    ]
}

/// The outcome of a call, in words that both stores share. Etags and times differ.
type Outcome = Result<String, String>;

fn ours(store: &mut MemoryStore, call: &Call) -> Outcome {
    let etag = |store: &MemoryStore, key: &str, right: bool| match store.head(key) {
        Ok(info) if right => info.etag,
        _ => "another".to_owned(),
    };
    let options = |store: &MemoryStore, key: &str, when| match when {
        When::Always => PutOptions::replace(),
        When::Absent => PutOptions::absent(),
        When::AbsentOrIdentical => PutOptions::absent_or_identical(),
        When::Matches(right) => PutOptions::matches(&etag(store, key, right)),
    };
    let outcome = match call {
        Call::Put { key, bytes, when, hash, until } => {
            let mut options = options(store, KEYS[*key], *when);
            options.sha256 = sha256(bytes, *hash).map(|sum| hex(&sum));
            let until = match until {
                Until::Never => None,
                Until::Now => Some(store.now),
                Until::Later => Some(store.now + 1),
            };
            let stored = store.put(KEYS[*key], || Ok(bytes.clone()), &options, until);
            stored.map(|stored| format!("{} bytes, {}", stored.info.size, word(&stored.change)))
        }
        Call::Concat { key, pieces, when } => {
            let options = options(store, KEYS[*key], *when);
            let piece =
                |(key, part): &(usize, Part)| Piece { key: KEYS[*key].to_owned(), part: *part };
            let pieces: Vec<_> = pieces.iter().map(piece).collect();
            let stored = store.concat(KEYS[*key], &pieces, &options);
            stored.map(|stored| format!("{} bytes, {}", stored.info.size, word(&stored.change)))
        }
        Call::Rename { key, to, when } => {
            let condition = options(store, KEYS[*to], *when).condition;
            let stored = store.rename(KEYS[*key], KEYS[*to], &condition);
            stored.map(|stored| format!("{} bytes, {}", stored.info.size, word(&stored.change)))
        }
        Call::Delete { key, matches } => {
            let etag = matches.map(|right| etag(store, KEYS[*key], right));
            store.delete(KEYS[*key], etag.as_deref()).map(|gone| format!("{gone:?}"))
        }
        Call::List { folder, recursive, after } => {
            let listed = store.list(FOLDERS[*folder], *recursive, after.as_deref());
            listed.map(|entries| {
                let places =
                    entries.iter().map(|entry| format!("{} {}", entry.place(), entry.size));
                places.collect::<Vec<_>>().join(", ")
            })
        }
        Call::Prepare(folder) => {
            store.prepare(&[FOLDERS[*folder].to_owned()]).map(|()| String::new())
        }
    };
    outcome.map_err(|failure| match failure {
        Failure::Invalid(_) => "invalid".to_owned(),
        Failure::ChecksumMismatch(actual) => format!("mismatch: {}", actual.unwrap_or_default()),
        other => format!("{other:?}").trim_start_matches("Failure::").to_owned(),
    })
}

fn theirs(store: &HostStore, call: &Call) -> Outcome {
    let etag = |key: &Key, right: bool| match now(store.head(key)) {
        Ok(info) if right => info.etag,
        _ => "another".to_owned(),
    };
    let options = |key: &Key, when| host::PutOptions {
        condition: match when {
            When::Always => host::Condition::Always,
            When::Absent => host::Condition::Absent,
            When::AbsentOrIdentical => host::Condition::AbsentOrIdentical,
            When::Matches(right) => host::Condition::Matches(etag(key, right)),
        },
        ..host::PutOptions::default()
    };
    let outcome = || match call {
        Call::Put { key, bytes, when, hash, until } => {
            let key = Key::new(KEYS[*key])?;
            let mut options = options(&key, *when);
            options.sha256 = sha256(bytes, *hash);
            options.expires = match until {
                Until::Never => None,
                Until::Now => Some(expiry::time(0)),
                Until::Later => Some(expiry::time(1)),
            };
            let stored = now(store.put(&key, host::Body::from_bytes(bytes.clone()), options))?;
            Ok(format!("{} bytes, {}", stored.info.size, host_word(stored.change)))
        }
        Call::Concat { key, pieces, when } => {
            let key = Key::new(KEYS[*key])?;
            let piece = |(key, part): &(usize, Part)| {
                let part = match *part {
                    Part::Whole => host::Part::Whole,
                    Part::Slice((offset, length)) => host::Part::Slice { offset, length },
                    Part::Suffix(length) => host::Part::Suffix(length),
                };
                Ok(host::Piece { key: Key::new(KEYS[*key])?, part })
            };
            let pieces = pieces.iter().map(piece).collect::<host::Result<Vec<_>>>()?;
            let stored = now(store.concat(&key, &pieces, options(&key, *when)))?;
            Ok(format!("{} bytes, {}", stored.info.size, host_word(stored.change)))
        }
        Call::Rename { key, to, when } => {
            let (key, to) = (Key::new(KEYS[*key])?, Key::new(KEYS[*to])?);
            let condition = options(&to, *when).condition;
            let options = host::RenameOptions { condition, ..Default::default() };
            let stored = now(store.rename(&key, &to, options))?;
            Ok(format!("{} bytes, {}", stored.info.size, host_word(stored.change)))
        }
        Call::Delete { key, matches } => {
            let key = Key::new(KEYS[*key])?;
            let matches = matches.map(|right| etag(&key, right));
            let options = host::DeleteOptions { matches, observer: None };
            Ok(format!("{:?}", now(store.delete_with(&key, options))?))
        }
        Call::List { folder, recursive, after } => {
            let folder = Folder::new(FOLDERS[*folder])?;
            let mut listing = now(store.list_after(&folder, *recursive, after.as_deref()))?;
            let entries = now(listing.next(1000))?;
            let places = entries.iter().map(|entry| format!("{} {}", entry.sort_key(), entry.size));
            Ok(places.collect::<Vec<_>>().join(", "))
        }
        Call::Prepare(folder) => {
            now(store.prepare(&[Folder::new(FOLDERS[*folder])?]))?;
            Ok(String::new())
        }
    };
    outcome().map_err(|error| match error {
        host::StoreError::NotFound => "NotFound".to_owned(),
        host::StoreError::AlreadyExists => "AlreadyExists".to_owned(),
        host::StoreError::PreconditionFailed => "PreconditionFailed".to_owned(),
        host::StoreError::ChecksumMismatch { actual, .. } => format!("mismatch: {actual}"),
        host::StoreError::OutOfRange { size } => format!("OutOfRange({size})"),
        host::StoreError::Invalid(_) => "invalid".to_owned(),
        other => other.to_string(),
    })
}

fn sha256(bytes: &[u8], hash: Hash) -> Option<[u8; 32]> {
    match hash {
        Hash::None => None,
        Hash::Right => Some(Sha256::digest(bytes).into()),
        Hash::Wrong => Some([0; 32]),
    }
}

fn word(change: &Change) -> String {
    match change {
        Change::Created => "created".to_owned(),
        Change::Replaced(size) => format!("replaced {size}"),
        Change::Unchanged => "unchanged".to_owned(),
    }
}

fn host_word(change: host::Change) -> String {
    word(&match change {
        host::Change::Created => Change::Created,
        host::Change::Replaced { size } => Change::Replaced(size),
        host::Change::Unchanged => Change::Unchanged,
    })
}

/// The gateway's memory store never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn both_memory_stores_give_the_same_answers(calls in proptest::collection::vec(call(), 0..30)) {
        let clock = Clock::stopped_at(expiry::time(0));
        let (mut our, their) = (MemoryStore::default(), HostStore::with_clock(clock));
        for call in calls {
            prop_assert_eq!(ours(&mut our, &call), theirs(&their, &call), "{:?}", call);
        }
    }
}

#[test]
fn identical_bytes_with_a_wrong_hash_are_other_bytes() {
    let mut store = MemoryStore::default();
    store.set("a", b"x");
    let options = PutOptions::absent_or_identical().sha256(&"0".repeat(64));
    let outcome = store.put("a", || Ok(b"x".to_vec()), &options, None);
    assert_eq!(outcome.unwrap_err(), Failure::AlreadyExists);
}

#[test]
fn limits_are_those_of_the_contract() {
    let mut store = MemoryStore::default();
    let mut put = |options: PutOptions| store.put("a", || Ok(Vec::new()), &options, None);
    let kept = PutOptions::replace().content_type("a/b").metadata("x", "y").tag("Some", "Tag");
    let info = put(kept).unwrap().info;
    assert_eq!(info.content_type.as_deref(), Some("a/b"));
    assert_eq!((info.metadata[0].0.as_str(), info.tags[0].1.as_str()), ("x", "Tag"));
    for wrong in [
        PutOptions::replace().metadata("Upper", "y"),
        PutOptions::replace().metadata("x", &"y".repeat(1792)),
        PutOptions::replace().metadata("x", "1").metadata("x", "2"),
        PutOptions::replace().metadata("keepgate-x", "y"),
        PutOptions::replace().tag("x", "a&b"),
        (0..11).fold(PutOptions::replace(), |options, n| options.tag(&n.to_string(), "x")),
        PutOptions::replace().content_type("a\nb"),
    ] {
        assert!(matches!(put(wrong.clone()), Err(Failure::Invalid(_))), "{wrong:?}");
    }
}

#[test]
fn an_append_only_store_denies() {
    let mut store = MemoryStore::default();
    store.set("a", b"x");
    store.append_only(|_| false);
    let etag = store.head("a").unwrap().etag;
    for options in [PutOptions::replace(), PutOptions::matches(&etag)] {
        let outcome = store.put("a", || Ok(Vec::new()), &options, None);
        assert!(matches!(outcome, Err(Failure::Denied(_))), "{outcome:?}");
    }
    assert!(matches!(store.delete("a", Some(&etag)), Err(Failure::Denied(_))));
    let condition = Condition::AbsentOrIdentical;
    let again = PutOptions { condition, ..PutOptions::replace() };
    assert_eq!(
        store.put("a", || Ok(b"x".to_vec()), &again, None).unwrap().change,
        Change::Unchanged
    );
}
