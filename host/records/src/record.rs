//! What a record, a range and a commit are, and their limits. Every engine checks them here, so they are the same
//! everywhere.

use std::collections::BTreeSet;

use crate::error::RecordsError;

/// The longest key in bytes.
pub const MAX_KEY: usize = 512;
/// The longest value in bytes.
pub const MAX_VALUE: usize = 256 << 10;
/// The most comparisons of a commit, and the most changes.
pub const MAX_OPERATIONS: usize = 128;
/// The most bytes of all keys and values of a commit together.
pub const MAX_COMMIT: usize = 1 << 20;
/// The most records of a page, and of one `get`.
pub const MAX_PAGE: usize = 1000;
/// The bytes of keys and values after which a page ends.
pub const PAGE_BYTES: usize = 1 << 20;

/// What a record counts for besides its key and value, in bytes: about what it takes in the file.
pub const RECORD_BYTES: u64 = 64;

/// A value under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the commit that wrote it.
    pub version: u64,
}

/// Keys in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The keys begin with this.
    pub prefix: String,
    /// They are behind this key; before it, in descending order. Nothing of this name need exist.
    pub after: Option<String>,
    /// From the last key to the first.
    pub descending: bool,
}

/// Some of the records of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of the range.
    pub records: Vec<Record>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The number of records.
    pub records: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
}

/// What must hold for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// What must be there.
    pub expected: Expected,
}

/// What must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No record.
    Absent,
    /// Any record.
    Present,
    /// The record of this version.
    Version(u64),
}

/// What a commit changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a record, whether there is one or not.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a record. It is no error if there is none.
    Delete {
        /// The key.
        key: String,
    },
}

/// Changes that are made together, if all comparisons hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is changed. Each key occurs once.
    pub changes: Vec<Change>,
}

impl Change {
    /// The key that it changes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

impl Expected {
    /// Whether it holds for the version that is there.
    pub fn holds(self, there: Option<u64>) -> bool {
        match self {
            Self::Absent => there.is_none(),
            Self::Present => there.is_some(),
            Self::Version(version) => there == Some(version),
        }
    }
}

impl Range {
    /// Whether a key is in it.
    pub fn contains(&self, key: &str) -> bool {
        let is_behind = |after: &String| {
            let after = after.as_str();
            if self.descending { key < after } else { key > after }
        };
        key.starts_with(&self.prefix) && self.after.as_ref().is_none_or(is_behind)
    }

    /// Fails with [`RecordsError::Invalid`] for what no key can begin with or be behind.
    pub fn check(&self) -> Result<(), RecordsError> {
        check_text(&self.prefix)?;
        self.after.as_deref().map_or(Ok(()), check_text)
    }
}

impl Commit {
    /// Fails with [`RecordsError::Invalid`] if it is larger than any engine takes, or makes no sense.
    pub fn check(&self) -> Result<(), RecordsError> {
        for (what, count) in [("comparisons", self.compares.len()), ("changes", self.changes.len())]
        {
            if count > MAX_OPERATIONS {
                return Err(RecordsError::Invalid(format!(
                    "{count} {what} in one commit; at most {MAX_OPERATIONS} are allowed"
                )));
            }
        }
        let mut keys = BTreeSet::new();
        let mut bytes = 0;
        for change in &self.changes {
            check_key(change.key())?;
            if !keys.insert(change.key()) {
                let key = change.key();
                return Err(RecordsError::Invalid(format!("the key {key:?} is changed twice")));
            }
            if let Change::Put { key, value } = change
                && value.len() > MAX_VALUE
            {
                let length = value.len();
                return Err(RecordsError::Invalid(format!(
                    "the value of {key:?} has {length} bytes; at most {MAX_VALUE} are allowed"
                )));
            }
            bytes += change.bytes();
        }
        for compare in &self.compares {
            check_key(&compare.key)?;
            bytes += compare.key.len();
        }
        if bytes > MAX_COMMIT {
            return Err(RecordsError::Invalid(format!(
                "{bytes} bytes in one commit; at most {MAX_COMMIT} are allowed"
            )));
        }
        Ok(())
    }
}

/// Fails with [`RecordsError::Invalid`] for what cannot be a key.
pub(crate) fn check_key(key: &str) -> Result<(), RecordsError> {
    if key.is_empty() {
        return Err(RecordsError::Invalid("a key is empty".to_owned()));
    }
    check_text(key)
}

fn check_text(text: &str) -> Result<(), RecordsError> {
    if text.len() > MAX_KEY {
        let length = text.len();
        let what = format!("a key of {length} bytes; at most {MAX_KEY} are allowed");
        return Err(RecordsError::Invalid(what));
    }
    if text.contains('\0') {
        return Err(RecordsError::Invalid(format!("the key {text:?} contains NUL")));
    }
    Ok(())
}

/// Fails with [`RecordsError::Invalid`] for keys of one `get` that are too many or no keys.
pub(crate) fn check_keys(keys: &[String]) -> Result<(), RecordsError> {
    if keys.len() > MAX_PAGE {
        let count = keys.len();
        let what = format!("{count} keys in one call; at most {MAX_PAGE} are allowed");
        return Err(RecordsError::Invalid(what));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, length: usize) -> Change {
        Change::Put { key: key.to_owned(), value: vec![0; length] }
    }

    fn refused(changes: Vec<Change>, compares: usize) -> String {
        let compare = Compare { key: "k".to_owned(), expected: Expected::Absent };
        let commit = Commit { compares: vec![compare; compares], changes };
        commit.check().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn commits_are_as_small_as_every_engine_needs_them() {
        let many = |count: usize| (0..count).map(|n| put(&n.to_string(), 1)).collect::<Vec<_>>();
        assert_eq!(refused(many(128), 128), "");
        assert!(refused(many(129), 0).starts_with("129 changes"));
        assert!(refused(vec![], 129).starts_with("129 comparisons"));
        assert!(refused(vec![put("a", 1), put("a", 1)], 0).contains("changed twice"));
        assert!(refused(vec![put("a", MAX_VALUE + 1)], 0).contains("bytes; at most"));
        assert!(
            refused((0..5).map(|n| put(&n.to_string(), MAX_VALUE)).collect(), 0)
                .contains("1048576")
        );
        assert!(refused(vec![put("", 1)], 0).contains("empty"));
        assert!(refused(vec![put("a\0", 1)], 0).contains("NUL"));
        assert!(refused(vec![put(&"a".repeat(513), 1)], 0).contains("513 bytes"));
    }

    #[test]
    fn a_range_has_a_beginning_and_a_direction() {
        let range = |after: Option<&str>, descending| Range {
            prefix: "a/".to_owned(),
            after: after.map(str::to_owned),
            descending,
        };
        for (range, key, expected) in [
            (range(None, false), "a/b", true),
            (range(None, false), "a", false),
            (range(None, false), "b/a", false),
            (range(Some("a/b"), false), "a/b", false),
            (range(Some("a/b"), false), "a/b0", true),
            (range(Some("a/b"), true), "a/a", true),
            (range(Some("a/b"), true), "a/c", false),
        ] {
            assert_eq!(range.contains(key), expected, "{range:?} {key}");
        }
    }
}
