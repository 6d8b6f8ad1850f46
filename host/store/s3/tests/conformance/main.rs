//! What every store promises, checked against buckets: the cases of `host/store/tests/conformance`, which do not know
//! which store they are given.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

#[path = "../../../tests/conformance/blobs.rs"]
mod blobs;
#[macro_use]
#[path = "../../../tests/conformance/cases.rs"]
mod cases;
#[path = "../../../tests/conformance/commit_observer.rs"]
mod commit_observer;
#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/conformance/expiries.rs"]
mod expiries;
#[path = "../../../tests/conformance/lists.rs"]
mod lists;
mod make;
#[path = "../../../tests/conformance/renames.rs"]
mod renames;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../../tests/conformance/uploads.rs"]
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
use futures_util::stream;
use keepgate_store::{
    Body, BodyError, Change, CommitObserver, CommittedChange, Condition, DeleteOptions, Key,
    ObserverHandle, Part, Piece, PutOptions, RenameOptions, StoreError, Stored,
};
use lists::*;
use renames::*;
use uploads::*;

/// Runs every case against every store, each time with a new bucket.
macro_rules! conformance {
    (stores: $($store:ident)*; cases: $cases:tt) => {
        $(conformance!(@store $store $cases);)*
    };
    (@store $store:ident { $($case:ident)* }) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(store) = super::make::$store(stringify!($case)).await {
                        super::$case(store).await;
                    }
                }
            )*
        }
    };
}

for_each_case! {
    conformance
    stores:
        versitygw versitygw_in_parts versitygw_versions versitygw_in_quota
        racing_server by_hand;
}
