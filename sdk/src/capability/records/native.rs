//! A table in memory, with the host's limits.

use std::collections::{BTreeMap, BTreeSet};

use super::contract::{Change, Comparison, Expected};
use super::{MAX_OPERATIONS, MAX_PAGE, Page, Range, Record};
use crate::Failure;
use crate::testing::{Host, with};

/// The longest key and value, and the most of a commit, in bytes.
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 256 << 10;
const MAX_COMMIT: usize = 1 << 20;

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<String, (Vec<u8>, u64)>,
    revision: u64,
    /// What the next commit fails with.
    failing: Option<Failure>,
}

impl Table {
    fn get(&self, key: &str) -> Option<Record> {
        let (value, version) = self.entries.get(key)?;
        Some(Record { key: key.to_owned(), value: value.clone(), version: *version })
    }

    fn holds(&self, comparison: &Comparison) -> bool {
        let there = self.entries.get(&comparison.key).map(|(_, version)| *version);
        match comparison.expected {
            Expected::Absent => there.is_none(),
            Expected::Present => there.is_some(),
            Expected::Version(version) => there == Some(version),
        }
    }
}

pub(super) fn get(keys: &[String]) -> Result<Vec<Option<Record>>, Failure> {
    at_most(MAX_PAGE, keys.len(), "keys in one call")?;
    keys.iter().try_for_each(|key| check_key(key))?;
    Ok(with(|table: &mut Table| keys.iter().map(|key| table.get(key)).collect()))
}

pub(super) fn scan(range: &Range, max: u32) -> Result<Page, Failure> {
    let Range { prefix, after, descending } = range;
    let max = usize::try_from(max).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    Ok(with(|table: &mut Table| {
        let is_behind = |key: &&String| {
            let behind = |after: &String| if *descending { *key < after } else { *key > after };
            key.starts_with(prefix) && after.as_ref().is_none_or(behind)
        };
        let mut keys: Vec<&String> = table.entries.keys().filter(is_behind).collect();
        if *descending {
            keys.reverse();
        }
        let records = keys.iter().take(max).filter_map(|key| table.get(key)).collect();
        Page { records, more: keys.len() > max }
    }))
}

pub(super) fn commit(comparisons: &[Comparison], changes: &[Change]) -> Result<u64, Failure> {
    check(comparisons, changes)?;
    with(|table: &mut Table| {
        if let Some(failure) = table.failing.take() {
            return Err(failure);
        }
        if !comparisons.iter().all(|comparison| table.holds(comparison)) {
            return Err(Failure::PreconditionFailed);
        }
        table.revision += 1;
        for change in changes {
            match change {
                Change::Put((key, value)) => {
                    table.entries.insert(key.clone(), (value.clone(), table.revision));
                }
                Change::Delete(key) => drop(table.entries.remove(key)),
            }
        }
        Ok(table.revision)
    })
}

fn check(comparisons: &[Comparison], changes: &[Change]) -> Result<(), Failure> {
    at_most(MAX_OPERATIONS, comparisons.len(), "comparisons in one commit")?;
    at_most(MAX_OPERATIONS, changes.len(), "changes in one commit")?;
    let (mut keys, mut bytes) = (BTreeSet::new(), 0);
    for change in changes {
        let (key, length) = match change {
            Change::Put((key, value)) => (key, value.len()),
            Change::Delete(key) => (key, 0),
        };
        check_key(key)?;
        at_most(MAX_VALUE, length, "bytes in one value")?;
        if !keys.insert(key) {
            return Err(Failure::Invalid(format!("the key {key:?} is changed twice")));
        }
        bytes += key.len() + length;
    }
    for comparison in comparisons {
        check_key(&comparison.key)?;
        bytes += comparison.key.len();
    }
    at_most(MAX_COMMIT, bytes, "bytes in one commit")
}

fn check_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() || key.contains('\0') {
        return Err(Failure::Invalid(format!("{key:?} is no key of a record")));
    }
    at_most(MAX_KEY, key.len(), "bytes in one key")
}

fn at_most(limit: usize, count: usize, what: &str) -> Result<(), Failure> {
    match count > limit {
        true => Err(Failure::Invalid(format!("{count} {what}; at most {limit} are allowed"))),
        false => Ok(()),
    }
}

impl Host {
    /// The value of a record, if it exists.
    pub fn record(&self, key: &str) -> Option<Vec<u8>> {
        with(|table: &mut Table| table.entries.get(key).map(|(value, _)| value.clone()))
    }

    /// The keys of all records, in order.
    pub fn record_keys(&self) -> Vec<String> {
        with(|table: &mut Table| table.entries.keys().cloned().collect())
    }

    /// Makes the next commit fail.
    pub fn fail_commit(&self, failure: Failure) {
        with(|table: &mut Table| table.failing = Some(failure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{self, Commit};

    #[test]
    fn commits_are_made_as_a_whole_or_not_at_all() {
        let host = Host::new();
        let first = Commit::new().absent("a").put("a", b"1").put("b", b"2").run().unwrap();
        let a = records::get("a").unwrap().unwrap();
        assert_eq!((a.value.as_slice(), a.version), (&b"1"[..], first));
        let taken = Commit::new().absent("a").put("c", b"3").run();
        assert!(matches!(taken, Err(Failure::PreconditionFailed)));
        assert_eq!(host.record_keys(), ["a", "b"]);
        Commit::new().unchanged(&a).present("b").delete("b").put("a", b"4").run().unwrap();
        let stale = Commit::new().unchanged(&a).delete("a").run();
        assert!(matches!(stale, Err(Failure::PreconditionFailed)));
        assert_eq!(host.record("a").unwrap(), b"4");
        host.fail_commit(Failure::NoSpace);
        assert!(matches!(Commit::new().delete("a").run(), Err(Failure::NoSpace)));
        assert!(Commit::new().delete("a").run().is_ok());
    }

    #[test]
    fn scans_have_pages() {
        let _host = Host::new();
        for chunk in (0..1500).collect::<Vec<_>>().chunks(100) {
            let commit = chunk
                .iter()
                .fold(Commit::new(), |commit, number| commit.put(&format!("n/{number:04}"), b""));
            commit.run().unwrap();
        }
        Commit::new().put("o", b"").run().unwrap();
        let keys = |scan: records::Scan| scan.map(|record| record.unwrap().key).collect::<Vec<_>>();
        let all = keys(records::scan("n/"));
        assert_eq!((all.len(), all[0].as_str(), all[1499].as_str()), (1500, "n/0000", "n/1499"));
        assert_eq!(keys(records::scan("n/").after("n/1497")), ["n/1498", "n/1499"]);
        assert_eq!(keys(records::scan("n/").descending().after("n/0002")), ["n/0001", "n/0000"]);
        let page = records::scan("").page(2).unwrap();
        assert!(page.more && page.records.len() == 2);
    }

    #[test]
    fn limits_are_the_hosts() {
        let _host = Host::new();
        let many = (0..129).fold(Commit::new(), |commit, n| commit.put(&n.to_string(), b""));
        for commit in [
            many,
            Commit::new().put("", b""),
            Commit::new().put("a\0", b""),
            Commit::new().put(&"a".repeat(513), b""),
            Commit::new().put("a", &vec![0; MAX_VALUE + 1]),
            Commit::new().put("a", b"").delete("a"),
            (0..5).fold(Commit::new(), |commit, n| commit.put(&n.to_string(), &vec![0; MAX_VALUE])),
        ] {
            assert!(matches!(commit.run(), Err(Failure::Invalid(_))));
        }
        assert!(records::get_all(&vec!["a".to_owned(); 1001]).is_err());
    }
}
