//! What every store promises, checked against each of them: the disk with every set of features,
//! memory, and both behind layers. A case does not know which store it is given.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod blobs;
#[macro_use]
mod cases;
mod commit_observer;
#[path = "../common/mod.rs"]
mod common;
mod expiries;
mod lists;
mod make;
mod renames;
mod uploads;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use blobs::*;
use bytes::Bytes;
use commit_observer::*;
use common::*;
use expiries::*;
use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::guard::{AppendOnly, Policy, Subfolder};
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{Amount, FolderRule, Quota, QuotaOptions, Rules, UserRule};
use keepgate_store::{
    Body, BodyError, Change, Clock, CommitObserver, CommittedChange, Condition, DeleteOptions, Key,
    ObserverHandle, Part, Piece, PutOptions, RenameOptions, StoreError, Stored,
};
use lists::*;
use renames::*;
use tempfile::TempDir;
use uploads::*;

/// Runs every case against every store, each time with a new one.
macro_rules! conformance {
    (stores: $($store:ident)*; cases: $cases:tt) => {
        $(conformance!(@store $store $cases);)*
    };
    (@store $store:ident { $($case:ident)* }) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (_dir, store) = super::make::$store();
                    super::$case(store).await;
                }
            )*
        }
    };
}

for_each_case! {
    conformance
    stores:
        disk disk_in_memory disk_without_openat2 disk_with_named_files disk_with_hard_links disk_with_neither
        memory
        disk_behind_append_only disk_subfolder memory_behind_append_only memory_subfolder
        disk_in_quota memory_in_quota
        unguarded;
}
