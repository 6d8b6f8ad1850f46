//! A snapshot of 512 MiB, read slowly at first: a slow reader costs one window, not the snapshot. In a
//! program of its own, because it measures the whole process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "snapshots/fake.rs"]
#[expect(dead_code, reason = "shared with the other test program, which uses all of it")]
mod fake;

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use keepgate_connect::etcd::{Cluster, ClusterOptions, STALL_TIMEOUT};
use keepgate_connect::{Snapshot, Snapshots as _};
use sha2::{Digest as _, Sha256};

use crate::fake::{DONE, Fake, Step, first_page};

const PIECE: usize = 32 * 1024;
const PIECES: u64 = 512 * 1024 * 1024 / PIECE as u64;

/// The member's messages, created as they are sent.
fn steps() -> Box<dyn Iterator<Item = Step> + Send> {
    let mut hash = Sha256::new();
    let mut piece = first_page();
    piece.resize(PIECE, 1);
    let mut number = 0;
    Box::new(std::iter::from_fn(move || {
        number += 1;
        match number {
            1..=PIECES => {
                hash.update(&piece);
                let blob = Bytes::copy_from_slice(&piece);
                let remaining = (PIECES - number) * PIECE as u64;
                Some(Step::Message { remaining, blob })
            }
            _ if number == PIECES + 1 => {
                let blob = Bytes::copy_from_slice(&hash.clone().finalize());
                Some(Step::Message { remaining: 0, blob })
            }
            _ => Some(DONE),
        }
    }))
}

/// This process's memory in bytes: now, and its peak.
fn resident() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let read = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (read("VmRSS:"), read("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_for_a_large_snapshot_and_a_slow_reader() {
    let fake = Fake::start_with(7, steps).await;
    let cluster = Cluster::new(ClusterOptions {
        name: "main".to_owned(),
        endpoints: vec![fake.url.clone()],
        tls: None,
        user: None,
        timeout: None,
        allow_stale: false,
        stall_timeout: STALL_TIMEOUT,
    })
    .unwrap();
    let Snapshot { facts, mut body, sha256 } = cluster.take(&[]).await.unwrap();
    body.chunk().await.unwrap().unwrap();
    let (before, _) = resident();
    // Nothing signals that the member has stopped sending, so leave it time to send all of it, if it
    // could.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut read = PIECE as u64;
    while let Some(chunk) = body.chunk().await {
        read += chunk.unwrap().len() as u64;
    }
    assert_eq!(read, facts.size);
    assert!(sha256.get().is_some());
    let (_, most) = resident();
    let grown = most.saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "{grown} bytes more than at the beginning");
}
