//! The suite that every engine passes, run with the embedded one, on disk and in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use keepgate_records::{
    Change, Commit, Compare, Expected, MAX_PAGE, Options, RECORD_BYTES, Range, Records,
    RecordsError, Size, Table, Tables,
};
use proptest::prelude::*;
use tempfile::TempDir;

fn options() -> Options {
    Options { cache: 1 << 20, ..Options::default() }
}

/// A table and the engine's name.
type Named = (&'static str, Arc<dyn Table>);

/// A table on disk, another one in memory, and their names in messages.
fn tables() -> (TempDir, Vec<Named>) {
    let folder = tempfile::tempdir().unwrap();
    let file = Records::open(&folder.path().join("records"), options()).unwrap();
    let memory = Records::in_memory(options()).unwrap();
    let tables = vec![("file", file.table("/a")), ("memory", memory.table("/a"))];
    (folder, tables)
}

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

fn delete(key: &str) -> Change {
    Change::Delete { key: key.to_owned() }
}

fn compare(key: &str, expected: Expected) -> Compare {
    Compare { key: key.to_owned(), expected }
}

fn commit(compares: Vec<Compare>, changes: Vec<Change>) -> Commit {
    Commit { compares, changes }
}

async fn value(table: &dyn Table, key: &str) -> Option<String> {
    let found = table.get(&[key.to_owned()]).await.unwrap().remove(0);
    found.map(|record| String::from_utf8(record.value).unwrap())
}

async fn keys(table: &dyn Table, range: Range, max: usize) -> (Vec<String>, bool) {
    let page = table.scan(&range, max).await.unwrap();
    (page.records.into_iter().map(|record| record.key).collect(), page.more)
}

#[tokio::test]
async fn a_commit_is_made_as_a_whole_or_not_at_all() {
    for (engine, table) in tables().1 {
        let first = table.commit(commit(vec![], vec![put("a", "1"), put("b", "2")])).await.unwrap();
        let stale = vec![compare("a", Expected::Version(first + 1))];
        let refused = table.commit(commit(stale, vec![put("a", "x"), put("c", "x")])).await;
        assert_eq!(refused, Err(RecordsError::Conflict("a".to_owned())), "{engine}");
        assert_eq!(value(&*table, "a").await.as_deref(), Some("1"));
        assert_eq!(value(&*table, "c").await, None);
        let right = vec![
            compare("a", Expected::Version(first)),
            compare("b", Expected::Present),
            compare("c", Expected::Absent),
        ];
        let second = table.commit(commit(right, vec![put("a", "3"), delete("b")])).await.unwrap();
        assert!(second > first);
        let found = table.get(&["b".to_owned(), "a".to_owned()]).await.unwrap();
        assert_eq!(found[0], None);
        assert_eq!(found[1].as_ref().unwrap().version, second);
        for (expected, key) in [(Expected::Present, "b"), (Expected::Absent, "a")] {
            let refused = table.commit(commit(vec![compare(key, expected)], vec![])).await;
            assert_eq!(refused, Err(RecordsError::Conflict(key.to_owned())), "{engine}");
        }
        assert!(table.commit(commit(vec![], vec![delete("never")])).await.is_ok());
        assert_eq!(table.size().await.unwrap(), Size { records: 1, bytes: 2 });
    }
}

#[tokio::test]
async fn a_scan_has_a_prefix_a_beginning_a_direction_and_an_end() {
    for (engine, table) in tables().1 {
        let all = ["a", "b/1", "b/2", "b/3", "b0", "bé", "c"].map(|key| put(key, "v"));
        table.commit(commit(vec![], all.to_vec())).await.unwrap();
        let range = |prefix: &str, after: Option<&str>, descending| Range {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            descending,
        };
        for (range, max, expected, more) in [
            (range("b/", None, false), 9, &["b/1", "b/2", "b/3"][..], false),
            (range("b/", None, false), 3, &["b/1", "b/2", "b/3"], false),
            (range("b/", None, false), 2, &["b/1", "b/2"], true),
            (range("b/", Some("b/2"), false), 9, &["b/3"], false),
            (range("b/", Some("b/"), false), 1, &["b/1"], true),
            (range("b/", Some("a"), false), 1, &["b/1"], true),
            (range("b/", Some("z"), false), 9, &[], false),
            (range("b/", None, true), 9, &["b/3", "b/2", "b/1"], false),
            (range("b/", None, true), 2, &["b/3", "b/2"], true),
            (range("b/", Some("b/3"), true), 9, &["b/2", "b/1"], false),
            (range("b/", Some("z"), true), 1, &["b/3"], true),
            (range("", None, false), 9, &["a", "b/1", "b/2", "b/3", "b0", "bé", "c"], false),
            (range("", None, true), 1, &["c"], true),
            (range("d", None, false), 9, &[], false),
            (range("d", None, true), 9, &[], false),
        ] {
            let (found, is_more) = keys(&*table, range.clone(), max).await;
            assert_eq!(found, expected, "{engine} {range:?}");
            assert_eq!(is_more, more, "{engine} {range:?}");
        }
    }
}

#[tokio::test]
async fn long_values_make_short_pages() {
    for (engine, table) in tables().1 {
        for number in 0..8 {
            let long = Change::Put { key: number.to_string(), value: vec![0; 256 << 10] };
            table.commit(commit(vec![], vec![long])).await.unwrap();
        }
        let (first, more) = keys(&*table, Range::default(), 100).await;
        assert!(more && first.len() == 4, "{engine}: {}", first.len());
    }
}

#[tokio::test]
async fn tables_do_not_meet() {
    let records = Records::in_memory(options()).unwrap();
    let (one, two) = (records.table("/a"), records.table("/a/b"));
    one.commit(commit(vec![], vec![put("b/k", "one"), put("z", "one")])).await.unwrap();
    two.commit(commit(vec![], vec![put("k", "two")])).await.unwrap();
    assert_eq!(keys(&*one, Range::default(), 9).await.0, ["b/k", "z"]);
    assert_eq!(keys(&*two, Range::default(), 9).await.0, ["k"]);
    let last = Range { descending: true, ..Range::default() };
    assert_eq!(keys(&*one, last.clone(), 1).await.0, ["z"]);
    assert_eq!(keys(&*two, last, 9).await.0, ["k"]);
    assert_eq!(one.size().await.unwrap(), Size { records: 2, bytes: 10 });
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    for (engine, table) in tables().1 {
        let many = vec!["k".to_owned(); MAX_PAGE + 1];
        assert!(matches!(table.get(&many).await, Err(RecordsError::Invalid(_))), "{engine}");
        for key in ["", "a\0b"] {
            let got = table.get(&[key.to_owned()]).await;
            assert!(matches!(got, Err(RecordsError::Invalid(_))), "{engine} {key:?}");
            let made = table.commit(commit(vec![], vec![put(key, "v")])).await;
            assert!(matches!(made, Err(RecordsError::Invalid(_))), "{engine} {key:?}");
        }
    }
}

#[tokio::test]
async fn a_full_table_still_shrinks() {
    let most = 2 * RECORD_BYTES + 10;
    let records = Records::in_memory(Options { max_size: most, ..options() }).unwrap();
    let table = records.table("/a");
    table.commit(commit(vec![], vec![put("a", "12345678")])).await.unwrap();
    let full = table.commit(commit(vec![], vec![put("b", "1")])).await.unwrap_err();
    assert!(
        matches!(&full, RecordsError::QuotaExceeded(why) if why.contains("138 bytes") && why.contains("of the 2 records")),
        "{full}"
    );
    assert_eq!(table.size().await.unwrap(), Size { records: 1, bytes: 9 });
    table.commit(commit(vec![], vec![put("a", "1"), put("b", "1")])).await.unwrap();
    // A record that is empty is one more, too.
    let full = table.commit(commit(vec![], vec![put("c", "")])).await.unwrap_err();
    assert!(matches!(full, RecordsError::QuotaExceeded(_)), "{full}");
    table.commit(commit(vec![], vec![delete("a")])).await.unwrap();
    assert_eq!(table.size().await.unwrap(), Size { records: 1, bytes: 2 });
}

/// Of many that compare with the same version, one wins; and a counter that all of them raise loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn commits_at_the_same_time_are_made_one_after_another() {
    for (engine, table) in tables().1 {
        let raise = |table: Arc<dyn Table>| async move {
            loop {
                let there = table.get(&["n".to_owned()]).await.unwrap().remove(0);
                let (expected, number) = match &there {
                    None => (Expected::Absent, 0),
                    Some(record) => {
                        let text = std::str::from_utf8(&record.value).unwrap();
                        (Expected::Version(record.version), text.parse::<u32>().unwrap())
                    }
                };
                let next = put("n", &(number + 1).to_string());
                match table.commit(commit(vec![compare("n", expected)], vec![next])).await {
                    Ok(_) => break,
                    Err(RecordsError::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let all: Vec<_> = (0..100).map(|_| tokio::spawn(raise(Arc::clone(&table)))).collect();
        for one in all {
            one.await.unwrap();
        }
        assert_eq!(value(&*table, "n").await.as_deref(), Some("100"), "{engine}");
    }
}

#[tokio::test]
async fn records_are_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    // No file is made for those who need none.
    drop(Records::open(&path, options()).unwrap());
    assert!(!path.exists());
    let revision = {
        let table = Records::open(&path, options()).unwrap().table("/a");
        table.commit(commit(vec![], vec![put("a", "1")])).await.unwrap()
    };
    let records = reopened(&path);
    let table = records.table("/a");
    assert_eq!(table.get(&["a".to_owned()]).await.unwrap()[0].as_ref().unwrap().version, revision);
    let next = table.commit(commit(vec![], vec![put("a", "2")])).await.unwrap();
    assert!(next > revision, "revisions go on");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = Records::open(&path, options()).unwrap_err().to_string();
    assert!(second.contains("in use by another gateway"), "{second}");
}

/// The thread that writes may hold the file for a moment longer.
fn reopened(path: &Path) -> Records {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Records::open(path, options()) {
            Ok(records) => return records,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    std::fs::write(&path, "not a database").unwrap();
    let refused = Records::open(&path, options()).unwrap_err().to_string();
    assert!(refused.contains("cannot be read as a file of records"), "{refused}");
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>, Option<(u8, bool)>),
    Scan(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..6_u8, prop::option::of(any::<u8>()));
    let changes = prop::collection::btree_map(0..6_u8, change.prop_map(|(_, value)| value), 0..4);
    let compare = prop::option::of((0..6_u8, any::<bool>()));
    prop_oneof![
        (changes, compare)
            .prop_map(|(changes, compare)| Step::Commit(changes.into_iter().collect(), compare)),
        (0..6_u8, any::<bool>()).prop_map(|(after, descending)| Step::Scan(after, descending)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A table does what a map would do.
    #[test]
    fn a_table_is_a_map(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let table = Records::in_memory(options()).unwrap().table("/a");
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(changes, wanted) => {
                    let compares = wanted.map(|(key, present)| {
                        let expected = if present { Expected::Present } else { Expected::Absent };
                        compare(&key.to_string(), expected)
                    });
                    let holds = wanted.is_none_or(|(key, present)| model.contains_key(&key.to_string()) == present);
                    let made = changes.iter().map(|(key, value)| match value {
                        Some(value) => Change::Put { key: key.to_string(), value: vec![*value] },
                        None => delete(&key.to_string()),
                    });
                    let wanted = commit(compares.into_iter().collect(), made.collect());
                    let outcome = runtime.block_on(table.commit(wanted));
                    prop_assert_eq!(outcome.is_ok(), holds);
                    if holds {
                        for (key, value) in changes {
                            match value {
                                Some(value) => drop(model.insert(key.to_string(), vec![value])),
                                None => drop(model.remove(&key.to_string())),
                            }
                        }
                    }
                }
                Step::Scan(after, descending) => {
                    let range = Range { prefix: String::new(), after: Some(after.to_string()), descending };
                    let found = runtime.block_on(table.scan(&range, 100)).unwrap().records;
                    let found: Vec<_> = found.into_iter().map(|record| (record.key, record.value)).collect();
                    let mut expected: Vec<_> =
                        model.clone().into_iter().filter(|(key, _)| range.contains(key)).collect();
                    if descending {
                        expected.reverse();
                    }
                    prop_assert_eq!(found, expected);
                }
            }
            let size = runtime.block_on(table.size()).unwrap();
            prop_assert_eq!(usize::try_from(size.records), Ok(model.len()));
        }
    }
}
