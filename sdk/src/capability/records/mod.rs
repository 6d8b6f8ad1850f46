//! A small ordered table of the mount: records that change together or not at all.

#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
use crate::bindings::keepgate::plugin::records as host;
#[cfg(not(target_family = "wasm"))]
use native as host;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::keepgate::plugin::records::{Page, Range, Record};

use crate::bindings::keepgate::plugin::records as contract;
use crate::{Failure, json};

/// The most keys of one [`get_all`], and the most records of a page.
pub const MAX_PAGE: usize = 1000;
/// The most comparisons of a commit, and the most changes.
pub const MAX_OPERATIONS: usize = 128;

/// The record under a key, if there is one.
pub fn get(key: &str) -> Result<Option<Record>, Failure> {
    Ok(host::get(&[key.to_owned()])?.pop().flatten())
}

/// The records under these keys, at most [`MAX_PAGE`], in their order and as of one moment; `None` for those that are not
/// there.
pub fn get_all(keys: &[String]) -> Result<Vec<Option<Record>>, Failure> {
    host::get(keys)
}

/// The records whose keys begin with this, in their order, read page by page. They need not be as of one moment.
///
/// ```
/// use keepgate_sdk::records::{self, Commit};
/// # let _host = keepgate_sdk::testing::Host::new();
/// Commit::new().put("a/1", b"one").put("a/2", b"two").put("b", b"three").run().unwrap();
/// let values: Result<Vec<_>, _> = records::scan("a/").map(|record| Ok(record?.value)).collect();
/// # let values: Result<Vec<Vec<u8>>, keepgate_sdk::Failure> = values;
/// assert_eq!(values.unwrap(), [b"one", b"two"]);
/// ```
pub fn scan(prefix: &str) -> Scan {
    let range = Range { prefix: prefix.to_owned(), after: None, descending: false };
    Scan { range, page: Vec::new().into_iter(), more: true }
}

/// See [`scan`].
#[derive(Debug)]
pub struct Scan {
    range: Range,
    page: std::vec::IntoIter<Record>,
    more: bool,
}

impl Scan {
    /// From the last key to the first.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.range.descending = true;
        self
    }

    /// Begins behind this key; before it, in descending order.
    #[must_use]
    pub fn after(mut self, key: &str) -> Self {
        self.range.after = Some(key.to_owned());
        self
    }

    /// At most so many records, in one call.
    pub fn page(self, max: usize) -> Result<Page, Failure> {
        host::scan(&self.range, u32::try_from(max).unwrap_or(u32::MAX))
    }
}

impl Iterator for Scan {
    type Item = Result<Record, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.page.next() {
                return Some(Ok(record));
            }
            if !self.more {
                return None;
            }
            match host::scan(&self.range, u32::MAX) {
                Ok(Page { records, more }) => {
                    self.more = more && !records.is_empty();
                    if let Some(last) = records.last() {
                        self.range.after = Some(last.key.clone());
                    }
                    self.page = records.into_iter();
                }
                Err(failure) => {
                    self.more = false;
                    return Some(Err(failure));
                }
            }
        }
    }
}

impl Record {
    /// Its value as JSON. What is no such JSON fails with [`Failure::Internal`]: the plugin wrote it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.value)
            .map_err(|error| Failure::Internal(format!("the record {:?}: {error}", self.key)))
    }
}

/// Changes that are made together, if what the plugin knows still holds.
///
/// ```
/// use keepgate_sdk::records::{self, Commit};
/// use keepgate_sdk::Failure;
/// # let _host = keepgate_sdk::testing::Host::new();
///
/// /// Hands a thing to another owner, if it is still this one's.
/// fn hand_over(thing: &str, from: &str, to: &str) -> Result<(), Failure> {
///     let key = format!("owner/{thing}");
///     let record = records::get(&key)?.ok_or(Failure::NotFound)?;
///     if record.value != from.as_bytes() {
///         return Err(Failure::Denied("not yours".to_owned()));
///     }
///     Commit::new()
///         .unchanged(&record)
///         .put(&key, to.as_bytes())
///         .put(&format!("owned/{to}/{thing}"), b"")
///         .delete(&format!("owned/{from}/{thing}"))
///         .run()?;
///     Ok(())
/// }
/// # Commit::new().put("owner/t", b"ann").put("owned/ann/t", b"").run().unwrap();
/// # hand_over("t", "ann", "bob").unwrap();
/// # assert!(records::get("owned/ann/t").unwrap().is_none() && records::get("owned/bob/t").unwrap().is_some());
/// # assert!(hand_over("t", "ann", "bob").is_err());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Commit {
    comparisons: Vec<contract::Comparison>,
    changes: Vec<contract::Change>,
}

impl Commit {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if there is no record under this key.
    pub fn absent(self, key: &str) -> Self {
        self.expecting(key, contract::Expected::Absent)
    }

    /// Only if there is a record under this key.
    pub fn present(self, key: &str) -> Self {
        self.expecting(key, contract::Expected::Present)
    }

    /// Only if a record is still the one that was read.
    pub fn unchanged(self, record: &Record) -> Self {
        self.expecting(&record.key, contract::Expected::Version(record.version))
    }

    fn expecting(mut self, key: &str, expected: contract::Expected) -> Self {
        self.comparisons.push(contract::Comparison { key: key.to_owned(), expected });
        self
    }

    /// Writes a record, whether there is one or not.
    pub fn put(mut self, key: &str, value: &[u8]) -> Self {
        self.changes.push(contract::Change::Put((key.to_owned(), value.to_owned())));
        self
    }

    /// Writes a record with a value as JSON. Fails with [`Failure::Internal`] if JSON cannot express it.
    pub fn put_json(self, key: &str, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(self.put(key, &json::to_vec(value)?))
    }

    /// Removes a record. It is no error if there is none.
    pub fn delete(mut self, key: &str) -> Self {
        self.changes.push(contract::Change::Delete(key.to_owned()));
        self
    }

    /// The number of changes; at most [`MAX_OPERATIONS`] can be made together.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes the changes, durably, and returns the revision. Fails with [`Failure::PreconditionFailed`] if a comparison
    /// does not hold, with [`Failure::Invalid`] if it is too large, and with [`Failure::QuotaExceeded`] or
    /// [`Failure::NoSpace`] if there is no room: nothing was changed then. After [`Failure::Unavailable`] it may have
    /// been made.
    pub fn run(self) -> Result<u64, Failure> {
        host::commit(&self.comparisons, &self.changes)
    }
}

/// The Rust of the capability's page in the book.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/src/contract/records.md")]
#[derive(Debug)]
struct Book;
