//! Listings: pages of the server's lists, one read ahead.
//!
//! The server sorts by the bytes of names, and folders among them with their slash, which is the order of a store.
//! Names that are no keys are left out: the gateway's own, and those that other programs gave.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use keepgate_store::{Entry, Folder, Key, Listing, Result, StoreError};
use tokio::task::JoinHandle;

use crate::Inner;
use crate::remote::{Failure, Found, Page, store_etag, time};

/// Entries of a page: as many as servers give.
const PAGE: i32 = 1000;
/// Requests at the same time for what a server leaves out of its lists.
const PARALLEL: usize = 16;

/// What is listed.
#[derive(Debug)]
struct Query {
    store: Arc<Inner>,
    /// The folder with the store's prefix and a slash.
    prefix: String,
    recursive: bool,
    /// A sort key, relative to the store.
    after: Option<String>,
}

/// Begins a listing.
pub(crate) async fn list(
    store: &Arc<Inner>,
    folder: &Folder,
    recursive: bool,
    after: Option<&str>,
) -> Result<Box<dyn Listing>> {
    let prefix = match folder.as_str() {
        "" => store.prefix.clone(),
        folder => format!("{}{folder}/", store.prefix),
    };
    let is_top = folder.as_str().is_empty();
    let after = after.map(str::to_owned);
    let query = Query { store: Arc::clone(store), prefix, recursive, after };
    let query = Arc::new(query);
    let first = query.page(None).await?;
    let named = first.any || !first.ready.is_empty() || first.next.is_some();
    if !is_top && !named {
        // With `after`, the list may begin behind the folder's end.
        let below = query.after.is_some()
            && store
                .remote
                .any_below(&query.prefix)
                .await
                .map_err(|failure| store.told(failure))?;
        if !below {
            return Err(StoreError::NotFound);
        }
    }
    let mut listing = S3Listing { query, ready: first.ready, ahead: None, failed: false };
    listing.read_ahead(first.next);
    Ok(Box::new(listing))
}

/// A page, in order.
struct Ready {
    ready: VecDeque<Entry>,
    next: Option<String>,
    /// Whether the server named anything, listed or not.
    any: bool,
}

impl Query {
    async fn page(self: &Arc<Self>, page: Option<String>) -> Result<Ready> {
        let after = self.after.as_ref().map(|after| format!("{}{after}", self.store.prefix));
        // Nothing of the folder is before its own name; and what is behind it is not asked for.
        let after = after.filter(|after| *after > self.prefix);
        if let Some(after) = &after
            && !after.starts_with(&self.prefix)
        {
            return Ok(Ready { ready: VecDeque::new(), next: None, any: false });
        }
        let (store, by_folder) = (&self.store, !self.recursive);
        let page = store
            .remote
            .list(&self.prefix, by_folder, after.as_deref(), page.as_deref(), PAGE)
            .await
            .map_err(|failure| store.told(failure))?;
        let any = !page.objects.is_empty() || !page.folders.is_empty();
        let Page { objects, folders, next } = page;
        let objects = self.with_etags(objects).await.map_err(|failure| store.told(failure))?;
        let mut sorted = BTreeMap::new();
        for entry in objects.iter().filter_map(|found| self.blob(found)) {
            sorted.insert(entry.sort_key().into_owned(), entry);
        }
        for entry in folders.iter().filter_map(|name| self.folder(name)) {
            sorted.insert(entry.sort_key().into_owned(), entry);
        }
        if let Some(after) = &self.after {
            sorted.retain(|key, _| key > after);
        }
        Ok(Ready { ready: sorted.into_values().collect(), next, any })
    }

    /// Looks up the etags that the server left out. What is gone by then is left out too.
    async fn with_etags(&self, objects: Vec<Found>) -> Result<Vec<Found>, Failure> {
        if objects.iter().all(|found| !found.etag.is_empty()) {
            return Ok(objects);
        }
        let looks: Vec<_> = objects.into_iter().map(|found| self.look(found).boxed()).collect();
        let found: Vec<_> = stream::iter(looks).buffered(PARALLEL).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn look(&self, found: Found) -> Result<Option<Found>, Failure> {
        let there = self.store.remote.head(&found.name).await?;
        Ok(there.map(|there| Found {
            name: found.name,
            etag: there.etag,
            size: there.size,
            seconds: there.seconds,
        }))
    }

    fn blob(&self, found: &Found) -> Option<Entry> {
        let key = Key::new(found.name.strip_prefix(&self.store.prefix)?).ok()?;
        Some(Entry {
            key: key.as_str().to_owned(),
            size: found.size,
            modified: time(found.seconds),
            etag: store_etag(&found.etag, found.seconds),
            folder: false,
        })
    }

    fn folder(&self, name: &str) -> Option<Entry> {
        let name = name.strip_prefix(&self.store.prefix)?.strip_suffix('/')?;
        let key = Key::new(name).ok()?;
        Some(Entry {
            key: key.as_str().to_owned(),
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
            etag: String::new(),
            folder: true,
        })
    }
}

struct S3Listing {
    query: Arc<Query>,
    ready: VecDeque<Entry>,
    /// The next page, if there is one.
    ahead: Option<Ahead>,
    failed: bool,
}

/// A page that is being read. Dropping it ends that.
struct Ahead(JoinHandle<Result<Ready>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl S3Listing {
    fn read_ahead(&mut self, page: Option<String>) {
        self.ahead = page.map(|page| {
            let query = Arc::clone(&self.query);
            Ahead(tokio::spawn(async move { query.page(Some(page)).await }))
        });
    }

    async fn fill(&mut self) -> Result<()> {
        while self.ready.is_empty()
            && let Some(ahead) = &mut self.ahead
        {
            let page = (&mut ahead.0).await;
            let page = page.map_err(|error| {
                StoreError::Unavailable(format!("the gateway is stopping: {error}"))
            })??;
            self.ready = page.ready;
            self.read_ahead(page.next);
        }
        Ok(())
    }
}

#[async_trait]
impl Listing for S3Listing {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        if self.failed {
            // Otherwise a failed listing could be taken for a short one.
            return Err(StoreError::Unavailable("this listing failed before its end".to_owned()));
        }
        let filled = self.fill().await;
        self.failed = filled.is_err();
        filled?;
        // An empty list would mean the end.
        let count = max.max(1).min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }
}
