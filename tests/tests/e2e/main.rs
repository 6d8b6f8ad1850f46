//! End-to-end tests of the real `keepgate` program with real clients. `cargo xtask test` builds
//! and tells them everything they need; one module, one promise.
//!
//! | module | what must hold |
//! | --- | --- |
//! | `restic` | restic works, over REST and on the same folder by itself |
//! | `rest_server` | `keepgate rest-server` is taken for restic's own |
//! | `append_only` | what is stored stays |
//! | `access` | only who may comes in, and only where they may |
//! | `requests`, `wire` | every bad request has its status, and does no harm |
//! | `blobs` | ranges, lengths, lists |
//! | `reload` | plugins are replaced under load and no request fails |
//! | `configuration` | SIGHUP |
//! | `durability` | what was acknowledged survives `kill -9` |
//! | `hostile` | a plugin that misbehaves harms nobody else |
//! | `memory` | a gigabyte passes through a few megabytes |
//! | `shutdown` | requests under way finish |
//! | `commands` | `check`, `user`, `init`, `--version` |
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
mod commands;
mod configuration;
mod crowd;
mod durability;
mod hostile;
mod http2;
mod memory;
mod reload;
mod requests;
mod rest_server;
mod restic;
mod shutdown;
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
