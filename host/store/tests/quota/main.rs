//! What quotas admit and refuse, whom blobs count for, and what survives a restart and a change of
//! the rules. Concurrent calls are tested beside the code.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod admission;
#[path = "../common/mod.rs"]
mod common;
mod entries;
mod lasting;
mod reading;
mod replaced;

use std::sync::Arc;

use bytes::Bytes;
use common::*;
use futures_util::stream;
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{Amount, FolderRule, Quota, QuotaOptions, Rules, UserRule};
use keepgate_store::{Body, PutOptions, StoreError};
use tempfile::TempDir;

fn total(limit: u64) -> Rules {
    Rules { total: Some(Amount::limit(limit)), ..Rules::default() }
}

fn folders(rules: &[(&str, u64)]) -> Rules {
    let rule = |(pattern, limit): &(&str, u64)| FolderRule {
        pattern: (*pattern).to_owned(),
        limit: Amount::limit(*limit),
    };
    Rules { folders: rules.iter().map(rule).collect(), ..Rules::default() }
}

fn users(rules: &[(&str, u64)]) -> Rules {
    let rule = |(user, limit): &(&str, u64)| UserRule {
        user: (*user).to_owned(),
        limit: Amount::limit(*limit),
    };
    Rules { users: rules.iter().map(rule).collect(), ..Rules::default() }
}

fn options(dir: &TempDir) -> QuotaOptions {
    QuotaOptions { state_file: dir.path().join("made/here/state"), lock: None, recount_every: None }
}

/// A quota around a new store in memory.
async fn memory(rules: Rules) -> (TempDir, Store, Arc<Quota>) {
    let dir = TempDir::new().unwrap();
    let store: Store = Arc::new(MemoryStore::new());
    let quota = Quota::open(store.clone(), rules, options(&dir)).await.unwrap();
    (dir, store, quota)
}

/// What is used, without empty scopes; nothing may be reserved.
fn used(quota: &Quota) -> Vec<(String, u64)> {
    let usage = quota.usage();
    assert!(usage.iter().all(|usage| usage.reserved == 0), "{usage:?}");
    let there = usage.into_iter().filter(|usage| usage.used > 0);
    there.map(|usage| (usage.scope.to_string(), usage.used)).collect()
}

fn sums(sums: &[(&str, u64)]) -> Vec<(String, u64)> {
    sums.iter().map(|(scope, bytes)| ((*scope).to_owned(), *bytes)).collect()
}

async fn refused(store: &Store, name: &str, body: Body) -> String {
    match store.put(&key(name), body, PutOptions::default()).await {
        Err(StoreError::QuotaExceeded(text)) => text,
        other => panic!("{name}: {other:?}"),
    }
}

/// A body of unknown length.
fn unknown(bytes: &Bytes, size: usize) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Body::from_stream(None, stream::iter(chunks))
}
