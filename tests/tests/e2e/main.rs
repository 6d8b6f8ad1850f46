//! End-to-end tests of the real `keepgate` program with real clients. `cargo xtask test` builds
//! everything they need and tells them where it is. Each module checks one promise.
//!
//! | module | what must hold |
//! | --- | --- |
//! | `clients` | every command of restic works, old and new, over every transport |
//! | `restic` | what the first start prints works; other programs can use the folder as it is |
//! | `proxies` | a client behind a trusted proxy has its own address |
//! | `rest_server` | `keepgate rest-server` can replace restic's own |
//! | `flags` | and accepts every one of its flags |
//! | `append_only` | stored blobs stay |
//! | `retention` | young blobs stay, whatever the clock says |
//! | `quotas` | limits for stores, mounts, folders and users; rules for users |
//! | `access` | authentication and private repositories |
//! | `refusals` | what the gateway refuses has the form of the mount's surface |
//! | `requests` | the gateway's own files are not part of a repository |
//! | `wire` | malformed requests do no harm |
//! | `blobs` | ranges, lengths, lists |
//! | `reload` | plugins are replaced under load and no request fails |
//! | `settling` | files that cannot be used are reported once, and a file that is away for a moment is not missed |
//! | `confined` | a system that denies executable memory or limits the address space |
//! | `configuration` | SIGHUP |
//! | `copies` | a copy of a store can be restored from, and outlives its source |
//! | `certificates` | those that expire are reported; files are read as tools write them |
//! | `bearer` | users with tokens of an issuer |
//! | `client_certificates` | clients present certificates instead of passwords |
//! | `recording` | exchanges are recorded without their secrets |
//! | `trust` | only components with an allowed digest or signature are loaded |
//! | `conformance` | every case of restic's protocol, here and with restic's own server |
//! | `etcd` | backups of etcd are whole, can be restored, and survive failures |
//! | `databacker` | instances get their configurations, and what they report is kept and counted once |
//! | `lxd` | backups of LXD's instances can be restored, and nothing is left of those that fail |
//! | `faults` | failing disks, system calls and clients |
//! | `s3` | a bucket keeps the promises of a folder |
//! | `durability` | acknowledged blobs survive `kill -9` |
//! | `hostile` | a plugin that misbehaves affects nobody else |
//! | `hostile_limits` | memory stays flat, and a plugin that only breaks down is suspended |
//! | `isolation` | what plugins share, nobody can take from the others |
//! | `wasi_http` | a component that knows nothing about Keepgate is served too |
//! | `languages` | plugins in JavaScript and Python are served like any other |
//! | `memory` | a gigabyte passes through a few megabytes |
//! | `shutdown` | in-flight requests finish |
//! | `topics` | whoever follows a topic gets what is published, and holds nothing up |
//! | `docs` | the book's commands work, its links are valid |
//! | `commands` | `check`, `user`, `init`, `--version` |
//! | `plugin_cases` | `keepgate plugin test` |
//! | `plugin_tools` | `keepgate plugin`: from nothing to a plugin that serves |
//! | `http2` | curl over HTTP/2 |
//! | `crowd` | idle and slow clients do not keep others waiting |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this crate is tests: a failed expectation ends one, with its place"
)]

mod access;
mod append_only;
mod bearer;
mod blobs;
mod certificates;
mod client_certificates;
mod clients;
mod commands;
mod configuration;
mod confined;
mod conformance;
mod copies;
mod crowd;
mod databacker;
mod docs;
mod durability;
mod etcd;
mod faults;
mod fest;
mod flags;
mod hostile;
mod hostile_crowd;
mod hostile_limits;
mod http2;
mod isolation;
mod languages;
mod lxd;
mod memory;
mod plugin_cases;
mod plugin_tools;
mod proxies;
mod quotas;
mod rate_limits;
mod recording;
mod records;
mod refusals;
mod reload;
mod requests;
mod rest_server;
mod restic;
mod retention;
mod s3;
mod secrets;
mod settling;
mod shares;
mod shutdown;
mod topics;
mod trust;
mod wasi_http;
mod wire;

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::Blob;

/// The path of a data blob in a repository.
fn path(repository: &str, id: &str) -> String {
    format!("{repository}data/{id}")
}

/// Stores a data blob and returns its path.
#[track_caller]
fn store(endpoint: &Endpoint, repository: &str, blob: Blob) -> String {
    let path = path(repository, &blob.id());
    let Reply { status, .. } = endpoint.post(&path, &blob.bytes());
    assert_eq!(status, 200, "{path}");
    path
}
