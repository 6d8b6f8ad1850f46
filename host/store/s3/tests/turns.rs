//! Gateways that something keeps apart, because their server's conditional writes do not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use futures_util::future::join_all;
use keepgate_store::{Change, Condition, StoreError};
use keepgate_store_s3::{Coordinator, LEASE, Lease, S3Options};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// One turn for all names, whose lease lasts for so many seconds.
#[derive(Debug)]
struct OneTurn {
    seconds: AtomicU64,
    turn: Arc<Mutex<()>>,
    taken: AtomicUsize,
}

struct Held(Duration, OwnedMutexGuard<()>);

#[async_trait]
impl Coordinator for OneTurn {
    async fn turn(&self, name: &str) -> Result<Box<dyn Lease>, String> {
        assert!(name.starts_with("bucket"), "{name}");
        self.taken.fetch_add(1, Ordering::Relaxed);
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Ok(Box::new(Held(Duration::from_secs(self.seconds.load(Ordering::Relaxed)), turn)))
    }

    fn place(&self) -> &str {
        "one turn"
    }
}

#[async_trait]
impl Lease for Held {
    fn left(&self) -> Duration {
        self.0
    }

    async fn release(self: Box<Self>) {
        drop(self.1);
    }
}

fn one_turn() -> Arc<OneTurn> {
    let seconds = LEASE.as_secs().into();
    Arc::new(OneTurn { seconds, turn: Arc::default(), taken: 0.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_a_server_whose_conditions_race_are_kept_apart() {
    let Some(server) = support::s3s_fs() else {
        let how = "`cargo xtask test` builds s3s-fs";
        support::skip("stores on a server whose conditions race are kept apart", how);
        return;
    };
    let turns = one_turn();
    let options = S3Options { coordinator: Some(turns.clone()), ..server.bucket() };
    let (one, other) = tokio::join!(support::open(options.clone()), support::open(options));
    let stores: [Store; 2] = [Arc::new(one), Arc::new(other)];
    for round in 0..20_usize {
        let name = format!("blob{round}");
        let posts = (0..8_usize).map(|number| {
            let (store, key) = (stores[number % 2].clone(), key(&name));
            tokio::spawn(async move {
                let body = bytes(1000 + number, number).into_body();
                store.put(&key, body, when(Condition::Absent)).await.map(|stored| stored.change)
            })
        });
        let posts: Vec<_> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..8).filter(|post| posts[*post].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{posts:?}");
        for post in &posts {
            assert!(matches!(post, Ok(Change::Created) | Err(StoreError::AlreadyExists)));
        }
        for store in &stores {
            assert_eq!(read(store, &name).await, bytes(1000 + winners[0], winners[0]));
        }
    }

    // A lease that could run out before the request has ended is too short.
    turns.seconds.store(1, Ordering::Relaxed);
    let put = stores[0].put(&key("late"), "late".into_body(), when(Condition::Absent)).await;
    assert!(matches!(put, Err(StoreError::Unavailable(_))), "{put:?}");
    assert!(matches!(stores[0].head(&key("late")).await, Err(StoreError::NotFound)));
    let deleted = stores[0].delete(&key("blob0")).await;
    assert!(matches!(deleted, Err(StoreError::Unavailable(_))), "{deleted:?}");
    assert!(stores[1].head(&key("blob0")).await.is_ok());
}

/// Another gateway may have found that it does not.
#[tokio::test]
async fn turns_are_taken_on_a_server_that_keeps_writers_apart() {
    let Some(server) = support::versitygw() else {
        support::skip(
            "turns on a server that keeps writers apart",
            "`cargo xtask test` builds versitygw with Go",
        );
        return;
    };
    let turns = one_turn();
    let options = S3Options { coordinator: Some(turns.clone()), ..server.bucket() };
    let store: Store = Arc::new(support::open(options).await);
    put(&store, "blob", &bytes(10, 1)).await;
    store.delete(&key("blob")).await.unwrap();
    assert_eq!(turns.taken.load(Ordering::Relaxed), 2);
}
