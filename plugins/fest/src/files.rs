//! Files: fetched and uploaded, whole and in ranges.

use keepgate_sdk::pipes::{self, Checksum};
use keepgate_sdk::range::Range;
use keepgate_sdk::{
    BlobAnswer, Body, Call, Content, Failure, PutOptions, Reply, Request, Store, Timestamp,
};
use serde_json::json;

use crate::hash::{EMPTY, Hash};
use crate::partial::{self, Progress};
use crate::pool::{Complete, Found};
use crate::problem::Problem;
use crate::range::ContentRange;
use crate::settings::Settings;
use crate::user::User;
use crate::{layout, pool, problem, sweep, upload, verify, versions};

/// What a client need not send any more is read up to here, so that the connection can be used again.
const DISCARDED: u64 = 1 << 20;
/// Shorter files are sent again as a whole if their upload breaks off.
const WORTH_KEEPING: u64 = 256 << 10;

/// The hash in the path.
pub(crate) fn hash(call: &Call<Settings>) -> Result<Hash, Failure> {
    let text = call.segment("hash").unwrap_or_default();
    let why = || format!("{text:?} is not a SHA-256 of 64 hexadecimal digits");
    Hash::parse(text).ok_or_else(|| problem::failure(400, "bad_hash", &why()))
}

pub(crate) fn options(_: Call<Settings>) -> Result<Reply, Failure> {
    Ok(Reply::new(204).header("allow", "GET, HEAD, PUT, OPTIONS").header("accept-ranges", "bytes"))
}

pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    got(call).or_else(Problem::into_reply)
}

fn got(call: Call<Settings>) -> Result<Reply, Problem> {
    let hash = hash(&call)?;
    let Call { mut request, settings, .. } = call;
    let user = User::of(&request)?;
    odd_range(&mut request)?;
    if hash == EMPTY {
        return Ok(headers(empty(&request), &hash));
    }
    let found = pool::find(&user, &hash, settings.strict_sharing)?;
    let Found { file, record, has_right } = found.ok_or(Failure::NotFound)?;
    if !has_right {
        let named = !settings.strict_sharing && versions::size_of(&user, &hash)?.is_some();
        if !named {
            return Err(Failure::NotFound.into());
        }
        pool::note_named(&user, &hash)?;
    }
    let store = Store::open("main")?;
    let answer = match BlobAnswer::of(&store, &file.key) {
        Ok(answer) if answer.info().size == file.size => answer,
        Ok(_) | Err(Failure::NotFound) => {
            keepgate_sdk::environment::warn("stored file is damaged", &[("hash", &hash)]);
            pool::remove_damaged(&store, &hash, &file, &record)?;
            let why = "what is stored of this file is damaged; upload it again";
            return Err(Problem::new(500, "corrupt", why));
        }
        Err(failure) => return Err(failure.into()),
    };
    let answer = answer.etag(&hash.to_string()).content_type("application/octet-stream");
    let mut reply = answer.to(&request)?;
    if let (true, 200, Content::Body(body)) =
        (settings.verify_downloads(), reply.status, &mut reply.content)
    {
        // A part of a file has no hash to be compared with.
        let stored = std::mem::replace(body, Body::from_bytes(b""));
        *body = verify::on_the_way(stored, &hash, file.xxh3.as_deref())?;
    }
    Ok(headers(reply, &hash))
}

fn headers(reply: Reply, hash: &Hash) -> Reply {
    let has = |reply: &Reply, name: &str| reply.headers.iter().any(|(known, _)| known == name);
    let reply =
        if has(&reply, "etag") { reply } else { reply.header("etag", format!("\"{hash}\"")) };
    reply
        .header("cache-control", "private, immutable")
        .header("content-disposition", "attachment")
        .header("x-content-type-options", "nosniff")
}

/// The empty file, which is in no store.
fn empty(request: &Request) -> Reply {
    let reply = match request.has_version(&EMPTY.to_string()) {
        true => Reply::new(304),
        false => Reply::ok().bytes(Vec::new()),
    };
    reply.header("accept-ranges", "bytes").header("content-type", "application/octet-stream")
}

/// fest's own example asks for a range by `Content-Range`. A `Range` that is none is ignored, as HTTP allows.
fn odd_range(request: &mut Request) -> Result<(), Problem> {
    if let Some(range) = request.header("range") {
        if matches!(Range::parse(Some(range)), Range::Malformed) {
            request.headers.retain(|(name, _)| name != "range");
        }
        return Ok(());
    }
    if let Some(text) = request.header("content-range") {
        let ContentRange { first, last, .. } = ContentRange::parse(text)?;
        request.headers.push(("range".to_owned(), format!("bytes={first}-{last}")));
    }
    Ok(())
}

pub(crate) fn put(call: Call<Settings>) -> Result<Reply, Failure> {
    uploaded(call).or_else(Problem::into_reply)
}

fn uploaded(call: Call<Settings>) -> Result<Reply, Problem> {
    let hash = hash(&call)?;
    let Call { request, settings, .. } = call;
    let user = User::of(&request)?;
    if request
        .header("content-encoding")
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        let why = "the bytes of a file are sent as they are, without Content-Encoding";
        return Err(Problem::new(415, "unsupported_encoding", why));
    }
    let there = pool::find(&user, &hash, settings.strict_sharing)?;
    if let Some(Found { file, record, has_right }) = there.filter(|_| hash != EMPTY) {
        // Its hash is what it says, so the client need not send it. That it has the bytes is another matter.
        if !settings.strict_sharing || has_right {
            if !has_right {
                pool::note_named(&user, &hash)?;
            }
            pool::note_wanted(&hash, &file, &record)?;
            let is_resumable = upload::completes(&request)?.is_some();
            let _ = request.body.discard(DISCARDED);
            let reply = stored(200, &hash, file.size)?;
            return Ok(match is_resumable {
                true => upload::told(reply, file.size, file.size, true),
                false => reply,
            });
        }
    }
    sweep::begin()?;
    if let Some(completes) = upload::completes(&request)? {
        return upload::begin(&user, &hash, completes, request, &settings);
    }
    match request.header("content-range") {
        Some(range) => {
            let range = ContentRange::parse(range)?;
            part(&user, &hash, range, request, &settings)
        }
        None => whole(&user, &hash, request, &settings),
    }
}

/// A file in one request. What has come of one that breaks off is kept if its length is known.
pub(crate) fn whole(
    user: &User,
    hash: &Hash,
    request: Request,
    settings: &Settings,
) -> Result<Reply, Problem> {
    let length = request.body.length();
    check_size(length.unwrap_or(0), settings)?;
    let store = Store::open("main")?;
    let key = layout::upload(user, hash, 0);
    let options = PutOptions::absent().sha256(&hash.to_string());
    let (checksum, body) = Checksum::attach(request.body);
    let resumable = length.filter(|length| *length >= WORTH_KEEPING);
    let may_have_parts = resumable.is_some() || partial::total(user, hash)?.is_some();
    let received = match resumable {
        Some(total) => {
            // Before the body: if the client goes away, this call ends with it.
            partial::begin(user, hash, total)?;
            store.receive(&key, body, &options).map(|it| (it.stored.info.size, it.complete))
        }
        None => {
            let body = pipes::limit(body, settings.max_file());
            store.put(&key, body, &options).map(|it| (it.info.size, true))
        }
    };
    let size = match received {
        Ok((size, true)) => size,
        // The client is likely gone.
        Ok((_, false)) => return Err(Failure::Truncated.into()),
        Err(failure) => {
            if resumable.is_some() {
                partial::forget_if_nothing_came(&store, user, hash)?;
            }
            return Err(match failure {
                Failure::ChecksumMismatch(actual) => partial::mismatch(actual.as_deref()),
                failure => failure.into(),
            });
        }
    };
    let file = Complete { key, size, xxh3: checksum.xxh3(), at: Timestamp::now() };
    let status = if pool::complete(user, hash, &file)? { 201 } else { 200 };
    if status == 200 {
        store.delete(&file.key)?;
        pool::give_right(user, hash)?;
    }
    if may_have_parts {
        // What had come of it before.
        partial::remove_all(&store, user, hash)?;
    }
    Ok(stored(status, hash, size)?)
}

/// A range of a file.
fn part(
    user: &User,
    hash: &Hash,
    range: ContentRange,
    request: Request,
    settings: &Settings,
) -> Result<Reply, Problem> {
    let (announced, expected) = (request.body.length(), range.length());
    if announced.is_some_and(|length| length > expected) {
        return Err(wrong_length(announced.unwrap_or(0), expected));
    }
    let known = match partial::total(user, hash)? {
        Some(known) => Some(known),
        None => versions::size_of(user, hash)?,
    };
    let total = match (range.total, known) {
        (Some(total), Some(known)) if total != known => return Err(partial::size_conflict(known)),
        (Some(total), _) => total,
        (None, Some(known)) if range.last < known => known,
        (None, Some(known)) => {
            let why = format!("the range ends beyond the file, which has {known} bytes");
            return Err(Problem::new(400, "bad_range", why).with("size", known));
        }
        (None, None) => {
            let why = "the length of the file is not known: no manifest of yours names it; write it instead of `*`";
            return Err(Problem::new(400, "size_unknown", why));
        }
    };
    check_size(total, settings)?;
    partial::begin(user, hash, total)?;
    let store = Store::open("main")?;
    let key = layout::upload(user, hash, range.first);
    let received = store.receive(&key, request.body, &PutOptions::absent())?;
    let size = received.stored.info.size;
    if size > expected {
        store.delete(&key)?;
        return Err(wrong_length(size, expected));
    }
    match partial::advance(&store, user, hash, total)? {
        Progress::Complete => Ok(stored(201, hash, total)?),
        Progress::Ranges(_) if size < expected => Err(wrong_length(size, expected)),
        Progress::Ranges(ranges) => {
            let answer = json!({
                "hash": hash.to_string(),
                "size": total,
                "is_available": false,
                "available_bytes": ranges,
            });
            Ok(Reply::new(202).json(&answer)?)
        }
    }
}

fn wrong_length(length: u64, expected: u64) -> Problem {
    let why = format!("{length} bytes came for a range of {expected}");
    Problem::new(400, "length_mismatch", why)
}

pub(crate) fn check_size(size: u64, settings: &Settings) -> Result<(), Failure> {
    match size > settings.max_file() {
        true => Err(Failure::TooLarge(settings.max_file())),
        false => Ok(()),
    }
}

fn stored(status: u16, hash: &Hash, size: u64) -> Result<Reply, Failure> {
    let answer = json!({"hash": hash.to_string(), "size": size, "is_available": true});
    Reply::new(status).json(&answer)
}
