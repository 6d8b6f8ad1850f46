//! What a run copies, what it refuses to replace, and what it says.

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

use common::{
    Call, Hooked, Repository, bytes, contents, delete, hooked, key, memory, put, put_named, run,
    sha, try_run,
};
use keepgate_copy::{
    Amount, CopyError, CopyOptions, Order, Progress, ProgressCallback, verify, verify_store,
};
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::guard::{AppendOnly, Subfolder};
use keepgate_store::{Body, Condition, Folder, PutOptions, StoreError};
use tempfile::TempDir;

fn plain() -> CopyOptions {
    CopyOptions { order: Order::plain(), ..CopyOptions::default() }
}

fn disk(folder: &TempDir) -> common::Store {
    Arc::new(DiskStore::open(folder.path(), DiskOptions::default()).unwrap())
}

#[tokio::test]
async fn a_copy_has_everything_and_the_next_run_copies_nothing() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let pairs = [(memory(), memory()), (disk(&one), disk(&two)), (disk(&one), memory())];
    for (from, to) in pairs {
        for folder in ["", "ann/home", "bob"] {
            if folder.is_empty() && !contents(&from).await.is_empty() {
                break;
            }
            let folder = if folder.is_empty() { "top" } else { folder };
            let repository = Repository::create(&from, folder).await;
            repository.backup(1, 9).await;
            put(&from, &repository.at("locks/aa"), "a lock").await;
            put(&from, &repository.at("notes.txt"), "mine").await;
            put(&from, &repository.at("sub/deep/notes.txt"), "mine").await;
        }
        put(&from, "large", bytes(3_000_000, 5)).await;
        put(&from, "empty", "").await;
        let report = run(&from, &to, CopyOptions::default()).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.behind, Amount::default());
        let mut expected = contents(&from).await;
        expected.retain(|key, _| !key.contains("/locks/"));
        assert_eq!(contents(&to).await, expected);
        assert_eq!(report.copied.blobs, expected.len() as u64);

        let again = run(&from, &to, CopyOptions::default()).await;
        assert_eq!(again.copied, Amount::default());
        assert_eq!(again.present, report.copied);
        let verified = verify(from.clone(), to.clone(), CopyOptions::default()).await.unwrap();
        assert!(verified.is_right() && verified.behind.is_empty() && verified.missing.is_empty());
        assert_eq!(verified.verified.blobs, report.copied.blobs);
    }
}

#[tokio::test]
async fn metadata_tags_and_content_type_go_along() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let pairs = [(memory(), memory()), (disk(&one), disk(&two))];
    for (from, to) in pairs {
        if from.check_metadata().await.is_err() {
            eprintln!("SKIPPED on a file system without extended attributes");
            continue;
        }
        let fields = |name: &str| vec![(name.to_owned(), "value".to_owned())];
        let options = PutOptions {
            content_type: Some("text/plain".to_owned()),
            metadata: fields("keepgate-owner"),
            tags: fields("tag"),
            ..PutOptions::default()
        };
        from.put(&key("a"), Body::from_bytes("text"), options).await.unwrap();
        run(&from, &to, CopyOptions::default()).await;
        let (from, to) = (from.head(&key("a")).await.unwrap(), to.head(&key("a")).await.unwrap());
        assert_eq!(to.content_type, from.content_type);
        assert_eq!(to.metadata, from.metadata);
        assert_eq!(to.tags, from.tags);
    }
}

#[tokio::test]
async fn folders_of_stores_are_copied_into_each_other() {
    let (from, to) = (memory(), memory());
    put(&from, "team/a", "a").await;
    put(&from, "other", "no").await;
    let scoped = |store: &common::Store, folder: &str| -> common::Store {
        Arc::new(Subfolder::new(store.clone(), Folder::new(folder).unwrap()))
    };
    run(&scoped(&from, "team"), &scoped(&to, "copies/team"), CopyOptions::default()).await;
    assert_eq!(contents(&to).await.into_keys().collect::<Vec<_>>(), ["copies/team/a"]);
    // A folder that does not exist is an empty one.
    let report = run(&scoped(&from, "none"), &scoped(&to, "x"), CopyOptions::default()).await;
    assert!(report.is_complete());
}

#[tokio::test]
async fn a_damaged_blob_is_reported_and_stops_nothing_else() {
    let (from, to) = (memory(), memory());
    let repository = Repository::create(&from, "").await;
    repository.backup(1, 6).await;
    let hash = sha(b"what it should be");
    let wrong = format!("data/{}/{hash}", &hash[..2]);
    put(&from, &wrong, "what it is").await;
    let report = run(&from, &to, CopyOptions::default()).await;
    assert_eq!(report.damaged.count, 1, "{report:?}");
    assert_eq!(report.damaged.examples[0].key, wrong);
    assert!(report.held_back.is_empty() && !report.is_complete());
    let there = contents(&to).await;
    assert!(!there.contains_key(&wrong));
    assert!(repository.broken(&there).is_empty());
    assert_eq!(there.keys().filter(|key| key.starts_with("snapshots/")).count(), 1);
    assert_eq!(report.behind.blobs, 1);
}

#[tokio::test]
async fn a_body_that_is_cut_is_tried_again_and_holds_back_what_refers_to_it() {
    tokio::time::pause();
    let (from, to) = (memory(), memory());
    let repository = Repository::create(&from, "r").await;
    let snapshot = repository.backup(1, 6).await;
    let pack = contents(&from).await.into_keys().find(|key| key.contains("data/")).unwrap();
    let cutting = Hooked::new(&from, |_, _| None);
    cutting.cut.lock().unwrap().push(pack.clone());
    let cut = cutting.cut.clone();
    let cutting = hooked(cutting);
    let report = run(&cutting, &to, CopyOptions::default()).await;
    assert_eq!(report.failed.examples[0].key, pack);
    assert_eq!(report.held_back.examples[0].key, "r");
    let there = contents(&to).await;
    assert!(!there.contains_key(&pack) && !there.contains_key(&snapshot));
    // Index, too: it refers to the pack.
    assert!(!there.keys().any(|key| key.contains("index/")));
    assert!(report.behind.blobs >= 3);
    cut.lock().unwrap().clear();
    assert!(run(&cutting, &to, CopyOptions::default()).await.is_complete());
    assert_eq!(contents(&to).await, contents(&from).await);
}

#[tokio::test]
async fn another_content_is_a_conflict_and_is_never_replaced() {
    let (from, to) = (memory(), memory());
    put(&from, "etcd/a.db", "first").await;
    put(&from, "etcd/b.db", "only here").await;
    put(&to, "etcd/a.db", "second, longer").await;
    let report = run(&from, &to, CopyOptions::default()).await;
    assert_eq!(report.conflicts.examples[0].key, "etcd/a.db");
    assert!(!report.is_complete());
    assert_eq!(contents(&to).await["etcd/a.db"], "second, longer");
}

#[tokio::test]
async fn a_blob_of_another_size_is_damaged_where_its_name_says_so() {
    let (from, to) = (memory(), memory());
    let repository = Repository::create(&from, "r").await;
    repository.backup(1, 4).await;
    run(&from, &to, CopyOptions::default()).await;
    let pack = contents(&from).await.into_keys().find(|key| key.contains("data/")).unwrap();
    let good = contents(&to).await[&pack].clone();
    // The source lost the end of it: everything else is copied.
    put(&from, &pack, good.slice(..good.len() / 2)).await;
    repository.backup(2, 4).await;
    let report = run(&from, &to, CopyOptions::default()).await;
    assert_eq!((report.damaged.count, report.conflicts.count), (1, 0), "{report:?}");
    assert!(report.held_back.is_empty());
    let there = contents(&to).await;
    assert_eq!(there[&pack], good);
    assert_eq!(there.keys().filter(|key| key.contains("snapshots/")).count(), 2);
    assert!(repository.broken(&there).is_empty());
    // The copy lost it: nothing that may refer to it is added.
    put(&from, &pack, good.clone()).await;
    put(&to, &pack, good.slice(..good.len() / 2)).await;
    repository.backup(3, 4).await;
    let report = run(&from, &to, CopyOptions::default()).await;
    assert_eq!((report.damaged.count, report.conflicts.count), (0, 1));
    assert_eq!(report.held_back.count, 1);
}

#[tokio::test]
async fn a_repository_that_was_made_anew_is_not_mixed_into_the_copy_of_the_old_one() {
    let (from, to) = (memory(), memory());
    let repository = Repository::create(&from, "r").await;
    repository.backup(1, 4).await;
    run(&from, &to, CopyOptions::default()).await;
    let before = contents(&to).await;
    for name in contents(&from).await.into_keys() {
        delete(&from, &name).await;
    }
    put(&from, "r/config", "CONFIG of r").await;
    repository.backup(2, 4).await;
    let report = run(&from, &to, CopyOptions::default()).await;
    assert_eq!(report.conflicts.examples[0].key, "r/config");
    assert_eq!(report.held_back.count, 1);
    assert_eq!(contents(&to).await, before);
}

#[tokio::test]
async fn only_names_that_may_change_are_replaced() {
    let (from, to) = (memory(), memory());
    put(&from, "x/manifest", "one").await;
    put(&from, "x/fixed", "one").await;
    let options = || CopyOptions { replace: vec!["manifest".to_owned()], ..plain() };
    run(&from, &to, options()).await;
    assert_eq!(run(&from, &to, options()).await.copied.blobs, 0);
    // Of the same length: only the etag tells.
    put(&from, "x/manifest", "two").await;
    assert_eq!(run(&from, &to, options()).await.copied.blobs, 1);
    assert_eq!(contents(&to).await["x/manifest"], "two");
    put(&from, "x/fixed", "three").await;
    let report = run(&from, &to, options()).await;
    assert_eq!(report.conflicts.count, 1);
    assert_eq!(contents(&to).await["x/fixed"], "one");
}

#[tokio::test]
async fn a_target_that_refuses_is_reported_and_does_not_end_the_run() {
    let (from, to) = (memory(), memory());
    for name in ["a", "b", "c"] {
        put(&from, name, name).await;
    }
    let refusing = hooked(Hooked::new(&to, |_, call| {
        (*call == Call::Put("b".to_owned()))
            .then(|| StoreError::Denied("the bucket is locked".to_owned()))
    }));
    let report = run(&from, &refusing, CopyOptions::default()).await;
    assert_eq!((report.refused.count, report.copied.blobs), (1, 2));
    assert_eq!(report.refused.examples[0].reason, "the bucket is locked");
}

#[tokio::test]
async fn a_full_or_missing_store_ends_the_run() {
    let (from, to) = (memory(), memory());
    put(&from, "a", "a").await;
    let full = hooked(Hooked::new(&to, |_, call| {
        matches!(call, Call::Put(_)).then_some(StoreError::NoSpace)
    }));
    let (report, outcome) = try_run(&from, &full, CopyOptions::default()).await;
    assert!(matches!(outcome, Err(CopyError::Target(StoreError::NoSpace))));
    assert_eq!(report.behind.blobs, 1);
    let away = |store| {
        hooked(Hooked::new(store, |_, call| {
            matches!(call, Call::List(_))
                .then(|| StoreError::Unavailable("the disk is away".to_owned()))
        }))
    };
    let (_, outcome) = try_run(&away(&from), &to, CopyOptions::default()).await;
    assert!(matches!(outcome, Err(CopyError::Source(_))), "{outcome:?}");
    let (_, outcome) = try_run(&from, &away(&to), CopyOptions::default()).await;
    assert!(matches!(outcome, Err(CopyError::Target(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_append_only_target_takes_a_copy() {
    let (from, to) = (memory(), memory());
    Repository::create(&from, "r").await.backup(1, 3).await;
    let guarded: common::Store = Arc::new(AppendOnly::new(to.clone(), &[]).unwrap());
    assert!(run(&from, &guarded, CopyOptions::default()).await.is_complete());
    assert_eq!(contents(&to).await, contents(&from).await);
}

#[tokio::test]
async fn a_large_blob_of_unknown_content_is_read_back() {
    let (from, to) = (memory(), memory());
    put(&from, "large", bytes(2_000_000, 1)).await;
    let gets = Arc::new(AtomicU64::new(0));
    let seen = gets.clone();
    let counted = hooked(Hooked::new(&to, move |_, call| {
        seen.fetch_add(u64::from(matches!(call, Call::Get(_))), Ordering::Relaxed);
        None
    }));
    run(&from, &counted, CopyOptions::default()).await;
    assert_eq!(gets.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_bandwidth_limit_holds_for_all_blobs_together() {
    let (from, to) = (memory(), memory());
    for at in 0..10 {
        put(&from, &format!("b{at}"), bytes(100_000, at)).await;
    }
    let begun = tokio::time::Instant::now();
    let options = CopyOptions { bandwidth: Some(10_000), parallel: 5, ..plain() };
    let report = run(&from, &to, options).await;
    assert_eq!(report.copied.bytes, 1_000_000);
    let seconds = begun.elapsed().as_secs_f64();
    assert!((99.0..=101.0).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn no_more_blobs_are_in_progress_than_allowed() {
    let (from, to) = (memory(), memory());
    for at in 0..50 {
        put(&from, &format!("b{at}"), bytes(300_000, at)).await;
    }
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (running, highest) = (now.clone(), most.clone());
    let mut source = Hooked::new(&from, |_, _| None);
    source.yields = true;
    let target = hooked(Hooked::new(&to, move |_, call| {
        match call {
            Call::Put(_) => {
                highest.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            Call::Stored(_) => {
                running.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        None
    }));
    run(&hooked(source), &target, CopyOptions { parallel: 3, ..plain() }).await;
    assert_eq!(most.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_run_says_how_far_it_is_and_can_be_stopped() {
    let (from, to) = (memory(), memory());
    for at in 0..100 {
        put(&from, &format!("b{at:03}"), bytes(1000, at)).await;
    }
    let mut options = plain();
    let stop = options.stop.clone();
    let last = Arc::new(std::sync::Mutex::new(Progress::default()));
    let seen = last.clone();
    options.progress = Some(ProgressCallback::new(move |progress| {
        *seen.lock().unwrap() = progress;
        if progress.done_blobs == 40 {
            stop.cancel();
        }
    }));
    let slow = hooked(Hooked::new(&from, |_, _| None));
    let report = run(&slow, &to, options).await;
    assert!(report.stopped && !report.is_complete());
    let progress = *last.lock().unwrap();
    assert_eq!((progress.planned_blobs, progress.planned_bytes), (100, 100_000));
    assert_eq!(progress.done_blobs, report.copied.blobs);
    assert_eq!(contents(&to).await.len() as u64, report.copied.blobs);
    assert_eq!(report.behind.blobs, 100 - report.copied.blobs);
    assert!(run(&from, &to, plain()).await.is_complete());
}

#[tokio::test]
async fn an_upload_that_another_wins_is_present() {
    let (from, to) = (memory(), memory());
    let name = put_named(&from, "r/data", "pack").await;
    let (other, stored) = (to.clone(), name.clone());
    let mut racing = Hooked::new(&to, |_, _| None);
    racing.act = Some(Box::new(move |call| {
        let (other, stored) = (other.clone(), stored.clone());
        Box::pin(async move {
            if matches!(call, Call::Put(_)) {
                put(&other, &stored, "pack").await;
            }
        })
    }));
    let report = run(&from, &hooked(racing), plain()).await;
    assert_eq!((report.copied.blobs, report.present.blobs), (0, 1));
    assert!(report.is_complete());
}

#[tokio::test]
async fn verify_finds_what_is_wrong_in_a_copy() {
    let (from, to) = (memory(), memory());
    let repository = Repository::create(&from, "r").await;
    repository.backup(1, 6).await;
    put(&from, "plain", "content").await;
    run(&from, &to, CopyOptions::default()).await;
    let pack = contents(&from).await.into_keys().find(|key| key.contains("data/")).unwrap();
    let options = PutOptions { condition: Condition::Always, ..PutOptions::default() };
    let size = from.head(&key(&pack)).await.unwrap().size as usize;
    to.put(&key(&pack), Body::from_bytes(vec![0; size]), options).await.unwrap();
    put(&to, "plain", "CONTENT").await;
    put(&from, "new", "new").await;
    put(&to, "old", "old").await;
    // A run sees names and sizes, and `config`.
    assert!(run(&from, &memory(), CopyOptions::default()).await.is_complete());
    let found = verify(from.clone(), to.clone(), CopyOptions::default()).await.unwrap();
    assert!(!found.is_right());
    assert_eq!(found.damaged.examples[0].key, pack);
    assert_eq!(found.different.examples[0].key, "plain");
    assert_eq!(found.behind.examples[0].key, "new");
    assert_eq!(found.missing.examples[0].key, "old");
    let alone = verify_store(to.clone(), CopyOptions::default()).await.unwrap();
    assert_eq!((alone.damaged.count, alone.damaged.examples[0].key.as_str()), (1, pack.as_str()));
    assert_eq!(alone.readable.blobs, 3);
}
