//! The file of records: its keys and values. Everything here blocks. Any change of the layout needs a new version in
//! [`FORMAT`], and a migration from this one.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use keepgate_datafile::{DataFile, FileError, Format, IfMissing};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition};

use crate::error::RecordsError;
use crate::record::{
    Change, Commit, MAX_PAGE, PAGE_BYTES, Page, RECORD_BYTES, Range, Record, Size,
};

/// By table and key: the version, and the value.
const RECORDS: TableDefinition<'_, (&str, &str), (u64, &[u8])> = TableDefinition::new("records");
/// By table: the number of records, and the bytes of their keys and values.
const SIZES: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("sizes");
/// One entry, without a name: the revision of the last commit.
const REVISION: TableDefinition<'_, (), u64> = TableDefinition::new("revision");

const FORMAT: Format = Format {
    contents: "records",
    version: "1",
    table: "records",
    create_tables: |transaction| {
        transaction.open_table(RECORDS)?;
        transaction.open_table(SIZES)?;
        transaction.open_table(REVISION)?;
        Ok(())
    },
    other_version: "use the gateway that wrote it",
    damaged: "put a copy of it in its place: it says what belongs together",
};

/// A commit to a table, and how many bytes the table may have then.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) table: Arc<str>,
    pub(crate) commit: Commit,
    pub(crate) most: u64,
}

/// An open file, or memory that is used like one.
#[derive(Debug)]
pub(crate) struct RecordsFile(DataFile);

impl RecordsFile {
    /// Opens the file if it is there; its first use creates it otherwise. `cache` are the bytes of pages that are kept in
    /// memory.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<Self, FileError> {
        DataFile::open(path, FORMAT, cache, IfMissing::CreateWhenUsed).map(Self)
    }

    pub(crate) fn in_memory() -> Result<Self, FileError> {
        DataFile::in_memory(FORMAT, 0).map(Self)
    }

    pub(crate) fn get(
        &self,
        table: &str,
        keys: &[String],
        admits: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Option<Record>>, RecordsError> {
        let mut all_admitted = true;
        let found = self.with("cannot read", |database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut all = Vec::with_capacity(keys.len());
            for key in keys {
                let found = records.get((table, key.as_str()))?;
                let value = found.as_ref().map(redb::AccessGuard::value);
                let size = value.map_or(0, |(_, value)| value.len()) + key.len();
                all_admitted = admits((size + size_of::<Option<Record>>()) as u64);
                if !all_admitted {
                    break;
                }
                all.push(value.map(|(version, value)| Record {
                    key: key.clone(),
                    value: value.to_vec(),
                    version,
                }));
            }
            Ok(all)
        });
        if all_admitted { found } else { Err(RecordsError::NotAdmitted) }
    }

    pub(crate) fn scan(
        &self,
        table: &str,
        range: &Range,
        max: usize,
    ) -> Result<Page, RecordsError> {
        let max = max.clamp(1, MAX_PAGE);
        self.with("cannot read", |database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let (mut page, mut bytes) = (Page::default(), 0);
            let within = Within::new(table, range);
            let Some(bounds) = within.bounds() else { return Ok(page) };
            let mut entries = records.range::<(&str, &str)>(bounds)?;
            loop {
                let entry = if range.descending { entries.next_back() } else { entries.next() };
                let Some(entry) = entry else { break };
                let (found, value) = entry?;
                let (_, key) = found.value();
                if page.records.len() == max || bytes >= PAGE_BYTES {
                    page.more = true;
                    break;
                }
                let (version, value) = value.value();
                bytes += key.len() + value.len();
                page.records.push(Record { key: key.to_owned(), value: value.to_vec(), version });
            }
            Ok(page)
        })
    }

    pub(crate) fn size(&self, table: &str) -> Result<Size, RecordsError> {
        self.with("cannot read", |database| {
            let sizes = database.begin_read()?.open_table(SIZES)?;
            let (records, bytes) = sizes.get(table)?.map(|size| size.value()).unwrap_or_default();
            Ok(Size { records, bytes })
        })
    }

    /// All tables with their sizes.
    pub(crate) fn sizes(&self) -> Result<Vec<(String, Size)>, RecordsError> {
        self.with("cannot read", |database| {
            let sizes = database.begin_read()?.open_table(SIZES)?;
            let mut all = Vec::new();
            for entry in sizes.iter()? {
                let (name, size) = entry?;
                let (records, bytes) = size.value();
                all.push((name.value().to_owned(), Size { records, bytes }));
            }
            Ok(all)
        })
    }

    /// Makes commits in order, each as a whole or not at all, and then makes them durable together. What came of each is
    /// known only then: if that fails, all of them fail.
    pub(crate) fn commit(
        &self,
        all: &[Wanted],
    ) -> Result<Vec<Result<u64, RecordsError>>, RecordsError> {
        self.with("cannot write", |database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let outcomes = {
                let mut tables = Tables {
                    records: transaction.open_table(RECORDS)?,
                    sizes: transaction.open_table(SIZES)?,
                    revision: transaction.open_table(REVISION)?,
                };
                all.iter().map(|wanted| tables.make(wanted)).collect::<Result<Vec<_>, _>>()?
            };
            if outcomes.iter().any(Result::is_ok) {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok(outcomes)
        })
    }

    fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, RecordsError> {
        self.0.with(action, work).map_err(|error| {
            tracing::error!(%error, "records cannot be used");
            if error.is_full() { RecordsError::NoSpace } else { RecordsError::Unavailable }
        })
    }
}

/// The tables of a transaction.
struct Tables<'a> {
    records: Table<'a, (&'static str, &'static str), (u64, &'static [u8])>,
    sizes: Table<'a, &'static str, (u64, u64)>,
    revision: Table<'a, (), u64>,
}

impl Tables<'_> {
    /// Makes one commit, if its comparisons hold and the table stays as small as it must.
    fn make(&mut self, wanted: &Wanted) -> Result<Result<u64, RecordsError>, redb::Error> {
        let Wanted { table, commit, most } = wanted;
        for compare in &commit.compares {
            let there = self.records.get((&**table, compare.key.as_str()))?;
            if !compare.expected.holds(there.map(|there| there.value().0)) {
                return Ok(Err(RecordsError::Conflict(compare.key.clone())));
            }
        }
        let size = self.sizes.get(&**table)?.map(|size| size.value()).unwrap_or_default();
        let size = self.size_after(table, &commit.changes, size)?;
        let adds = commit.changes.iter().any(|change| matches!(change, Change::Put { .. }));
        let charged = size.1.saturating_add(size.0.saturating_mul(RECORD_BYTES));
        if adds && charged > *most {
            return Ok(Err(RecordsError::QuotaExceeded(format!(
                "the mount's records may have {most} bytes, and would have {charged}, {RECORD_BYTES} for each of the {} \
                 records included",
                size.0
            ))));
        }
        let revision = self.revision.get(())?.map_or(0, |revision| revision.value()) + 1;
        for change in &commit.changes {
            match change {
                Change::Put { key, value } => {
                    self.records.insert((&**table, key.as_str()), (revision, value.as_slice()))?;
                }
                Change::Delete { key } => drop(self.records.remove((&**table, key.as_str()))?),
            }
        }
        self.sizes.insert(&**table, size)?;
        self.revision.insert((), revision)?;
        Ok(Ok(revision))
    }

    /// The number of records and of their bytes after these changes.
    fn size_after(
        &self,
        table: &str,
        changes: &[Change],
        (mut records, mut bytes): (u64, u64),
    ) -> Result<(u64, u64), redb::Error> {
        for change in changes {
            let key = change.key();
            if let Some(there) = self.records.get((table, key))? {
                records = records.saturating_sub(1);
                bytes = bytes.saturating_sub((key.len() + there.value().1.len()) as u64);
            }
            if let Change::Put { value, .. } = change {
                records += 1;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok((records, bytes))
    }
}

/// A table and a key.
type Place<'a> = (&'a str, &'a str);

/// Where a range is in the file: from the first bound to the second, without what they name if it is not included.
struct Within {
    low: (String, String),
    includes_low: bool,
    high: (String, String),
}

impl Within {
    fn new(table: &str, range: &Range) -> Self {
        let of = |key: String| (table.to_owned(), key);
        // Behind all keys of the table: no name contains NUL.
        let end = || (format!("{table}\0"), String::new());
        let mut within = Self {
            low: of(range.prefix.clone()),
            includes_low: true,
            high: behind(&range.prefix).map_or_else(end, of),
        };
        match &range.after {
            Some(after) if range.descending => {
                within.high = within.high.min(of(after.clone()));
            }
            Some(after) if *after >= range.prefix => {
                (within.low, within.includes_low) = (of(after.clone()), false);
            }
            _ => {}
        }
        within
    }

    /// None if nothing is between them.
    fn bounds(&self) -> Option<(Bound<Place<'_>>, Bound<Place<'_>>)> {
        let low = (self.low.0.as_str(), self.low.1.as_str());
        let high = (self.high.0.as_str(), self.high.1.as_str());
        let low_bound = if self.includes_low { Bound::Included(low) } else { Bound::Excluded(low) };
        (low < high).then_some((low_bound, Bound::Excluded(high)))
    }
}

/// The first text behind all that begin with a prefix; none if there is no end.
fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The next character, if there is one; there is none between the two halves of the surrogates.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_prefix_is_found() {
        for (prefix, expected) in [
            ("", None),
            ("a", Some("b")),
            ("a/", Some("a0")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(behind(prefix).as_deref(), expected, "{prefix:?}");
        }
    }
}
