//! Lists of backups, oldest first.

use keepgate_sdk::{Failure, Reply, Request, Store, etcd};
use serde::Serialize;

use crate::place::{File, Place};
use crate::reply;

/// Of so many backups, the newest, a list with details reads what is known of them: each costs a
/// read.
const DETAILED: usize = 1000;

/// What a list with details says of a backup of which nothing else is known.
#[derive(Serialize)]
struct Bare<'a> {
    filename: &'a str,
    filesize: u64,
}

pub(crate) fn get(store: &Store, place: &Place, request: &Request) -> Result<Reply, Failure> {
    let files = place.files(store)?.unwrap_or_default();
    // Backups of a cluster that is granted no more can still be restored.
    if files.is_empty() && !is_known(place) {
        return reply::not_found(&format!("there is no cluster named {:?}", place.cluster()));
    }
    match request.query("details") {
        Some("true" | "1") => details(store, place, &files),
        _ => Reply::ok().json(&files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>()),
    }
}

fn is_known(place: &Place) -> bool {
    *place == Place::main() || etcd::clusters().iter().any(|cluster| cluster == place.cluster())
}

fn details(store: &Store, place: &Place, files: &[File]) -> Result<Reply, Failure> {
    let undetailed = files.len().saturating_sub(DETAILED);
    let mut list = b"[".to_vec();
    for (index, file) in files.iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        let known = if index < undetailed { None } else { place.known(store, file)? };
        match known {
            Some(sidecar) => list.extend(sidecar.json),
            None => {
                let bare = Bare { filename: file.name.as_str(), filesize: file.size };
                let bare = serde_json::to_vec(&bare)
                    .map_err(|error| Failure::Internal(format!("a list as JSON: {error}")))?;
                list.extend(bare);
            }
        }
    }
    list.push(b']');
    Ok(Reply::ok().header("content-type", "application/json").bytes(list))
}
