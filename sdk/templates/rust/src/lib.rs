//! Named archives: put one in, list what is there, get it back, or a part of it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | a JSON list of what is there |
//! | `PUT /NAME` | stores the body: 201, or 409 where the name is taken |
//! | `GET /NAME` | the archive, or the part that a `Range` header asks for |
//! | `HEAD /NAME` | its size |
//! | `DELETE /NAME` | removes it: 204 |
//!
//! A body never enters this code: the plugin says where it goes, and the gateway moves it.

use keepgate_sdk::range::Range;
use keepgate_sdk::{Description, Failure, Method, Part, Plugin, PutOptions, Reply, Request, Store};

/// The plugin. A call has an instance of its own: what must last goes into the store.
pub struct Archives;

keepgate_sdk::export!(Archives);

/// What an operator may write under `settings` of the mount.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A `PUT` may replace what is there.
    replace: bool,
}

/// One archive, as clients see it.
#[derive(serde::Serialize)]
struct Archive {
    name: String,
    /// In bytes.
    size: u64,
}

impl Plugin for Archives {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .summary("Named archives: put, list, get, delete")
            .store("main")
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        let store = Store::open("main")?;
        match (&request.method, request.path().as_slice()) {
            (Method::Get | Method::Head, []) => list(&store),
            (_, []) => Ok(Reply::method_not_allowed("GET, HEAD")),

            (Method::Get, [name]) => get(&store, name, request.header("range")),
            (Method::Head, [name]) => head(&store, name),
            (Method::Put, [name]) => put(&store, &key(name)?, request, &settings),
            (Method::Delete, [name]) => delete(&store, name),
            (_, [_]) => Ok(Reply::method_not_allowed("GET, HEAD, PUT, DELETE")),

            _ => Err(Failure::NotFound),
        }
    }
}

/// All archives. A list too long to hold in memory would be written piece by piece: `Reply::stream`.
fn list(store: &Store) -> Result<Reply, Failure> {
    let mut archives = Vec::new();
    let listing = store.list("", false)?;
    loop {
        let entries = listing.next(1000)?;
        if entries.is_empty() {
            return Reply::ok().json(&archives);
        }
        let files = entries.into_iter().filter(|entry| !entry.folder);
        archives.extend(files.map(|entry| Archive {
            name: entry.key,
            size: entry.size,
        }));
    }
}

/// The store says what part there is: a range past the end becomes 416 by itself.
fn get(store: &Store, name: &str, range: Option<&str>) -> Result<Reply, Failure> {
    let part = match Range::parse(range) {
        Range::Part(part) => part,
        Range::Whole => Part::Whole,
        Range::Malformed => return Err(Failure::Invalid("the range makes no sense".to_owned())),
    };
    let found = store.get(name, part)?;
    let reply = match part {
        Part::Whole => Reply::ok(),
        _ => {
            let (first, last) = (found.offset, found.offset + found.length - 1);
            let range = format!("bytes {first}-{last}/{}", found.info.size);
            Reply::new(206).header("content-range", range)
        }
    };
    let reply = reply.header("content-type", "application/octet-stream");
    Ok(reply.header("accept-ranges", "bytes").body(found.data))
}

fn head(store: &Store, name: &str) -> Result<Reply, Failure> {
    let info = store.head(name)?;
    Ok(Reply::ok()
        .header("content-length", info.size)
        .header("accept-ranges", "bytes"))
}

/// Durable when it returns. A body that is cut off leaves nothing behind.
fn put(store: &Store, name: &str, request: Request, settings: &Settings) -> Result<Reply, Failure> {
    let options = if settings.replace {
        PutOptions::replace()
    } else {
        PutOptions::absent()
    };
    let info = store.put(name, request.body, &options)?.info;
    Reply::new(201).json(&Archive {
        name: info.key,
        size: info.size,
    })
}

fn delete(store: &Store, name: &str) -> Result<Reply, Failure> {
    store.delete(name)?.ok_or(Failure::NotFound)?;
    Ok(Reply::new(204))
}

/// The name as a key. A store refuses what is no key at all, `..` say; a slash would make folders,
/// which the list does not show.
fn key(name: &str) -> Result<String, Failure> {
    if name.contains('/') {
        return Err(Failure::Invalid("a name has no slash in it".to_owned()));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests;
