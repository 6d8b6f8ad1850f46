//! Listings, streamed: a repository may have a million blobs.

use keepgate_sdk::{Failure, Reply, Store, is_sha256};

use crate::route::Route;

const V1: &str = "application/vnd.x.restic.rest.v1";
const V2: &str = "application/vnd.x.restic.rest.v2";

/// Names, and in version 2 also sizes, of all blobs of a type. Temporary and foreign files, which have no id for
/// a name, are left out.
pub(crate) fn get(store: &Store, route: &Route, accept: Option<&str>) -> Result<Reply, Failure> {
    // Clients compare the content type exactly, and this is how rest-server reads `Accept`.
    let v2 = accept == Some(V2);
    let fan_out = route.kind() == "data";
    let entries = store.list(&route.key(), fan_out)?;
    let reply = Reply::ok().header("content-type", if v2 { V2 } else { V1 });
    reply.stream(|out| {
        let mut separator = "[";
        for entry in entries {
            let entry = entry?;
            let name = entry.name();
            if entry.folder || !is_sha256(name) || (fan_out && !in_its_folder(&entry.key, name)) {
                continue;
            }
            // An id needs no escaping.
            for piece in [separator, if v2 { "{\"name\":\"" } else { "\"" }, name, "\""] {
                out.write(piece.as_bytes())?;
            }
            if v2 {
                out.write(format!(",\"size\":{}}}", entry.size).as_bytes())?;
            }
            separator = ",";
        }
        out.write(if separator == "[" { b"[]" } else { b"]" })
    })
}

/// Whether a data blob is in the folder of its first two digits, where `get` would look for it.
fn in_its_folder(key: &str, name: &str) -> bool {
    key.rsplit('/').nth(1).is_some_and(|folder| folder.len() == 2 && name.starts_with(folder))
}
