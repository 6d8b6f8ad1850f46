//! What every store promises, held against each of them: the disk in all its ways of working,
//! memory, and both through guards. A case knows nothing of the store that it is given.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests say plainly what they expect"
)]

mod blobs;
mod commit_observer;
#[path = "../common/mod.rs"]
mod common;
mod lists;
mod make;
mod uploads;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use blobs::*;
use bytes::Bytes;
use commit_observer::*;
use common::*;
use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::guard::{AppendOnly, Policy, Subfolder};
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{FolderRule, Quota, QuotaOptions, Rules, UserRule};
use keepgate_store::{
    Body, BodyError, Change, CommitObserver, CommittedChange, Condition, DeleteOptions, Key,
    ObserverHandle, Part, Piece, PutOptions, StoreError, Stored,
};
use lists::*;
use tempfile::TempDir;
use uploads::*;

/// Runs every case against every store, each time on a new one.
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

conformance! {
    stores:
        disk disk_in_memory disk_without_openat2 disk_with_named_files disk_with_hard_links disk_with_neither
        memory
        disk_behind_append_only disk_subfolder memory_behind_append_only memory_subfolder
        disk_in_quota memory_in_quota
        unguarded;
    cases: {
        what_was_put_can_be_read
        parts_are_clamped_to_the_blob
        every_way_to_chunk_a_body_stores_the_same
        info_is_the_same_from_everywhere
        an_etag_never_comes_back
        what_is_missing_is_not_found
        absent_fails_before_the_body_is_read
        absent_or_identical_compares
        matches_replaces_only_what_it_knows
        wrong_bytes_are_not_stored
        a_body_that_breaks_off_is_not_stored
        one_of_many_wins_an_absent_key
        identical_uploads_at_once_all_succeed
        one_of_many_different_uploads_wins
        one_of_many_wins_a_match
        an_upload_that_is_dropped_leaves_nothing
        a_folder_is_no_blob_and_a_blob_no_folder
        deleting_is_idempotent_and_keeps_folders
        deleting_on_a_condition
        one_of_a_put_and_a_delete_wins_a_match
        listings_are_in_order_of_bytes
        a_listing_begins_after_a_name
        a_listing_tells_etags
        a_missing_folder_is_not_found
        many_blobs_are_listed_whole
        asking_for_no_entries_is_not_the_end
        a_listing_survives_changes
        parts_are_joined_in_order
        pieces_of_blobs_are_joined
        joining_keeps_the_conditions
        folders_are_prepared
        the_longest_names_work
        what_changes_adds_up
        an_observer_is_told_what_changed
        an_observer_is_released_when_the_call_is_over
        an_observer_may_refuse_a_concat
    }
}
