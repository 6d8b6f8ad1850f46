//! Listings as iterators.

use std::vec;

use crate::{Entry, Failure, Listing};

/// Entries asked for at once: a call costs more than a copy.
const BATCH: u32 = 1024;

/// One entry after the other. After a failure nothing more comes.
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
    /// None at its end.
    listing: Option<Listing>,
    batch: vec::IntoIter<Entry>,
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
