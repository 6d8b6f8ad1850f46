//! Single blobs, including the configuration.

use keepgate_sdk::range::Range;
use keepgate_sdk::{Body, Change, Failure, Part, PutOptions, Reply, Request, Store, environment};

use crate::route::Route;

/// The largest configuration that is accepted, in bytes; real ones have about 155.
const MAX_CONFIG: u64 = 1 << 20;
const BINARY: &str = "application/octet-stream";

pub(crate) fn head(store: &Store, key: &str) -> Result<Reply, Failure> {
    let info = store.head(key)?;
    Ok(Reply::ok().header("content-length", info.size))
}

/// Returns the whole configuration, whatever range is requested.
pub(crate) fn get_config(store: &Store, key: &str) -> Result<Reply, Failure> {
    let found = store.get(key, Part::Whole)?;
    Ok(Reply::ok().header("content-type", BINARY).body(found.data))
}

/// Stores the configuration, which is not named after its content and never replaced.
pub(crate) fn post_config(store: &Store, key: &str, body: Body) -> Result<Reply, Failure> {
    store.put(key, body.announced_at_most(MAX_CONFIG)?, &PutOptions::absent())?;
    Ok(Reply::ok())
}

pub(crate) fn get(store: &Store, route: &Route, request: &Request) -> Result<Reply, Failure> {
    // Clients never see a validator of a blob, so `If-Range` never matches.
    let header = request.header("range").filter(|_| request.header("if-range").is_none());
    let (found, part) = store.get_range(&route.key(), Range::parse(header))?;
    count("read", route, request.user(), found.length);
    Ok(Reply::download(found, part).header("content-type", BINARY))
}

/// Stores a blob under the SHA-256 of its bytes. Uploading the same bytes again succeeds: they are verified
/// both times, and a client that did not get the first response can continue.
pub(crate) fn post(
    store: &Store,
    route: &Route,
    id: &str,
    request: Request,
) -> Result<Reply, Failure> {
    let user = request.user().to_owned();
    let options = PutOptions::absent_or_identical().sha256(id);
    let stored = store.put(&route.key(), request.body, &options)?;
    // A retry wrote nothing. It was counted the first time.
    if stored.change != Change::Unchanged {
        count("write", route, &user, stored.info.size);
    }
    Ok(Reply::ok())
}

/// Deletes a blob. If it does not exist, that succeeds too: a client that did not get the first response asks
/// again.
pub(crate) fn delete(store: &Store, route: &Route, user: &str) -> Result<Reply, Failure> {
    if let Some(size) = store.delete(&route.key())? {
        count("delete", route, user, size);
    }
    Ok(Reply::ok())
}

fn count(what: &str, route: &Route, user: &str, bytes: u64) {
    let labels = [user, &route.repository, route.kind()];
    environment::count(&format!("rest_server_blob_{what}_total"), &labels, 1);
    environment::count(&format!("rest_server_blob_{what}_bytes_total"), &labels, bytes);
}
