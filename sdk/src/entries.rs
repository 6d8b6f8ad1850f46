//! Listings as iterators.

use std::vec;

use crate::{Entry, Failure, Listing, Store};

/// Entries asked for at once: a call costs more than a copy.
const BATCH: u32 = 1024;

impl Store {
    /// What [`list`](Store::list) lists, one after the other. After a failure nothing more comes.
    ///
    /// ```
    /// use keepgate_sdk::{Failure, Store};
    ///
    /// /// Bytes of all blobs below a folder.
    /// fn usage(store: &Store, folder: &str) -> Result<u64, Failure> {
    ///     store.entries(folder, true)?.map(|entry| Ok(entry?.size)).sum()
    /// }
    /// ```
    pub fn entries(&self, folder: &str, recursive: bool) -> Result<Entries, Failure> {
        let listing = self.list(folder, recursive, None)?;
        Ok(Entries { listing: Some(listing), batch: Vec::new().into_iter() })
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
    use crate::{Description, Plugin, Reply, Request};

    struct Names;

    impl Plugin for Names {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            Description::new("names", "1").store("main")
        }

        fn handle(_: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let entries = Store::open("main")?.entries("", true)?;
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
        let names: Vec<String> = (0..2 * BATCH + 1).map(|number| format!("{number:05}")).collect();
        names.iter().for_each(|name| host.put(name, b""));
        assert_eq!(ask(&host).text(), names.join(" "));
    }
}
