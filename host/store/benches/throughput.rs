//! Measures a [`DiskStore`], and the choices behind its sizes:
//!
//! ```text
//! cargo bench -p keepgate-store --bench throughput -- [DIRECTORY] [WHAT...]
//! ```
//!
//! A temporary folder is made in the directory (by default the current one), on the disk to measure.
//! WHAT is any of `pieces reads put small get list`; all by default.

#![expect(clippy::print_stdout, reason = "this program's purpose is to print")]

use std::error::Error;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::{BlobStore, Body, Condition, Folder, Key, Part, PutOptions};
use rustix::io::ReadWriteFlags;
use sha2::{Digest, Sha256};
use tokio::task::{JoinSet, spawn_blocking};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PACK: usize = 16 * MIB;
/// What a socket delivers at a time.
const RECEIVED: usize = 64 * KIB;

#[tokio::main]
async fn main() -> Outcome {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let directory = arguments.next().unwrap_or_else(|| ".".to_owned());
    let wanted: Vec<_> = arguments.collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|one| one == what);
    let scratch = tempfile::tempdir_in(directory)?;
    if wants("pieces") {
        pieces(scratch.path()).await?;
    }
    if wants("reads") {
        reads(scratch.path()).await?;
    }
    let store: Arc<dyn BlobStore> =
        Arc::new(DiskStore::open(scratch.path().join("store"), DiskOptions::default())?);
    if wants("put") {
        put(&store).await?;
    }
    if wants("small") {
        small(&store).await?;
    }
    if wants("get") {
        get(&store, &scratch.path().join("store/get/pack")).await?;
    }
    if wants("list") {
        list(scratch.path()).await?;
    }
    Ok(())
}

/// Hashing and writing in pieces, without syncing: on another thread, or in place.
async fn pieces(scratch: &Path) -> Outcome {
    for size in [64, 128, 256, 512, 1024] {
        let size = size * KIB;
        let piece = Bytes::from(vec![7; size]);
        let (mut hopped, mut inline) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let mut state = (Sha256::new(), tempfile::tempfile_in(scratch)?);
            let start = Instant::now();
            for _ in 0..PACK / size {
                let piece = piece.clone();
                state = spawn_blocking(move || {
                    state.0.update(&piece);
                    state.1.write_all(&piece).map(|()| state)
                })
                .await??;
            }
            hopped.push(start.elapsed());
            let start = Instant::now();
            let mut state = (Sha256::new(), tempfile::tempfile_in(scratch)?);
            for _ in 0..PACK / size {
                state.0.update(&piece);
                state.1.write_all(&piece)?;
            }
            inline.push(start.elapsed());
        }
        println!(
            "pieces  hash+write {:4} KiB: {} by spawn_blocking, {} inline",
            size / KIB,
            rate(PACK, median(hopped)),
            rate(PACK, median(inline))
        );
    }
    let bytes = vec![7; PACK];
    let hashed =
        (0..16).map(|_| timed(|| _ = std::hint::black_box(Sha256::digest(&bytes)))).collect();
    println!("pieces  SHA-256 alone: {}", rate(PACK, median(hashed)));
    Ok(())
}

/// Reading from the page cache: without waiting on this thread, or on another one.
async fn reads(scratch: &Path) -> Outcome {
    let path = scratch.join("read");
    std::fs::write(&path, vec![7; PACK])?;
    let file = Arc::new(File::open(&path)?);
    for size in [64, 128, 256, 512] {
        let size = size * KIB;
        let (mut nowait, mut hopped) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let mut buffer = vec![0; size];
            let start = Instant::now();
            for offset in (0..PACK).step_by(size) {
                let mut slices = [IoSliceMut::new(&mut buffer)];
                let flags = ReadWriteFlags::NOWAIT;
                rustix::io::preadv2(&file, &mut slices, offset as u64, flags)?;
            }
            nowait.push(start.elapsed());
            let start = Instant::now();
            for offset in (0..PACK).step_by(size) {
                let file = Arc::clone(&file);
                buffer = spawn_blocking(move || {
                    file.read_exact_at(&mut buffer, offset as u64).map(|()| buffer)
                })
                .await??;
            }
            hopped.push(start.elapsed());
        }
        println!(
            "reads   cached {:4} KiB: {} by RWF_NOWAIT inline, {} by spawn_blocking",
            size / KIB,
            rate(PACK, median(nowait)),
            rate(PACK, median(hopped))
        );
    }
    Ok(())
}

/// Packs as restic sends them: verified, durable, never replaced.
async fn put(store: &Arc<dyn BlobStore>) -> Outcome {
    for streams in [1, 2, 5] {
        for round in 0..2 {
            let (store, count) = (Arc::clone(store), 32);
            let name = format!("put/{streams}-{round}");
            let (elapsed, times) = together(streams, count, move |index| {
                let (store, key) = (Arc::clone(&store), Key::new(format!("{name}/{index}")));
                let (body, sha256) = pack(PACK, index);
                async move { Ok(store.put(&key?, body, verified(sha256)).await.map(drop)?) }
            })
            .await?;
            println!(
                "put     16 MiB verified, {streams} at once: {}, median {:.1} ms each",
                rate(PACK * count, elapsed),
                median(times).as_secs_f64() * 1e3
            );
        }
    }
    Ok(())
}

/// Small durable blobs, in memory and streamed.
async fn small(store: &Arc<dyn BlobStore>) -> Outcome {
    for (kind, streamed) in [("at hand", false), ("streamed", true)] {
        for streams in [1, 8] {
            let (store, count) = (Arc::clone(store), 2000);
            let name = format!("small/{kind}/{streams}");
            let (elapsed, times) = together(streams, count, move |index| {
                let (store, key) = (Arc::clone(&store), Key::new(format!("{name}/{index}")));
                let bytes = Bytes::from(vec![u8::try_from(index % 251).unwrap_or(0); 64 * KIB]);
                let sha256 = Sha256::digest(&bytes).into();
                let body = if streamed {
                    Body::from_stream(Some(64 * KIB as u64), stream::iter([Ok(bytes)]))
                } else {
                    Body::from_bytes(bytes)
                };
                async move { Ok(store.put(&key?, body, verified(sha256)).await.map(drop)?) }
            })
            .await?;
            println!(
                "small   64 KiB {kind}, {streams} at once: {:.0}/s, median {:.3} ms",
                count as f64 / elapsed.as_secs_f64(),
                median(times).as_secs_f64() * 1e3
            );
        }
    }
    Ok(())
}

/// Reads packs and small blobs, and their metadata.
async fn get(store: &Arc<dyn BlobStore>, path: &Path) -> Outcome {
    let (pack, tiny) = (Key::new("get/pack")?, Key::new("get/tiny")?);
    store.put(&pack, Body::from_bytes(vec![7; PACK]), PutOptions::default()).await?;
    store.put(&tiny, Body::from_bytes(vec![7; KIB]), PutOptions::default()).await?;
    let mut times = Vec::new();
    for _ in 0..32 {
        let start = Instant::now();
        drain(store, &pack).await?;
        times.push(start.elapsed());
    }
    println!("get     16 MiB cached: {}", rate(PACK, median(times)));
    let (file, mut times) = (File::open(path)?, Vec::new());
    for _ in 0..32 {
        // Evicts what is on disk from the cache.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        let start = Instant::now();
        drain(store, &pack).await?;
        times.push(start.elapsed());
    }
    println!("get     16 MiB from the disk: {}", rate(PACK, median(times)));
    let start = Instant::now();
    for _ in 0..20_000 {
        drain(store, &tiny).await?;
    }
    println!("get     1 KiB cached: {:.1} µs each", start.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    let start = Instant::now();
    for _ in 0..20_000 {
        store.head(&tiny).await?;
    }
    println!("head    cached: {:.1} µs each", start.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    Ok(())
}

/// 100,000 blobs in 256 folders.
async fn list(scratch: &Path) -> Outcome {
    let root = scratch.join("listed");
    for folder in 0..256 {
        let folder = root.join(format!("data/{folder:02x}"));
        std::fs::create_dir_all(&folder)?;
        for file in 0..391 {
            let name = hex::encode(Sha256::digest(format!("{}{file}", folder.display())));
            std::fs::write(folder.join(name), b"x")?;
        }
    }
    let store = DiskStore::open(&root, DiskOptions::default())?;
    for _ in 0..3 {
        let start = Instant::now();
        let mut listing = store.list(&Folder::new("data")?, true).await?;
        let mut count = listing.next(1000).await?.len();
        let first = start.elapsed();
        loop {
            let entries = listing.next(1000).await?;
            if entries.is_empty() {
                break;
            }
            count += entries.len();
        }
        println!("list    {count} blobs: first {first:.1?}, all {:.1?}", start.elapsed());
    }
    Ok(())
}

async fn drain(store: &Arc<dyn BlobStore>, key: &Key) -> Outcome {
    let mut body = store.get(key, Part::Whole).await?.body;
    while let Some(chunk) = body.chunk().await {
        chunk?;
    }
    Ok(())
}

fn verified(sha256: [u8; 32]) -> PutOptions {
    PutOptions { condition: Condition::Absent, sha256: Some(sha256), ..PutOptions::default() }
}

/// A body in chunks such as a socket delivers, and its hash.
fn pack(size: usize, seed: usize) -> (Body, [u8; 32]) {
    let bytes = Bytes::from(vec![u8::try_from(seed % 251).unwrap_or(0); size]);
    let sha256 = Sha256::digest(&bytes).into();
    let chunks = (0..size).step_by(RECEIVED).map(move |at| Ok(bytes.slice(at..at + RECEIVED)));
    (Body::from_stream(Some(size as u64), stream::iter(chunks)), sha256)
}

/// Runs `count` calls, some at once. Returns the total time and the time of each call; preparing a
/// call is not counted if one runs at a time.
async fn together<F, W>(streams: usize, count: usize, work: W) -> Outcome<(Duration, Vec<Duration>)>
where
    F: Future<Output = Outcome> + Send + 'static,
    W: Fn(usize) -> F,
{
    let mut running = JoinSet::new();
    let mut times = Vec::with_capacity(count);
    let mut elapsed = Duration::ZERO;
    let mut prepared: Vec<_> = (0..count.min(64)).map(&work).collect();
    let mut next = prepared.len();
    while !prepared.is_empty() {
        let start = Instant::now();
        while !prepared.is_empty() || !running.is_empty() {
            while running.len() < streams
                && let Some(future) = prepared.pop()
            {
                running.spawn(async move {
                    let start = Instant::now();
                    future.await.map(|()| start.elapsed())
                });
            }
            if let Some(time) = running.join_next().await {
                times.push(time??);
            }
        }
        elapsed += start.elapsed();
        prepared = (next..count.min(next + 64)).map(&work).collect();
        next += prepared.len();
    }
    Ok((elapsed, times))
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn rate(bytes: usize, time: Duration) -> String {
    format!("{:.0} MB/s", bytes as f64 / 1e6 / time.as_secs_f64())
}
