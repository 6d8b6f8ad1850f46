//! The stores, each in a new bucket.

use std::sync::Once;
use std::sync::atomic::AtomicU32;

use keepgate_store::quota::{Amount, FolderRule, Quota, QuotaOptions, Rules, UserRule};
use keepgate_store_s3::{MIN_PART, S3Options};

use super::*;

/// Reports once that all cases with a server are skipped.
fn missing(reported: &Once, server: &str, how: &str) -> Option<Store> {
    reported.call_once(|| support::skip(&format!("the promises of stores with {server}"), how));
    None
}

async fn versitygw_with(change: impl FnOnce(&mut S3Options)) -> Option<Store> {
    let Some(server) = support::versitygw() else {
        static REPORTED: Once = Once::new();
        return missing(&REPORTED, "versitygw", "`cargo xtask test` builds it with Go");
    };
    let mut options = server.bucket();
    change(&mut options);
    Some(Arc::new(support::open(options).await))
}

pub(super) async fn versitygw(_: &str) -> Option<Store> {
    versitygw_with(|_| {}).await
}

/// Whatever does not fit into a few bytes is sent in parts.
pub(super) async fn versitygw_in_parts(_: &str) -> Option<Store> {
    versitygw_with(|options| {
        options.single_put = 1000;
        options.part_size = MIN_PART;
    })
    .await
}

/// A bucket that keeps versions.
pub(super) async fn versitygw_versions(_: &str) -> Option<Store> {
    let Some(server) = support::versitygw_with_versions() else {
        static REPORTED: Once = Once::new();
        return missing(&REPORTED, "versitygw", "`cargo xtask test` builds it with Go");
    };
    let options = server.bucket_with_versions(false).await;
    let options = S3Options { single_put: 100_000, part_size: MIN_PART, ..options };
    Some(Arc::new(support::open(options).await))
}

/// Neither a prefix nor limits that are never reached make a difference.
pub(super) async fn versitygw_in_quota(_: &str) -> Option<Store> {
    let prefix = |options: &mut S3Options| "some/prefix".clone_into(&mut options.prefix);
    let store = versitygw_with(prefix).await?;
    let folder = FolderRule { pattern: "**".to_owned(), limit: Amount::limit(1 << 40) };
    let user = UserRule { user: "*".to_owned(), limit: Amount::limit(1 << 40) };
    let rules =
        Rules { total: Some(Amount::limit(1 << 40)), folders: vec![folder], users: vec![user] };
    // It goes with the server's folder.
    let server = support::versitygw()?;
    let state = tempfile::TempDir::new_in(server.data.parent()?).unwrap().keep();
    let options = QuotaOptions { state_file: state.join("quota"), lock: None, recount_every: None };
    Some(Quota::open(store, rules, options).await.unwrap().store(Some("alice")))
}

/// A server on which conditional writes are not atomic: this store is the only writer.
/// Cases that s3s-fs 0.14.1 cannot do: it answers 500 to a `HEAD` of what is a folder in its file system, to ranges of an
/// empty object, and to names that are longer than the names of files.
const BEYOND_S3S_FS: [&str; 5] = [
    "a_folder_is_not_a_blob_and_a_blob_not_a_folder",
    "a_rename_checks_the_condition",
    "deleting_can_be_conditional",
    "parts_are_clamped_to_the_blob",
    "the_longest_names_work",
];

pub(super) async fn racing_server(case: &str) -> Option<Store> {
    if BEYOND_S3S_FS.contains(&case) {
        return None;
    }
    let Some(server) = support::s3s_fs() else {
        let how = "`cargo xtask test` builds it";
        static REPORTED: Once = Once::new();
        return missing(&REPORTED, "s3s-fs", how);
    };
    let options = S3Options { single_writer: true, ..server.bucket() };
    Some(Arc::new(support::open(options).await))
}

/// A server that somebody started by hand, and its bucket `conformance`; each case has a prefix of its own.
pub(super) async fn by_hand(case: &str) -> Option<Store> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(server) = support::other() else {
        static REPORTED: Once = Once::new();
        let how = "start one with a bucket `conformance` and set KEEPGATE_TEST_S3 to its URL";
        return missing(&REPORTED, "another S3 server", how);
    };
    let mut options = server.options("conformance");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    options.prefix = format!("{}-{number}-{case}", std::process::id()).chars().take(50).collect();
    options.single_put = 100_000;
    options.part_size = MIN_PART;
    Some(Arc::new(support::open(options).await))
}
