//! Manifests: posted, listed and fetched. Whatever is answered says what is available at that moment.

use std::collections::BTreeMap;

use keepgate_sdk::{Call, Failure, Part, Reply, Request, Store, Timestamp};
use percent_encoding::utf8_percent_encode;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::hash::{EMPTY, Hash};
use crate::manifest::Manifest;
use crate::pool::{self, Available, View};
use crate::problem::{self, Problem};
use crate::settings::Settings;
use crate::user::User;
use crate::versions::{self, Stored, Version};
use crate::{index, layout, sweep};

/// Versions that a list has without `limit`.
const LISTED: usize = 10_000;

/// A version in a list.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    timestamp: &'a str,
    base: Option<&'a str>,
    files: usize,
    directories: usize,
    bytes: u64,
    missing_bytes: u64,
    complete: bool,
    stored: Timestamp,
}

pub(crate) fn post(call: Call<Settings>) -> Result<Reply, Failure> {
    posted(call).or_else(Problem::into_reply)
}

fn posted(call: Call<Settings>) -> Result<Reply, Problem> {
    let Call { request, settings, .. } = call;
    let user = User::of(&request)?;
    if let Some(kind) = request.media_type()
        && kind != "application/json"
        && !kind.ends_with("+json")
    {
        let why = format!("a manifest is application/json, not {kind}");
        return Err(Problem::new(415, "unsupported_media_type", why));
    }
    let text = request.bytes(settings.max_manifest())?;
    let manifest = Manifest::parse(&text)?;
    // Before it is stored, so that a conflict leaves nothing.
    pool::check(&user, &manifest.files, &settings)?;
    let status = match versions::store(&user, &manifest, &text)? {
        Stored::New => 201,
        Stored::Same => 200,
        Stored::Other => {
            let why = format!(
                "another manifest is stored under the name {:?} with the time stamp {:?}",
                manifest.name, manifest.timestamp
            );
            return Err(Problem::new(409, "conflict", why));
        }
    };
    sweep::begin()?;
    // Again, now that the sweep knows of it: what is told to be there stays.
    let available = pool::availability(&user, &manifest.files, &settings)?;
    let location = request.url(&["manifests", &manifest.name]);
    let reply = Reply::new(status).header("location", location);
    Ok(answer(reply, &manifest, &available)?)
}

pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    got(call).or_else(Problem::into_reply)
}

fn got(call: Call<Settings>) -> Result<Reply, Problem> {
    let Call { ref request, ref settings, .. } = call;
    let user = User::of(request)?;
    let name = call.segment("name").unwrap_or_default();
    let version = versions::find(&user, name, request.query("timestamp"))?;
    let version = version.ok_or(Failure::NotFound)?;
    let text = Store::open("main")?.get(&layout::text(&user, &version.id), Part::Whole)?;
    let text = text.data.bytes(text.info.size)?;
    // What was stored once made sense.
    let manifest = Manifest::parse(&text)?;
    let available = pool::availability(&user, &manifest.files, settings)?;
    let etag = etag(&version, &available);
    let reply =
        Reply::ok().header("etag", format!("\"{etag}\"")).header("cache-control", "no-cache");
    if request.has_version(&etag) {
        return Ok(Reply { status: 304, ..reply });
    }
    Ok(answer(reply, &manifest, &available)?)
}

pub(crate) fn options_of_all(_: Call<Settings>) -> Result<Reply, Failure> {
    Ok(Reply::new(204).header("allow", "GET, HEAD, POST, OPTIONS"))
}

pub(crate) fn options(call: Call<Settings>) -> Result<Reply, Failure> {
    let more = if call.settings.deletes { ", DELETE" } else { "" };
    Ok(Reply::new(204).header("allow", format!("GET, HEAD, OPTIONS{more}")))
}

/// Removes a version; which one has to be said.
pub(crate) fn delete(call: Call<Settings>) -> Result<Reply, Failure> {
    let user = User::of(&call.request)?;
    let name = call.segment("name").unwrap_or_default();
    let Some(timestamp) = call.request.query("timestamp") else {
        let why = "say which version: ?timestamp=, as the list has it";
        return Err(problem::failure(400, "missing", why));
    };
    let key = layout::version(&user, name, timestamp);
    let record = keepgate_sdk::records::get(&key)?.ok_or(Failure::NotFound)?;
    let version: Version = record.json()?;
    match versions::remove(user.as_str(), &record, &version)? {
        true => Ok(Reply::new(204)),
        false => Err(Failure::NotFound),
    }
}

/// It changes when what is available does.
fn etag(version: &Version, available: &[Available]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(&version.id);
    for file in available {
        hasher.update(file.members());
    }
    let digest = hasher.finalize();
    hex::encode(digest.get(..16).unwrap_or_default())
}

fn answer(
    reply: Reply,
    manifest: &Manifest<'_>,
    available: &[Available],
) -> Result<Reply, Failure> {
    let reply = reply.header("content-type", "application/json");
    reply.stream(|writer| manifest.write(available, |piece| writer.write(piece.as_bytes())))
}

pub(crate) fn list(call: Call<Settings>) -> Result<Reply, Failure> {
    let Call { request, settings, .. } = call;
    let user = User::of(&request)?;
    let limit = match request.query("limit") {
        None => LISTED,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=1000).contains(limit));
            limit.ok_or_else(|| {
                let why = format!("limit: {text:?} is not a number from 1 to 1000");
                problem::failure(400, "bad_limit", &why)
            })?
        }
    };
    let (name, after) = (request.query("name"), request.query("after").unwrap_or_default());
    let mut versions = versions::all(&user)?;
    versions.retain(|version| {
        name.is_none_or(|name| version.name == name)
            && (after.is_empty() || place(version).as_str() > after)
    });
    let more = versions.len() > limit;
    versions.truncate(limit);
    let reply = Reply::ok();
    let reply = match versions.last().filter(|_| more) {
        Some(last) => reply.header("link", next(&request, &place(last))),
        None => reply,
    };
    let mut counted = Missing::new(&user, &settings)?;
    let mut listed = Vec::with_capacity(versions.len());
    for version in &versions {
        let missing_bytes = counted.bytes(version)?;
        listed.push(Listed {
            name: &version.name,
            timestamp: &version.timestamp,
            base: version.base.as_deref(),
            files: version.files,
            directories: version.directories,
            bytes: version.bytes,
            missing_bytes,
            complete: missing_bytes == 0,
            stored: version.stored,
        });
    }
    reply.json(&listed)
}

/// Where a version is in a list: a text that sorts as the list does.
fn place(version: &Version) -> String {
    format!("{}\u{1}{:020}\u{1}{:020}", version.name, version.time.0, version.stored.0)
}

/// The rest of the same list.
fn next(request: &Request, after: &str) -> String {
    let of = |name: &'static str| request.query(name).map(|value| (name, value));
    let query = [of("name"), of("limit"), Some(("after", after))].into_iter().flatten();
    let query = query.map(|(name, value)| {
        format!("{name}={}", utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC))
    });
    let query = query.collect::<Vec<_>>().join("&");
    format!("<{}?{query}>; rel=\"next\"", request.url(&["manifests"]))
}

/// Counts what is missing of versions, and asks for each file once.
struct Missing<'a> {
    user: &'a User,
    pool: View<'a>,
    store: Store,
    known: BTreeMap<Hash, bool>,
}

impl<'a> Missing<'a> {
    fn new(user: &'a User, settings: &Settings) -> Result<Self, Failure> {
        let (pool, store) = (View::new(user, settings)?, Store::open("main")?);
        let known = BTreeMap::from([(EMPTY, true)]);
        Ok(Self { user, pool, store, known })
    }

    /// The sum of the sizes of a version's files that are not available; a file that occurs twice counts once.
    fn bytes(&mut self, version: &Version) -> Result<u64, Failure> {
        let key = layout::index(self.user.as_str(), &version.id);
        let mut missing: u64 = 0;
        for first in 0..=255 {
            let files = index::part(&self.store, &key, first)?;
            let new = files.iter().map(|(hash, _)| *hash);
            let new: Vec<Hash> = new.filter(|hash| !self.known.contains_key(hash)).collect();
            let found = self.pool.find(&new)?;
            self.known.extend(new.iter().zip(found).map(|(hash, there)| (*hash, there.is_some())));
            for (hash, size) in files {
                if !self.known.get(&hash).copied().unwrap_or(false) {
                    missing = missing.saturating_add(size);
                }
            }
        }
        Ok(missing)
    }
}
