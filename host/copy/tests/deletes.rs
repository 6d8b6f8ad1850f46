//! Deletes follow late or never, and a wiped source does not wipe the copy.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{Call, Hooked, Repository, Store, contents, delete, hooked, memory, put, run};
use keepgate_copy::{CopyOptions, Deletes, Report};
use keepgate_store::StoreError;
use keepgate_store::guard::AppendOnly;
use tempfile::TempDir;

const DAY: u64 = 24 * 3600;

/// A pair of stores, and days.
struct Pair {
    from: Store,
    to: Store,
    state: TempDir,
    max_missing: f64,
}

impl Pair {
    fn new() -> Self {
        Self { from: memory(), to: memory(), state: TempDir::new().unwrap(), max_missing: 0.5 }
    }

    fn options(&self, day: u64) -> CopyOptions {
        let deletes = Deletes {
            after: Duration::from_secs(30 * DAY),
            max_missing: self.max_missing,
            state: self.state.path().to_owned(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs((20_000 + day) * DAY),
        };
        CopyOptions { deletes: Some(deletes), ..CopyOptions::default() }
    }

    async fn day(&self, day: u64) -> Report {
        run(&self.from, &self.to, self.options(day)).await
    }

    async fn names(&self) -> Vec<String> {
        contents(&self.to).await.into_keys().collect()
    }

    fn state_files(&self) -> usize {
        std::fs::read_dir(self.state.path()).unwrap().count()
    }
}

#[tokio::test]
async fn deletes_never_follow_by_default() {
    let pair = Pair::new();
    for name in ["f/a", "f/b", "f/c"] {
        put(&pair.from, name, name).await;
    }
    run(&pair.from, &pair.to, CopyOptions::default()).await;
    delete(&pair.from, "f/a").await;
    let report = run(&pair.from, &pair.to, CopyOptions::default()).await;
    assert!(report.is_complete());
    assert_eq!((report.missing.count, report.removed.count), (1, 0));
    assert_eq!(pair.names().await.len(), 3);
}

#[tokio::test]
async fn what_is_missing_all_the_time_is_removed_after_the_delay() {
    let pair = Pair::new();
    for name in ["f/a", "f/b", "f/c", "f/d"] {
        put(&pair.from, name, name).await;
    }
    pair.day(0).await;
    assert_eq!(pair.state_files(), 0);
    delete(&pair.from, "f/a").await;
    delete(&pair.from, "f/b").await;
    // What a killed run left.
    std::fs::write(pair.state.path().join(".new-x"), "half").unwrap();
    assert_eq!(pair.day(1).await.missing.count, 2);
    assert_eq!(pair.state_files(), 1);
    // One is back for a while, so its clock starts again.
    put(&pair.from, "f/b", "f/b").await;
    pair.day(10).await;
    delete(&pair.from, "f/b").await;
    pair.day(11).await;
    assert_eq!(pair.day(30).await.removed.count, 0);
    let report = pair.day(31).await;
    assert_eq!(report.removed.examples[0].key, "f/a");
    assert!(report.is_complete());
    assert_eq!(pair.names().await, ["f/b", "f/c", "f/d"]);
    assert_eq!(pair.day(40).await.removed.count, 0);
    assert_eq!(pair.day(41).await.removed.count, 1);
    assert_eq!(pair.names().await, ["f/c", "f/d"]);
    pair.day(42).await;
    assert_eq!(pair.state_files(), 0);
}

#[tokio::test]
async fn a_wiped_source_does_not_wipe_the_copy() {
    let pair = Pair::new();
    Repository::create(&pair.from, "r").await.backup(1, 5).await;
    put(&pair.from, "plain/a", "a").await;
    pair.day(0).await;
    let before = contents(&pair.to).await;
    for name in contents(&pair.from).await.into_keys() {
        delete(&pair.from, &name).await;
    }
    for day in [1, 32, 64, 400] {
        let report = pair.day(day).await;
        assert!(!report.is_complete());
        assert_eq!(report.kept.count, 2, "{report:?}");
        assert!(report.kept.examples[0].reason.contains("the source has no blobs"), "{report:?}");
        assert_eq!(contents(&pair.to).await, before);
        assert_eq!(pair.state_files(), 0, "no clock has started");
    }
}

#[tokio::test]
async fn one_wiped_repository_among_many_is_kept() {
    let pair = Pair::new();
    for at in 0..10 {
        Repository::create(&pair.from, &format!("u{at}/r")).await.backup(at, 5).await;
    }
    pair.day(0).await;
    let before = contents(&pair.to).await;
    for name in contents(&pair.from).await.into_keys().filter(|name| name.starts_with("u3/")) {
        delete(&pair.from, &name).await;
    }
    for day in [1, 40, 80] {
        let report = pair.day(day).await;
        assert_eq!(report.kept.examples[0].key, "u3/r");
        assert_eq!(report.kept.count, 1);
    }
    assert_eq!(contents(&pair.to).await, before);
}

#[tokio::test]
async fn a_repository_without_snapshots_and_one_that_lost_most_at_once_are_kept() {
    let mut pair = Pair::new();
    let repository = Repository::create(&pair.from, "r").await;
    for at in 0..10 {
        repository.backup(at, 3).await;
    }
    pair.day(0).await;
    for _ in 0..6 {
        repository.forget().await;
    }
    let before = contents(&pair.to).await;
    for day in [1, 40, 80] {
        let reason = &pair.day(day).await.kept.examples[0].reason.clone();
        assert!(reason.starts_with("6 of 10 blobs in \"snapshots\" went missing"), "{reason}");
    }
    for _ in 0..4 {
        repository.forget().await;
    }
    let reason = pair.day(120).await.kept.examples[0].reason.clone();
    assert!(reason.contains("the source has no blobs in \"snapshots\""), "{reason}");
    assert_eq!(contents(&pair.to).await, before);
    // The operator says that it is right. The clocks start now.
    repository.backup(11, 3).await;
    pair.max_missing = 1.0;
    assert!(pair.day(130).await.is_complete());
    pair.max_missing = 0.5;
    assert_eq!(pair.day(159).await.removed.count, 0);
    assert_eq!(pair.day(160).await.removed.count, 10);
}

#[tokio::test]
async fn a_repository_that_lost_most_of_its_bytes_or_all_of_a_folder_at_once_is_kept() {
    for lost in ["r/data/", "r/index/", "r/keys/"] {
        let pair = Pair::new();
        let repository = Repository::create(&pair.from, "r").await;
        for at in 0..5 {
            repository.backup(at, 6).await;
        }
        pair.day(0).await;
        let all = contents(&pair.from).await;
        let lost: Vec<_> = all.keys().filter(|key| key.starts_with(lost)).collect();
        let left = usize::from(lost[0].contains("/data/"));
        for name in &lost[left..] {
            delete(&pair.from, name).await;
        }
        for day in [1, 50, 100] {
            assert_eq!(pair.day(day).await.kept.count, 1);
        }
        assert_eq!(contents(&pair.to).await, all);
    }
}

#[tokio::test]
async fn after_a_prune_the_copy_is_usable_while_old_packs_go() {
    // This prune makes every pack anew.
    let pair = Pair { max_missing: 0.9, ..Pair::new() };
    let repository = Repository::create(&pair.from, "r").await;
    for at in 0..8 {
        repository.backup(at, 3).await;
    }
    pair.day(0).await;
    repository.forget().await;
    repository.prune(5).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut watching = Hooked::new(&pair.to, |_, _| None);
    let (to, seen, watched) = (pair.to.clone(), order.clone(), repository.clone());
    watching.act = Some(Box::new(move |call| {
        let (to, seen, watched) = (to.clone(), seen.clone(), watched.clone());
        Box::pin(async move {
            if let Call::Delete(key) = call {
                assert!(watched.broken(&contents(&to).await).is_empty(), "at {key}");
                seen.lock().unwrap().push(key.split('/').nth(1).unwrap().to_owned());
            }
        })
    }));
    let target = hooked(watching);
    for day in 1..40 {
        let report = run(&pair.from, &target, pair.options(day)).await;
        assert!(report.is_complete(), "{report:?}");
        assert!(repository.broken(&contents(&pair.to).await).is_empty());
    }
    assert_eq!(contents(&pair.to).await, contents(&pair.from).await);
    let mut order = order.lock().unwrap().clone();
    order.dedup();
    assert_eq!(order, ["snapshots", "index", "data"]);
}

#[tokio::test]
async fn a_target_that_refuses_to_delete_is_reported_and_keeps_what_is_referred_to() {
    let pair = Pair { max_missing: 0.9, ..Pair::new() };
    let repository = Repository::create(&pair.from, "r").await;
    for at in 0..6 {
        repository.backup(at, 3).await;
    }
    let target: Store = Arc::new(AppendOnly::new(pair.to.clone(), &[]).unwrap());
    run(&pair.from, &target, pair.options(0)).await;
    let before = contents(&pair.to).await;
    repository.forget().await;
    repository.prune(4).await;
    run(&pair.from, &target, pair.options(1)).await;
    let report = run(&pair.from, &target, pair.options(50)).await;
    assert_eq!((report.not_removed.count, report.removed.count), (1, 0), "{report:?}");
    assert!(report.is_complete());
    assert!(report.not_removed.examples[0].key.starts_with("r/snapshots/"));
    let there = contents(&pair.to).await;
    assert!(before.keys().all(|key| there.contains_key(key)));
}

#[tokio::test]
async fn nothing_is_removed_while_something_is_damaged_failed_or_in_conflict() {
    let pair = Pair::new();
    let repository = Repository::create(&pair.from, "r").await;
    for at in 0..6 {
        repository.backup(at, 3).await;
    }
    pair.day(0).await;
    repository.forget().await;
    pair.day(1).await;
    let hash = common::sha(b"right");
    let wrong = format!("r/data/{}/{hash}", &hash[..2]);
    put(&pair.from, &wrong, "wrong").await;
    let report = pair.day(50).await;
    assert_eq!((report.damaged.count, report.removed.count), (1, 0));
    assert_eq!(report.kept.count, 1);
    delete(&pair.from, &wrong).await;
    assert_eq!(pair.day(51).await.removed.count, 1);
}

#[tokio::test]
async fn a_source_that_fails_or_has_the_blob_again_removes_nothing() {
    let pair = Pair::new();
    for name in ["f/a", "f/b", "f/c"] {
        put(&pair.from, name, name).await;
    }
    pair.day(0).await;
    delete(&pair.from, "f/a").await;
    pair.day(1).await;
    for error in [true, false] {
        let source = hooked(Hooked::new(&pair.from, move |_, call| {
            let unavailable = || StoreError::Unavailable("the disk is away".to_owned());
            (error && matches!(call, Call::Head(_))).then(unavailable)
        }));
        if error {
            let (report, outcome) =
                keepgate_copy::copy(source, pair.to.clone(), pair.options(60)).await;
            assert!(outcome.is_err() && report.removed.is_empty());
        } else {
            let from = pair.from.clone();
            let mut back = Hooked::new(&source, |_, _| None);
            back.act = Some(Box::new(move |call| {
                let from = from.clone();
                Box::pin(async move {
                    if call == Call::Head("f/a".to_owned()) {
                        put(&from, "f/a", "f/a").await;
                    }
                })
            }));
            let report = run(&hooked(back), &pair.to, pair.options(60)).await;
            assert!(report.removed.is_empty());
        }
        assert_eq!(pair.names().await.len(), 3);
    }
}

#[tokio::test]
async fn a_lost_or_damaged_state_only_starts_the_clocks_again() {
    let pair = Pair::new();
    for at in 0..9 {
        put(&pair.from, &format!("f/{at}"), "x").await;
    }
    pair.day(0).await;
    for at in 0..3 {
        delete(&pair.from, &format!("f/{at}")).await;
    }
    pair.day(1).await;
    let file = std::fs::read_dir(pair.state.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    for damaged in ["", "garbage\n", &text[..text.len() / 2], "{\"stage\":9}\n"] {
        std::fs::write(&file, damaged).unwrap();
        assert!(pair.day(100).await.removed.count <= 1);
        std::fs::write(&file, damaged).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(pair.day(200).await.removed.count, 0);
    assert_eq!(pair.day(229).await.removed.count, 0);
    let removed: u64 = pair.day(230).await.removed.count;
    assert!(removed >= 1);
    assert_eq!(pair.names().await.len(), 6);
}

#[tokio::test]
async fn a_clock_that_goes_back_or_a_delay_of_nothing_removes_nothing_at_once() {
    let pair = Pair::new();
    for name in ["f/a", "f/b", "f/c"] {
        put(&pair.from, name, name).await;
    }
    pair.day(100).await;
    delete(&pair.from, "f/a").await;
    pair.day(100).await;
    assert_eq!(pair.day(1).await.removed.count, 0);
    // Seen on day 1, so it is missing since then at the latest.
    assert_eq!(pair.day(30).await.removed.count, 0);
    assert_eq!(pair.day(31).await.removed.count, 1);

    delete(&pair.from, "f/b").await;
    let at_once = |day| {
        let mut options = pair.options(day);
        options.deletes.as_mut().unwrap().after = Duration::ZERO;
        run(&pair.from, &pair.to, options)
    };
    assert_eq!(at_once(40).await.removed.count, 0);
    assert_eq!(at_once(41).await.removed.count, 1);
}
