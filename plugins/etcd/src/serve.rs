//! Single backups: what a GET or HEAD sends, and the end of one by request.

use keepgate_sdk::{BlobAnswer, Content, Failure, Level, Reply, Request, Store, environment};

use crate::name::Name;
use crate::place::{File, Place};
use crate::{metrics, reply};

/// All of a backup, a range, or word that the client has it. The file's hash makes the better tag: it
/// is the same on every gateway and after a move.
pub(crate) fn get(
    store: &Store,
    place: &Place,
    name: &Name,
    request: &Request,
) -> Result<Reply, Failure> {
    let mut answer = BlobAnswer::of(store, &place.file(name))?.content_type("application/gzip");
    let info = answer.info();
    let file = File { name: name.clone(), size: info.size, etag: info.etag.clone() };
    if let Some(sha256) = place.known(store, &file)?.as_ref().and_then(|known| known.sha256()) {
        answer = answer.etag(sha256);
    }
    let reply = answer.to(request)?;
    if let Content::Body(body) = &reply.content {
        metrics::downloaded(place.cluster(), body.length().unwrap_or(0));
    }
    Ok(reply)
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
