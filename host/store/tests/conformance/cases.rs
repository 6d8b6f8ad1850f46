//! The names of all cases. Stores in other crates include these files by their paths and run the same cases.

/// Calls a macro with what it is given, and the cases in braces.
macro_rules! for_each_case {
    ($callback:ident $($given:tt)*) => {
        $callback! { $($given)* cases: {
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
            what_came_of_a_body_is_kept_if_it_is_received
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
            a_renamed_blob_takes_everything_along
            a_rename_checks_the_condition
            one_of_many_renames_wins
            renames_in_a_circle_lose_nothing
            observers_of_a_rename_are_told_what_changed
            a_blob_that_has_expired_is_not_there
            a_blob_is_there_until_it_expires
            observers_are_told_of_blobs_that_have_expired
            folders_are_prepared
            the_longest_names_work
            reported_changes_add_up
            an_observer_is_told_what_changed
            an_observer_is_released_when_the_call_is_over
            an_observer_may_refuse_a_concat
            an_observer_may_keep_a_blob
        } }
    };
}
