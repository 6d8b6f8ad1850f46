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

conformance! {
    stores:
        disk disk_in_memory disk_without_openat2 disk_with_named_files disk_with_hard_links disk_with_neither
        memory
        disk_behind_append_only disk_subfolder memory_behind_append_only memory_subfolder
        disk_in_quota memory_in_quota
        unguarded;
    cases: {
        stored_blobs_can_be_read
        parts_are_clamped_to_the_blob
        the_chunks_of_a_body_make_no_difference
        info_is_the_same_from_everywhere
        an_etag_never_comes_back
        a_missing_blob_is_not_found
        absent_fails_before_the_body_is_read
        absent_or_identical_compares
        matches_replaces_only_the_expected_blob
        wrong_bytes_are_not_stored
        a_body_that_breaks_off_is_not_stored
        one_of_many_wins_an_absent_key
        identical_uploads_at_once_all_succeed
        one_of_many_different_uploads_wins
        one_of_many_wins_a_match
        a_dropped_upload_leaves_nothing
        a_folder_is_not_a_blob_and_a_blob_not_a_folder
        deleting_is_idempotent_and_keeps_folders
        deleting_can_be_conditional
        one_of_a_put_and_a_delete_wins_a_match
        listings_are_sorted_by_bytes
        a_listing_can_begin_after_a_name
        a_listing_contains_etags
        a_missing_folder_is_not_found
        a_long_listing_is_complete
        asking_for_zero_entries_does_not_end_a_listing
        a_listing_survives_concurrent_changes
        blobs_are_joined_in_order
        pieces_of_blobs_are_joined
        joining_checks_the_conditions
        folders_are_prepared
        the_longest_names_work
        reported_changes_add_up
        an_observer_is_told_what_changed
        an_observer_is_released_when_the_call_is_over
        an_observer_may_refuse_a_concat
    }
}
