//! Memory use of large streams, in a process of its own because nothing else may run beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod common;

use std::fs;
use std::time::SystemTime;

use common::{noise, text};
use keepgate_pipes::{Entry, Meter, Spool, gunzip, gzip, tar};
use keepgate_store::Body;

const GIB: u64 = 1 << 30;
/// How much a process may grow while its heap settles; a pipe itself holds 400 KiB.
const ALLOWED: u64 = 12 << 20;

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Reads a body; returns its size, and by how much the memory grew meanwhile.
async fn read(mut body: Body) -> (u64, u64) {
    let before = resident();
    let (mut size, mut most) = (0, before);
    while let Some(chunk) = body.chunk().await {
        size += chunk.unwrap().len() as u64;
        most = most.max(resident());
    }
    (size, most - before)
}

#[tokio::test]
async fn a_gib_through_pipes_takes_hardly_any_memory() {
    let mut chunk = text(200_000);
    chunk.extend(noise(62_144, 1));
    let count = GIB / chunk.len() as u64;
    let (_, body) = common::watched(chunk, count);
    let (before, body) = Meter::attach(body);
    let archive = tar(vec![Entry {
        path: "snapshot.db".to_owned(),
        size: GIB,
        mode: 0o600,
        modified: SystemTime::UNIX_EPOCH,
        body,
    }])
    .unwrap();
    let (after, body) = Meter::attach(gzip(archive, 1).unwrap());
    let (size, grown) = read(body).await;
    assert_eq!(before.sum().unwrap().size, GIB);
    assert_eq!(after.sum().unwrap().size, size);
    assert!(grown < ALLOWED, "tar, gzip and two meters: {grown} bytes more");

    // A body that grows by a factor of hundreds.
    let zeros = bytes::Bytes::from(vec![0; 1 << 20]);
    let zeros = futures_util::stream::iter((0..1024).map(move |_| Ok(zeros.clone())));
    let bomb = gzip(Body::from_stream(None, zeros), 6).unwrap().collect(GIB).await.unwrap();
    assert!(bomb.len() < 2 << 20);
    let (size, grown) = read(gunzip(Body::from_bytes(bomb))).await;
    assert_eq!(size, GIB);
    assert!(grown < ALLOWED, "gunzip: {grown} bytes more");

    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path().to_owned(), GIB);
    let before = resident();
    let spooled = spool.read(common::watched(noise(65_536, 1), 4096).1).await.unwrap();
    assert_eq!(spooled.size, 256 << 20);
    let grown = resident().saturating_sub(before);
    assert!(grown < ALLOWED, "a spool: {grown} bytes more");
    let (size, grown) = read(spooled.body).await;
    assert_eq!(size, 256 << 20);
    assert!(grown < ALLOWED, "reading a spool: {grown} bytes more");
}
