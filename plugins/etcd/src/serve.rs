//! Single backups: what a GET or HEAD sends, and the end of one by request.

use keepgate_sdk::{
    Download, Failure, Info, Level, Method, Part, Reply, Request, Store, environment,
};

use crate::conditional::{Validators, Wanted};
use crate::name::Name;
use crate::place::{File, Place};
use crate::{metrics, reply};

/// All of a backup, a range, or word that the client has it.
pub(crate) fn get(
    store: &Store,
    place: &Place,
    name: &Name,
    request: &Request,
) -> Result<Reply, Failure> {
    let key = place.file(name);
    let info = store.head(&key)?;
    let validators = validators(store, place, name, &info)?;
    let is_head = request.method == Method::Head;
    let part = match validators.wanted(request, is_head) {
        Wanted::Bytes(part) => part,
        Wanted::NotModified => return Ok(head(304, &validators)),
        Wanted::Other => return reply::refusal(412, "the backup is another one", ""),
        Wanted::NoSuchRange => return reply::out_of_range(info.size),
    };
    if is_head {
        let head = head(200, &validators).header("content-type", "application/gzip");
        return Ok(head.header("content-length", info.size));
    }
    let Download { info, offset, length, data } = store.get(&key, part)?;
    metrics::downloaded(place.cluster(), length);
    let status = if matches!(part, Part::Whole) { 200 } else { 206 };
    let head = head(status, &validators).header("content-type", "application/gzip");
    if status == 200 {
        return Ok(head.body(data));
    }
    // A part is never empty: `get` fails where no byte of it is inside.
    let last = offset.saturating_add(length).saturating_sub(1);
    let range = format!("bytes {offset}-{last}/{}", info.size);
    Ok(head.header("content-range", range).body(data))
}

/// The file's hash makes the better tag: it is the same on every gateway and after a move.
fn validators(
    store: &Store,
    place: &Place,
    name: &Name,
    info: &Info,
) -> Result<Validators, Failure> {
    let file = File { name: name.clone(), size: info.size };
    let known = place.known(store, &file)?;
    let etag = known.as_ref().and_then(|known| known.sha256()).unwrap_or(&info.etag);
    Ok(Validators::new(etag, info.modified))
}

fn head(status: u16, validators: &Validators) -> Reply {
    Reply::new(status)
        .header("accept-ranges", "bytes")
        .header("etag", &validators.etag)
        .header("last-modified", validators.last_modified())
}

/// Removes a backup, and what is known of it; never the newest good one.
pub(crate) fn delete(store: &Store, place: &Place, name: &Name) -> Result<Reply, Failure> {
    let contents = place.contents(store)?;
    if !contents.files.iter().any(|file| file.name == *name) {
        return Err(Failure::NotFound);
    }
    if place.newest_good(store, &contents)? == Some(name) {
        let why = "it is the newest that is known to be good; make another backup before";
        return reply::refusal(409, "the last good backup is not removed", why);
    }
    store.delete(&place.file(name))?.ok_or(Failure::NotFound)?;
    metrics::removed(place.cluster(), "request");
    environment::log(Level::Info, &format!("{} removed by request", place.file(name)));
    // The next rotation sweeps it where this fails.
    if let Err(failure) = store.delete(&place.sidecar(name)) {
        let message = format!("{}: {}", place.sidecar(name), failure.message());
        environment::log(Level::Warn, &message);
    }
    Ok(Reply::new(204))
}
