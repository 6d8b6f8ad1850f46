//! Resumable uploads as the IETF drafts them (draft-ietf-httpbis-resumable-upload): a file is appended to, and the client
//! asks how far it is. Beneath it are the same ranges as those of `Content-Range`, of which only the first counts here.
//!
//! An upload begins with a PUT of the file with `Upload-Complete`, and goes on at `/files/HASH/upload`: HEAD says the
//! offset, PATCH appends, DELETE gives it up. A client is told of this path by an interim response 104 before its bytes
//! are read, so that it can go on if the connection breaks.

use keepgate_sdk::{Call, Failure, PutOptions, Reply, Request, Store};

use crate::hash::{EMPTY, Hash};
use crate::partial::{self, Progress};
use crate::pool::Found;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::user::User;
use crate::{files, layout, pool, versions};

/// The media type of what is appended.
const PARTIAL: &str = "application/partial-upload";

/// `Upload-Complete`: whether the file ends with this request's body; `None` if the request has no such header.
pub(crate) fn completes(request: &Request) -> Result<Option<bool>, Problem> {
    match request.header("upload-complete").map(str::trim) {
        None => Ok(None),
        Some("?1") => Ok(Some(true)),
        Some("?0") => Ok(Some(false)),
        Some(other) => {
            let why = format!("Upload-Complete {other:?}: expected ?1 or ?0");
            Err(Problem::new(400, "bad_header", why))
        }
    }
}

/// A number in a header.
fn number(request: &Request, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = request.header(name) else { return Ok(None) };
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain);
    let why =
        || Problem::new(400, "bad_header", format!("{name} {text:?} is not a number of bytes"));
    number.map(Some).ok_or_else(why)
}

/// Begins an upload with the first bytes of a file, or all of them.
pub(crate) fn begin(
    user: &User,
    hash: &Hash,
    completes: bool,
    request: Request,
    settings: &Settings,
) -> Result<Reply, Problem> {
    if *hash == EMPTY {
        // There are no parts of nothing.
        return Ok(told(files::whole(user, hash, request, settings)?, 0, 0, true));
    }
    let store = Store::open("main")?;
    partial::remove_all(&store, user, hash)?;
    append(user, hash, 0, completes, request, settings, 201)
}

pub(crate) fn head(call: Call<Settings>) -> Result<Reply, Failure> {
    headed(call).or_else(Problem::into_reply)
}

fn headed(call: Call<Settings>) -> Result<Reply, Problem> {
    let (user, hash) = (User::of(&call.request)?, files::hash(&call)?);
    let reply = Reply::new(204).header("cache-control", "no-store");
    if let Some(Found { file, has_right: true, .. }) =
        pool::find(&user, &hash, call.settings.strict_sharing)?
    {
        return Ok(told(reply, file.size, file.size, true));
    }
    let total = partial::total(&user, &hash)?.ok_or(Failure::NotFound)?;
    let offset = offset(&Store::open("main")?, &user, &hash, total)?;
    Ok(told(reply, offset, total, false))
}

pub(crate) fn patch(call: Call<Settings>) -> Result<Reply, Failure> {
    patched(call).or_else(Problem::into_reply)
}

fn patched(call: Call<Settings>) -> Result<Reply, Problem> {
    let hash = files::hash(&call)?;
    let Call { request, settings, .. } = call;
    let user = User::of(&request)?;
    if request.media_type().as_deref() != Some(PARTIAL) {
        let why = format!("what is appended is {PARTIAL}");
        return Err(Problem::new(415, "unsupported_media_type", why));
    }
    let missing = |name: &str| Problem::new(400, "bad_header", format!("{name} is missing"));
    let completes = completes(&request)?.ok_or_else(|| missing("Upload-Complete"))?;
    let at = number(&request, "upload-offset")?.ok_or_else(|| missing("Upload-Offset"))?;
    let total = partial::total(&user, &hash)?.ok_or(Failure::NotFound)?;
    let offset = offset(&Store::open("main")?, &user, &hash, total)?;
    if at != offset {
        let why = format!("the upload is at {offset}, not at {at}");
        return Err(Problem::new(409, "offset_mismatch", why).with("offset", offset));
    }
    append(&user, &hash, at, completes, request, &settings, 204)
}

pub(crate) fn cancel(call: Call<Settings>) -> Result<Reply, Failure> {
    let (user, hash) = (User::of(&call.request)?, files::hash(&call)?);
    partial::total(&user, &hash)?.ok_or(Failure::NotFound)?;
    partial::remove_all(&Store::open("main")?, &user, &hash)?;
    Ok(Reply::new(204))
}

pub(crate) fn options(_: Call<Settings>) -> Result<Reply, Failure> {
    Ok(Reply::new(204).header("allow", "HEAD, PATCH, DELETE, OPTIONS"))
}

/// Appends bytes at an offset.
fn append(
    user: &User,
    hash: &Hash,
    at: u64,
    completes: bool,
    request: Request,
    settings: &Settings,
    status: u16,
) -> Result<Reply, Problem> {
    let length = request.body.length();
    let ends = length.filter(|_| completes).map(|length| at.saturating_add(length));
    let total = match number(&request, "upload-length")?.or(ends) {
        Some(total) => Some(total),
        None => match partial::total(user, hash)? {
            Some(total) => Some(total),
            None => versions::size_of(user, hash)?,
        },
    };
    let total = total.ok_or_else(|| {
        let why = "the length of the file is not known: no manifest of yours names it, and Upload-Length is missing";
        Problem::new(400, "size_unknown", why)
    })?;
    files::check_size(total, settings)?;
    if total == 0 {
        return Err(partial::mismatch(Some(&EMPTY.to_string())));
    }
    if ends.is_some_and(|end| end != total)
        || length.is_some_and(|length| at.saturating_add(length) > total)
    {
        return Err(partial::size_conflict(total));
    }
    partial::begin(user, hash, total)?;
    let store = Store::open("main")?;
    let location = request.url(&["files", &hash.to_string(), "upload"]);
    Reply::new(104).header("location", &location).header("upload-offset", at).send_interim()?;
    let key = layout::upload(user, hash, at);
    let received = store.receive(&key, request.body, &PutOptions::absent())?;
    let end = at.saturating_add(received.stored.info.size);
    if end > total {
        store.delete(&key)?;
        return Err(partial::size_conflict(total));
    }
    let reply = match partial::advance(&store, user, hash, total)? {
        Progress::Complete => told(Reply::new(status), total, total, true),
        Progress::Ranges(_) if completes && received.complete => {
            // The client says that this is the end, and it is not: nothing of it counts.
            store.delete(&key)?;
            return Err(partial::size_conflict(total));
        }
        Progress::Ranges(_) => told(Reply::new(status), end, total, false),
    };
    Ok(reply.header("location", location))
}

/// How far an upload is, in the headers of the draft.
pub(crate) fn told(reply: Reply, offset: u64, length: u64, complete: bool) -> Reply {
    reply
        .header("upload-offset", offset)
        .header("upload-complete", if complete { "?1" } else { "?0" })
        .header("upload-length", length)
}

/// How many bytes from the beginning on are there.
fn offset(store: &Store, user: &User, hash: &Hash, total: u64) -> Result<u64, Failure> {
    let ranges = partial::ranges(store, user, hash, total)?;
    Ok(ranges.first().filter(|(first, _)| *first == 0).map_or(0, |(_, last)| last + 1))
}
