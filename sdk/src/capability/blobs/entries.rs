//! Listings as iterators, and names in them.

use std::borrow::Cow;
use std::vec;

use super::{Entry, Listing, Store};
use crate::Failure;

/// How many entries one call returns at most. A call costs more than a copy.
const BATCH: u32 = 1024;

/// Yields one entry after another. A failure is the last item.
///
/// ```
/// use keepgate_sdk::{Failure, Store};
///
/// /// Bytes of all blobs below a folder.
/// fn usage(store: &Store, folder: &str) -> Result<u64, Failure> {
///     store.list(folder, true)?.into_iter().map(|entry| Ok(entry?.size)).sum()
/// }
/// ```
impl IntoIterator for Listing {
    type Item = Result<Entry, Failure>;
    type IntoIter = Entries;

    fn into_iter(self) -> Entries {
        Entries { listing: Some(self), batch: Vec::new().into_iter() }
    }
}

/// Entries of a listing, ascending by key.
#[derive(Debug)]
pub struct Entries {
    /// `None` at the end.
    listing: Option<Listing>,
    batch: vec::IntoIter<Entry>,
}

impl Store {
    /// Like [`list`](Self::list), but a folder that does not exist has no entries.
    pub fn entries(&self, folder: &str, recursive: bool) -> Result<Entries, Failure> {
        match self.list(folder, recursive) {
            Err(Failure::NotFound) => Ok(Entries { listing: None, batch: Vec::new().into_iter() }),
            listing => Ok(listing?.into_iter()),
        }
    }
}

impl Entry {
    /// The last segment of the key: the name in its folder.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// Its position in the order of lists, for [`Store::list_after`](crate::Store::list_after): its key,
    /// followed by a slash if it is a folder.
    pub fn place(&self) -> Cow<'_, str> {
        if self.folder { format!("{}/", self.key).into() } else { self.key.as_str().into() }
    }
}

/// A key below a folder; the folder is empty for the top of the store.
///
/// ```
/// use keepgate_sdk::join_key;
///
/// assert_eq!((join_key("a/b", "c"), join_key("", "c")), ("a/b/c".to_owned(), "c".to_owned()));
/// ```
pub fn join_key(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether a text can be a segment of a key: a name of a blob or of a folder. Stores refuse all others.
///
/// ```
/// assert!(keepgate_sdk::is_key_segment("snapshot.tar.gz"));
/// assert!(!keepgate_sdk::is_key_segment("..") && !keepgate_sdk::is_key_segment("a/b"));
/// ```
pub fn is_key_segment(text: &str) -> bool {
    !matches!(text, "" | "." | ".." | ".keepgate")
        && !text.starts_with(".keepgate-upload-")
        && !text.contains(['/', '\0'])
        && text.len() <= 255
}

/// Whether a text is a SHA-256 in the contract's form: 64 lower-case hexadecimal digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Iterator for Entries {
    type Item = Result<Entry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.batch.next() {
            return Some(Ok(entry));
        }
        let next = self.listing.as_ref()?.next(BATCH);
        match next {
            Ok(batch) => self.batch = batch.into_iter(),
            Err(failure) => {
                self.listing = None;
                return Some(Err(failure));
            }
        }
        let entry = self.batch.next();
        if entry.is_none() {
            self.listing = None;
        }
        entry.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, TestReply};
    use crate::{Description, Plugin, Reply, Request, Store};

    struct Names;

    impl Plugin for Names {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            Description::new("names", "1").store("main")
        }

        fn handle(_: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let entries = Store::open("main")?.list("", true)?.into_iter();
            let names = entries.map(|entry| Ok(entry?.key)).collect::<Result<Vec<_>, Failure>>()?;
            Ok(Reply::ok().text(names.join(" ")))
        }
    }

    fn ask(host: &Host) -> TestReply {
        host.request("GET", "/").send::<Names>()
    }

    #[test]
    fn all_entries_come_once_and_in_order() {
        let host = Host::new();
        assert_eq!(ask(&host).text(), "");
        let names: Vec<_> = (0..2 * BATCH + 1).map(|number| format!("{number:05}")).collect();
        names.iter().for_each(|name| host.put(name, b""));
        assert_eq!(ask(&host).text(), names.join(" "));
    }
}
