//! End-to-end tests of the real `keepgate` program with real clients. `cargo xtask test` builds
//! and tells them everything they need; one module, one promise.
//!
//! | module | what must hold |
//! | --- | --- |
//! | `clients` | every command of restic works, an old one's and the newest's, by every way in |
//! | `restic` | what the first start prints works; others take the folder as it is |
//! | `rest_server` | `keepgate rest-server` is taken for restic's own |
//! | `flags` | and takes every one of its flags |
//! | `append_only` | what is stored stays |
//! | `quotas` | limits for stores, mounts, folders, users; rules for users |
//! | `access` | only who may comes in, and only where they may |
//! | `requests` | what is the gateway's own is no repository |
//! | `wire` | what is no request does no harm |
//! | `blobs` | ranges, lengths, lists |
//! | `reload` | plugins are replaced under load and no request fails |
//! | `configuration` | SIGHUP |
//! | `recording` | exchanges are kept without their secrets |
//! | `trust` | only components that the operator named, or whose maker, are loaded |
//! | `conformance` | every case of restic's protocol, here and at restic's own server |
//! | `etcd` | backups of etcd are whole, come back, and survive what goes wrong |
//! | `faults` | disks, calls and clients that give way |
//! | `durability` | what was acknowledged survives `kill -9` |
//! | `hostile` | a plugin that misbehaves harms nobody else |
//! | `hostile_limits` | however often: memory stays flat, and who only breaks down is put aside |
//! | `wasi_http` | a component that knows nothing of Keepgate is served too |
//! | `languages` | plugins in JavaScript and Python are served like any other |
//! | `memory` | a gigabyte passes through a few megabytes |
//! | `shutdown` | requests under way finish |
//! | `docs` | the book's commands work, its links lead somewhere |
//! | `commands` | `check`, `user`, `init`, `--version` |
//! | `plugin_cases` | `keepgate plugin test` |
//! | `plugin_tools` | `keepgate plugin`: from nothing to a plugin that serves |
//! | `http2` | curl over HTTP/2 |
//! | `crowd` | idle and slow clients do not stop others |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this crate is tests: a failed expectation ends one, with its place"
)]

mod access;
mod append_only;
mod blobs;
mod clients;
mod commands;
mod configuration;
mod conformance;
mod crowd;
mod docs;
mod durability;
mod etcd;
mod faults;
mod flags;
mod hostile;
mod hostile_limits;
mod http2;
mod languages;
mod memory;
mod plugin_cases;
mod plugin_tools;
mod quotas;
mod recording;
mod reload;
mod requests;
mod rest_server;
mod restic;
mod shutdown;
mod trust;
mod wasi_http;
mod wire;

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::Blob;

/// The path of a data blob in a repository.
fn path(repository: &str, id: &str) -> String {
    format!("{repository}data/{id}")
}

/// Stores a data blob, and returns its path.
#[track_caller]
fn store(endpoint: &Endpoint, repository: &str, blob: Blob) -> String {
    let path = path(repository, &blob.id());
    let Reply { status, .. } = endpoint.post(&path, &blob.bytes());
    assert_eq!(status, 200, "{path}");
    path
}
