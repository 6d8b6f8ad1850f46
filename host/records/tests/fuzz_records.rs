//! Files of records that a disk has damaged, and what plugins ask for: a damaged file is refused, or has the records of
//! one of its commits; keys, ranges and pages are those of a sorted map. `cargo xtask fuzz records` tries many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "../../../tests/fuzz/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use keepgate_records::{
    Change, Commit, FileError, MAX_KEY, Options, Range, Records, RecordsError, Table, Tables,
};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::Runtime;

use inputs::{config, edited, edits};

type Map = BTreeMap<String, Vec<u8>>;

/// redb's pages.
const PAGE: usize = 4096;

fn options() -> Options {
    Options { cache: 1 << 20, ..Options::default() }
}

/// Reading blocks on other threads, so that the runtime needs none of its own.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn put(key: &str, value: &[u8]) -> Change {
    Change::Put { key: key.to_owned(), value: value.to_vec() }
}

/// A file of records at two times, and what was in its tables after each commit.
struct Sample {
    earlier: Vec<u8>,
    later: Vec<u8>,
    /// Of the tables `/a` and `/b`, after each commit.
    states: Vec<[Map; 2]>,
    /// Places that are not zero, in the later file.
    used: Vec<usize>,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let mut states = vec![[Map::new(), Map::new()]];
    let earlier = grow(&path, 0..6, &mut states);
    let later = grow(&path, 6..12, &mut states);
    let used = (0..later.len()).filter(|at| later[*at] != 0).collect();
    Sample { earlier, later, states, used }
});

/// Makes these commits, and returns the file as it is when it is closed.
fn grow(path: &Path, commits: std::ops::Range<u8>, states: &mut Vec<[Map; 2]>) -> Vec<u8> {
    let runtime = runtime();
    let records = Records::open(path, options()).unwrap();
    for number in commits {
        let table = usize::from(number % 2);
        let mut state = states.last().unwrap().clone();
        let long = vec![number; 700 * usize::from(number)];
        let mut changes = vec![put(&format!("key/{number}"), &long), put("same", &[number])];
        if number >= 4 {
            changes.push(Change::Delete { key: format!("key/{}", number - 4) });
        }
        for change in &changes {
            match change {
                Change::Put { key, value } => drop(state[table].insert(key.clone(), value.clone())),
                Change::Delete { key } => drop(state[table].remove(key)),
            }
        }
        let commit = Commit { compares: Vec::new(), changes };
        runtime.block_on(records.table(["/a", "/b"][table]).commit(commit)).unwrap();
        states.push(state);
    }
    drop(records);
    closed(path);
    std::fs::read(path).unwrap()
}

/// Waits until the thread that writes has closed the file. redb itself has none, so that it is closed then.
fn closed(path: &Path) {
    let until = Instant::now() + Duration::from_secs(30);
    while redb::Database::open(path).is_err() {
        assert!(Instant::now() < until, "the file is never closed");
        std::thread::yield_now();
    }
}

/// What a disk does to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// A bit at a place that is in use.
    Bit(Index, u8),
    /// A byte at a place that is in use.
    Byte(Index, u8),
    /// A page that is empty.
    Zero(Index),
    /// A page as it was earlier.
    Stale(Index),
    /// A page at the place of another.
    Misplaced(Index, Index),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), 0..8_u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => place().prop_map(Damage::Zero),
        2 => place().prop_map(Damage::Stale),
        1 => (place(), place()).prop_map(|(from, to)| Damage::Misplaced(from, to)),
        1 => place().prop_map(Damage::Cut),
    ]
}

fn damaged(damages: &[Damage]) -> Vec<u8> {
    let sample = &*SAMPLE;
    let mut bytes = sample.later.clone();
    for damage in damages {
        let used = |at: &Index| sample.used[at.index(sample.used.len())];
        let page = |at: &Index| used(at) / PAGE * PAGE;
        let copy = |bytes: &mut Vec<u8>, from: &[u8], to: usize| {
            let length = from.len().min(bytes.len().saturating_sub(to));
            if length > 0 {
                bytes[to..to + length].copy_from_slice(&from[..length]);
            }
        };
        match damage {
            Damage::Bit(at, bit) => {
                let at = used(at);
                copy(&mut bytes, &[sample.later[at] ^ (1 << bit)], at);
            }
            Damage::Byte(at, byte) => copy(&mut bytes, &[*byte], used(at)),
            Damage::Zero(at) => copy(&mut bytes, &[0; PAGE], page(at)),
            Damage::Stale(at) => {
                let page = page(at);
                let was = sample.earlier.get(page..page + PAGE).unwrap_or_default();
                copy(&mut bytes, was, page);
            }
            Damage::Misplaced(from, to) => {
                let from = page(from);
                copy(&mut bytes, &sample.later[from..from + PAGE], page(to));
            }
            Damage::Cut(at) => bytes.truncate(at.index(sample.later.len() + 1)),
        }
    }
    bytes
}

/// All records of a table, page by page.
fn all(runtime: &Runtime, table: &dyn Table, descending: bool) -> Result<Map, RecordsError> {
    let (mut found, mut after) = (Map::new(), None);
    loop {
        let range = Range { prefix: String::new(), after, descending };
        let page = runtime.block_on(table.scan(&range, 2))?;
        after = page.records.last().map(|record| record.key.clone());
        found.extend(page.records.into_iter().map(|record| (record.key, record.value)));
        if !page.more {
            return Ok(found);
        }
    }
}

/// Opens these bytes as a file of records. What can be read of it must be what a commit left, and usable.
fn open(bytes: &[u8]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    std::fs::write(&path, bytes).unwrap();
    let records = match Records::open(&path, options()) {
        Ok(records) => records,
        Err(FileError::Damaged { .. } | FileError::Version { .. }) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
    };
    let runtime = runtime();
    let tables: Vec<Arc<dyn Table>> = ["/a", "/b"].map(|name| records.table(name)).into();
    let read = |descending| -> Result<Vec<Map>, RecordsError> {
        tables.iter().map(|table| all(&runtime, &**table, descending)).collect()
    };
    let found = read(false);
    prop_assert!(found.is_ok(), "a file that opens can be read: {found:?}");
    let found = found.unwrap();
    let reversed = read(true);
    prop_assert_eq!(reversed.as_ref(), Ok(&found), "both directions have the same records");
    let known = SAMPLE.states.iter().any(|state| state[..] == found[..]);
    prop_assert!(known, "no commit left these records: {:?}", found);
    for (table, found) in tables.iter().zip(&found) {
        let size = runtime.block_on(table.size()).unwrap();
        prop_assert_eq!(usize::try_from(size.records), Ok(found.len()));
        let commit = Commit { compares: Vec::new(), changes: vec![put("new", b"new")] };
        let made = runtime.block_on(table.commit(commit));
        prop_assert!(made.is_ok(), "a file that opens can be written: {made:?}");
    }
    Ok(())
}

/// Parts of keys: what sorts next to each other, and the ends of what text can be.
fn text() -> impl Strategy<Value = String> {
    let letter = prop::sample::select(
        &["a", "b", "/", "é", "\u{7f}", "\u{d7ff}", "\u{e000}", "\u{10ffff}", "\u{1}"][..],
    );
    let short = prop::collection::vec(letter, 0..4).prop_map(|letters| letters.concat());
    prop_oneof![
        30 => short,
        1 => (MAX_KEY - 1..MAX_KEY + 2).prop_map(|length| "a".repeat(length)),
        1 => Just("a\0b".to_owned()),
    ]
}

fn is_text(text: &str) -> bool {
    text.len() <= MAX_KEY && !text.contains('\0')
}

fn range() -> impl Strategy<Value = Range> {
    (text(), prop::option::of(text()), any::<bool>())
        .prop_map(|(prefix, after, descending)| Range { prefix, after, descending })
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn a_damaged_file_is_refused_or_has_the_records_of_a_commit(
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        open(&damaged(&damages))?;
    }

    #[test]
    fn any_other_file_is_refused_or_has_the_records_of_a_commit(
        edits in edits(&[b"redb", b"\x1a\x0a\xa9\x0d\x0a", b"records"]),
        beginning: bool,
        length in 0..9000_usize,
    ) {
        let sample = &SAMPLE.later;
        let kept = if beginning { length.min(sample.len()) } else { sample.len() };
        open(&edited(&sample[..kept], &edits))?;
    }
}

proptest! {
    #![proptest_config(config(30))]

    /// Pages of any size, one after another, have exactly the keys of a range, whatever the keys are.
    #[test]
    fn ranges_and_pages_are_those_of_a_sorted_map(
        keys in prop::collection::vec(text(), 0..12),
        ranges in prop::collection::vec((range(), 0..5_usize), 1..8),
    ) {
        let runtime = runtime();
        let records = Records::in_memory(options()).unwrap();
        // Neighbours, whose keys must not be found.
        let tables = ["/a", "/", "/a/b", "/a\u{1}"].map(|name| records.table(name));
        let mut model = Map::new();
        for (number, key) in keys.iter().enumerate() {
            let value = number.to_string().into_bytes();
            for table in &tables[1..] {
                let commit = Commit { compares: vec![], changes: vec![put(key, b"another")] };
                let _ = runtime.block_on(table.commit(commit));
            }
            let commit = Commit { compares: vec![], changes: vec![put(key, &value)] };
            let made = runtime.block_on(tables[0].commit(commit));
            if is_text(key) && !key.is_empty() {
                prop_assert!(made.is_ok(), "{:?}", made);
                model.insert(key.clone(), value);
            } else {
                prop_assert!(matches!(made, Err(RecordsError::Invalid(_))), "{:?}", made);
            }
            let got = runtime.block_on(tables[0].get(std::slice::from_ref(key)));
            let got = got.map(|mut found| found.remove(0).map(|record| record.value));
            prop_assert_eq!(got.unwrap_or_default(), model.get(key).cloned());
        }
        for (range, max) in ranges {
            let valid = is_text(&range.prefix) && range.after.as_deref().is_none_or(is_text);
            let is_behind = |key: &str| range.after.as_deref().is_none_or(|after| {
                if range.descending { key < after } else { key > after }
            });
            let mut expected: Vec<(&String, &Vec<u8>)> = model
                .iter()
                .filter(|(key, _)| key.starts_with(&range.prefix) && is_behind(key))
                .collect();
            if range.descending {
                expected.reverse();
            }
            let (mut found, mut next) = (Vec::new(), range.clone());
            loop {
                let page = match runtime.block_on(tables[0].scan(&next, max)) {
                    Ok(page) => page,
                    Err(error) => {
                        prop_assert!(!valid && matches!(error, RecordsError::Invalid(_)), "{:?}", error);
                        break;
                    }
                };
                prop_assert!(valid && page.records.len() <= max.max(1));
                prop_assert!(!page.more || !page.records.is_empty(), "an empty page that is not the last");
                next.after = page.records.last().map(|record| record.key.clone());
                found.extend(page.records.into_iter().map(|record| (record.key, record.value)));
                if !page.more {
                    let expected: Vec<_> = expected.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                    prop_assert_eq!(&found, &expected, "{:?}", range);
                    break;
                }
            }
        }
    }
}
