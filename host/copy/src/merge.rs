//! Two listings read side by side. Both ascend, so a page of each is all that is in memory.

use std::cmp::Ordering;
use std::collections::VecDeque;

use keepgate_store::{BlobStore, Entry, Folder, Listing, StoreError};

use crate::error::{CopyError, Result};

/// Entries asked for at once.
const PAGE: usize = 1000;

/// What the two stores have under one name.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) from: Option<Entry>,
    pub(crate) to: Option<Entry>,
}

impl Pair {
    /// Whether this is a folder. If one store has a folder and the other a blob of that name, there are
    /// two pairs.
    pub(crate) fn is_folder(&self) -> bool {
        self.from.as_ref().or(self.to.as_ref()).is_some_and(|entry| entry.folder)
    }
}

/// The listings of a folder in two stores, merged.
pub(crate) struct Merged {
    from: Side,
    to: Side,
}

impl Merged {
    /// Begins to list a folder in both stores. One that does not have it has no blobs in it.
    pub(crate) async fn open(
        from: &dyn BlobStore,
        to: &dyn BlobStore,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Self> {
        // The target first: what the source gains in between is new, and not missing.
        let to = Side::open(to, "target", folder, recursive, after).await?;
        let from = Side::open(from, "source", folder, recursive, after).await?;
        Ok(Self { from, to })
    }

    /// The next name; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Pair>> {
        let order = match (self.from.peek().await?, self.to.peek().await?) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(from), Some(to)) => from.sort_key().cmp(&to.sort_key()),
        };
        let from = if order.is_le() { self.from.ready.pop_front() } else { None };
        let to = if order.is_ge() { self.to.ready.pop_front() } else { None };
        let key = from.as_ref().or(to.as_ref()).map(|entry| entry.key.clone());
        Ok(key.map(|key| Pair { key, from, to }))
    }
}

/// One store's listing.
pub(crate) struct Side {
    name: &'static str,
    listing: Option<Box<dyn Listing>>,
    ready: VecDeque<Entry>,
    last: String,
}

impl Side {
    pub(crate) async fn open(
        store: &dyn BlobStore,
        name: &'static str,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Self> {
        let listing = match store.list_after(folder, recursive, after).await {
            Ok(listing) => Some(listing),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(failed(name, error)),
        };
        Ok(Self { name, listing, ready: VecDeque::new(), last: String::new() })
    }

    /// The next entry, without taking it; none at the end.
    async fn peek(&mut self) -> Result<Option<&Entry>> {
        if self.ready.is_empty()
            && let Some(listing) = &mut self.listing
        {
            let page = listing.next(PAGE).await.map_err(|error| failed(self.name, error))?;
            if page.is_empty() {
                self.listing = None;
            }
            for entry in &page {
                let key = entry.sort_key();
                if *key <= *self.last {
                    return Err(CopyError::Unsorted {
                        side: self.name,
                        before: std::mem::take(&mut self.last),
                        key: key.into_owned(),
                    });
                }
                self.last.clear();
                self.last.push_str(&key);
            }
            self.ready = page.into();
        }
        Ok(self.ready.front())
    }

    /// The next entry; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Entry>> {
        self.peek().await?;
        Ok(self.ready.pop_front())
    }
}

fn failed(side: &str, error: StoreError) -> CopyError {
    if side == "source" { CopyError::Source(error) } else { CopyError::Target(error) }
}
