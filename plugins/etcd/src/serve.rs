//! Single backups: what a GET or HEAD sends, and removal by request.

use keepgate_sdk::{
    BlobAnswer, Content, Failure, Level, Reply, Request, Store, TimeName, environment,
};

use crate::layout::{Cluster, File};
use crate::metrics;

/// All of a backup, a range, or a 304. The file's hash makes the better tag: it is the same on every gateway and
/// after a move.
pub(crate) fn get(
    store: &Store,
    cluster: &Cluster,
    name: &TimeName,
    request: &Request,
) -> Result<Reply, Failure> {
    let mut answer = BlobAnswer::of(store, &cluster.file(name))?.content_type("application/gzip");
    let info = answer.info();
    let file = File { name: name.clone(), size: info.size, etag: info.etag.clone() };
    if let Some(sha256) = cluster.known(store, &file)?.as_ref().and_then(|k| k.value.sha256()) {
        answer = answer.etag(sha256);
    }
    let reply = answer.to(request)?;
    if let Content::Body(body) = &reply.content {
        metrics::downloaded(cluster.name(), body.length().unwrap_or(0));
    }
    Ok(reply)
}

/// Removes a backup and its sidecar; never the newest good one.
pub(crate) fn delete(store: &Store, cluster: &Cluster, name: &TimeName) -> Result<Reply, Failure> {
    let contents = cluster.contents(store)?;
    if !contents.files.iter().any(|file| file.name == *name) {
        return Err(Failure::NotFound);
    }
    if cluster.newest_good(store, &contents)? == Some(name) {
        let why = "it is the newest that is known to be good; make another backup first";
        return Err(Failure::refused(409, "the last good backup is not removed", why));
    }
    let key = cluster.file(name);
    store.delete(&key)?.ok_or(Failure::NotFound)?;
    metrics::removed(cluster.name(), "request");
    environment::log_with(Level::Info, "backup removed by request", &[("file", &key)]);
    // If this fails, the next rotation removes it.
    let key = cluster.sidecar(name);
    if let Err(failure) = store.delete(&key) {
        let fields = [("file", key.as_str()), ("error", failure.message())];
        environment::log_with(Level::Warn, "sidecar not removed", &fields);
    }
    Ok(Reply::new(204))
}
