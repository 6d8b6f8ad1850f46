//! A copy is usable at each moment: while backups, prunes and forgets run, when a call fails, and
//! when the run is killed.

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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Call, Hooked, Repository, Store, contents, hooked, memory, run, try_run};
use keepgate_copy::CopyOptions;
use keepgate_store::StoreError;
use keepgate_store::disk::{DiskOptions, DiskStore};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::Notify;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// A store that waits at each call for as many turns as its sequence says.
fn unsteady(inner: &Store, ragged: bool, turns: Vec<u8>) -> Store {
    let mut store = Hooked::new(inner, |_, _| None);
    let at = Arc::new(AtomicU64::new(0));
    let turns = Arc::new(turns);
    store.ragged = ragged;
    store.act = Some(Box::new(move |_| {
        let at = at.fetch_add(1, Ordering::Relaxed) as usize % turns.len().max(1);
        let count = turns.get(at).copied().unwrap_or(0);
        Box::pin(async move {
            for _ in 0..count {
                tokio::task::yield_now().await;
            }
        })
    }));
    hooked(store)
}

/// A target that panics when it becomes unusable.
fn watched(inner: &Store, repository: &Repository) -> Store {
    let mut store = Hooked::new(inner, |_, _| None);
    let (inner, repository) = (inner.clone(), repository.clone());
    store.act = Some(Box::new(move |call| {
        let (inner, repository) = (inner.clone(), repository.clone());
        Box::pin(async move {
            if matches!(call, Call::Stored(_) | Call::Delete(_)) {
                let broken = repository.broken(&contents(&inner).await);
                assert!(broken.is_empty(), "after {call:?}: {broken:?}");
            }
        })
    }));
    hooked(store)
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Backup(usize),
    Forget,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = prop_oneof![3 => (1..7_usize).prop_map(Change::Backup), 1 => Just(Change::Forget)];
    prop::collection::vec(one, 0..4)
}

async fn apply(repository: &Repository, changes: &[Change], seed: usize) {
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Backup(packs) => {
                repository.backup(seed * 100 + at, *packs).await;
            }
            Change::Forget => repository.forget().await,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        // PROPTEST_CASES raises it.
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_copy_is_usable_at_each_moment_while_the_source_changes(
        first in changes(),
        before in changes(),
        each in 1..5_usize,
        after in changes(),
        pause in 0..200_usize,
        source in prop::collection::vec(0..6_u8, 1..12),
        writer in prop::collection::vec(0..12_u8, 1..12),
        ragged in any::<bool>(),
    ) {
        runtime().block_on(async {
            let (from, to) = (memory(), memory());
            let repository = Repository::create(&from, "r").await;
            apply(&repository, &first, 1).await;
            let target = watched(&to, &repository);
            let source = unsteady(&from, ragged, source);
            run(&source, &target, CopyOptions::default()).await;
            let slow = Repository { store: unsteady(&from, false, writer), ..repository.clone() };
            let changing = async {
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
                apply(&slow, &before, 2).await;
                slow.prune(each).await;
                apply(&slow, &after, 3).await;
            };
            let copying = run(&source, &target, CopyOptions { parallel: 2, ..CopyOptions::default() });
            let (_, report) = tokio::join!(changing, copying);
            assert!(report.failed.is_empty() && report.conflicts.is_empty(), "{report:?}");
            let report = run(&source, &target, CopyOptions::default()).await;
            assert!(report.is_complete(), "{report:?}");
            let (from, to) = (contents(&from).await, contents(&to).await);
            assert!(repository.broken(&from).is_empty());
            assert!(from.keys().all(|key| to.contains_key(key)));
        });
    }
}

/// Two repositories and a folder.
async fn filled() -> (Store, Repository) {
    let from = memory();
    let repository = Repository::create(&from, "ann/r").await;
    repository.backup(1, 5).await;
    repository.backup(2, 3).await;
    Repository::create(&from, "bob").await.backup(3, 2).await;
    common::put(&from, "plain/x", common::bytes(1_300_000, 1)).await;
    (from, repository)
}

#[test]
fn a_run_that_meets_an_error_at_any_call_leaves_a_usable_copy_and_the_next_one_goes_on() {
    runtime().block_on(async {
        let (from, repository) = filled().await;
        for side in ["source", "target"] {
            for at in 0_u64.. {
                let to = memory();
                let hits = Arc::new(AtomicU64::new(0));
                let hit = hits.clone();
                let fail = move |number: u64, call: &Call| {
                    let fails = number == at && !matches!(call, Call::Stored(_));
                    hit.fetch_add(u64::from(number == at), Ordering::Relaxed);
                    fails.then(|| match at % 3 {
                        0 => StoreError::Unavailable("away".to_owned()),
                        1 => StoreError::Io {
                            action: "cannot read",
                            path: "x".into(),
                            source: std::io::Error::other("broken"),
                        },
                        _ => StoreError::Denied("not now".to_owned()),
                    })
                };
                let watched = watched(&to, &repository);
                let (source, target) = match side {
                    "source" => (hooked(Hooked::new(&from, fail)), watched),
                    _ => (from.clone(), hooked(Hooked::new(&watched, fail))),
                };
                let (report, outcome) = try_run(&source, &target, CopyOptions::default()).await;
                if hits.load(Ordering::Relaxed) == 0 {
                    assert!(at > 50, "{side}: only {at} calls");
                    break;
                }
                if outcome.is_ok() && report.is_complete() {
                    assert_eq!(contents(&to).await, contents(&from).await);
                }
                assert!(repository.broken(&contents(&to).await).is_empty(), "{side} {at}");
                let report = run(&from, &to, CopyOptions::default()).await;
                assert!(report.is_complete(), "{side} {at}: {report:?}");
                assert_eq!(contents(&to).await, contents(&from).await);
            }
        }
    });
}

#[test]
fn a_run_that_is_killed_at_any_call_goes_on_where_it_was() {
    runtime().block_on(async {
        let (from, repository) = filled().await;
        let total = contents(&from).await.len() as u64;
        for at in 0_u64.. {
            let to = memory();
            let (kill, reached) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
            let (killing, reaching) = (kill.clone(), reached.clone());
            let mut source = Hooked::new(&from, move |number, _| {
                if number == at {
                    reaching.store(1, Ordering::Relaxed);
                    killing.notify_one();
                }
                None
            });
            source.yields = true;
            let (source, target) = (hooked(source), watched(&to, &repository));
            tokio::select! {
                biased;
                () = kill.notified() => {}
                _ = run(&source, &target, CopyOptions::default()) => {}
            }
            if reached.load(Ordering::Relaxed) == 0 {
                break;
            }
            let there = contents(&to).await.len() as u64;
            let report = run(&from, &to, CopyOptions::default()).await;
            assert_eq!((report.present.blobs, report.copied.blobs), (there, total - there));
            assert_eq!(contents(&to).await, contents(&from).await);
        }
    });
}

#[tokio::test]
async fn a_run_between_disks_that_is_killed_leaves_nothing_half_written() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let open = |folder: &TempDir| -> Store {
        Arc::new(DiskStore::open(folder.path(), DiskOptions::default()).unwrap())
    };
    let (from, to) = (open(&one), open(&two));
    let repository = Repository::create(&from, "r").await;
    repository.backup(1, 20).await;
    for at in 0..8 {
        common::put_named(&from, "r/data", common::bytes(900_000, at)).await;
    }
    for after in 0..30 {
        let killed = tokio::time::timeout(
            Duration::from_millis(after),
            run(&from, &to, CopyOptions::default()),
        );
        let done = killed.await.is_ok();
        let there = contents(&to).await;
        assert!(repository.broken(&there).is_empty());
        let all = contents(&from).await;
        assert!(there.iter().all(|(key, bytes)| all.get(key) == Some(bytes)));
        if done {
            break;
        }
    }
    assert!(run(&from, &to, CopyOptions::default()).await.is_complete());
    assert_eq!(contents(&to).await, contents(&from).await);
}
