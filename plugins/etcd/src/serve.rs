//! Single backups: what a GET or HEAD sends, and removal by request.

use keepgate_sdk::{
    BlobAnswer, Call, Content, Failure, Reply, Store, Timestamp, environment, is_sha256,
};

use crate::layout::{Cluster, File};
use crate::settings::Settings;
use crate::{metrics, name};

/// All of a backup, a range, or a 304. The file's hash makes the better tag: it is the same on every gateway and
/// after a move.
pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    let (store, cluster, name) = (Store::open("main")?, Cluster::of(&call), name::of(&call)?);
    let mut answer = BlobAnswer::of(&store, &cluster.file(&name))?.content_type("application/gzip");
    let file = File { name, size: answer.info().size, etag: answer.info().etag.clone() };
    let sha256 = cluster.known(&store, &file)?.and_then(|known| known.value.sha256);
    if let Some(sha256) = sha256.filter(|sha256| is_sha256(sha256)) {
        answer = answer.etag(&sha256);
    }
    let reply = answer.to(&call.request)?;
    if let Content::Body(body) = &reply.content {
        metrics::downloaded(cluster.name(), body.length().unwrap_or(0));
    }
    Ok(reply)
}

/// Removes a backup and its sidecar; never the newest good one.
pub(crate) fn delete(call: Call<Settings>) -> Result<Reply, Failure> {
    let (store, cluster, name) = (Store::open("main")?, Cluster::of(&call), name::of(&call)?);
    let contents = cluster.contents(&store)?;
    if !contents.files.iter().any(|file| file.name == name) {
        return Err(Failure::NotFound);
    }
    if cluster.newest_good(&store, &contents, Timestamp::now())? == Some(&name) {
        let why = "it is the newest that is known to be good; make another backup first";
        return Err(Failure::refused(409, "the last good backup is not removed", why));
    }
    let key = cluster.file(&name);
    store.delete(&key)?.ok_or(Failure::NotFound)?;
    environment::count(metrics::REMOVED, &[cluster.name(), "request"], 1);
    environment::info("backup removed by request", &[("file", &key)]);
    // If this fails, the next rotation removes it.
    let key = cluster.sidecar(&name);
    if let Err(failure) = store.delete(&key) {
        environment::warn(failure.message(), &[("file", &key)]);
    }
    Ok(Reply::new(204))
}
