//! Lists of backups, oldest first. Scripts take the last one for the newest, so backups from the future come first.

use keepgate_sdk::retention::newest_last;
use keepgate_sdk::{Call, Failure, Reply, Store, Timestamp, etcd, json};
use serde::Serialize;

use crate::layout::{Cluster, File};
use crate::reply::NOT_FOUND;
use crate::settings::Settings;

/// How many backups, the newest, have details in a list. Each costs a read.
const DETAILED: usize = 1000;

/// A backup in a list with details if nothing else is known about it.
#[derive(Serialize)]
struct Bare<'a> {
    filename: &'a str,
    filesize: u64,
}

pub(crate) fn get(call: Call<Settings>) -> Result<Reply, Failure> {
    let (store, cluster) = (Store::open("main")?, Cluster::of(&call));
    let mut files = cluster.files(&store)?;
    newest_last(&mut files, Timestamp::now());
    // Backups of a cluster that is no longer granted can still be restored.
    if files.is_empty() && cluster != Cluster::default() {
        etcd::require(cluster.name())
            .map_err(|refused| Failure::refused(404, NOT_FOUND, refused.message()))?;
    }
    match call.request.query("details") {
        Some("true" | "1") => details(&store, &cluster, &files),
        _ => Reply::ok().json(&files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>()),
    }
}

fn details(store: &Store, cluster: &Cluster, files: &[File]) -> Result<Reply, Failure> {
    let undetailed = files.len().saturating_sub(DETAILED);
    let describe = |(index, file): (usize, &File)| {
        let known = if index < undetailed { None } else { cluster.known(store, file)? };
        match known {
            Some(known) => Ok(known.json),
            None => json::to_vec(&Bare { filename: file.name.as_str(), filesize: file.size }),
        }
    };
    let described = files.iter().enumerate().map(describe).collect::<Result<Vec<_>, _>>()?;
    Ok(Reply::ok().json_bytes(json::array(described)))
}
