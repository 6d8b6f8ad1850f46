//! Measures the pipes, and the choices behind them:
//!
//! ```text
//! cargo bench -p keepgate-pipes --bench compress -- [DIRECTORY] [WHAT...]
//! ```
//!
//! A temporary folder is made in the directory (by default the current one). WHAT is any of
//! `levels threads others`; all by default. The programs `gzip` and `tar` are measured for comparison.

#![expect(clippy::print_stdout, reason = "this program's purpose is to print")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use futures_util::stream;
use keepgate_pipes::{Entry, Meter, Spool, gunzip, gzip, tar};
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::{BlobStore as _, Body, BodyError, Key, PutOptions};
use sha2::{Digest, Sha256};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What a socket delivers at a time.
const RECEIVED: usize = 64 * KIB;
/// What is compressed at a time on another thread.
const BATCH: usize = 256 * KIB;

#[tokio::main]
async fn main() -> Outcome {
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let directory = arguments.next().unwrap_or_else(|| ".".to_owned());
    let wanted: Vec<_> = arguments.collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|one| one == what);
    let scratch = tempfile::tempdir_in(directory)?;
    let data = sample(64 * MIB)?;
    if wants("levels") {
        levels(scratch.path(), &data).await?;
    }
    if wants("threads") {
        threads(scratch.path(), &data).await?;
    }
    if wants("others") {
        others(scratch.path(), &data).await?;
    }
    Ok(())
}

/// Keys and values such as Kubernetes keeps in etcd: repetitive words, and hashes that do not repeat.
fn sample(size: usize) -> Outcome<Bytes> {
    let mut text = String::with_capacity(size + KIB);
    let mut number = 0_u64;
    while text.len() < size {
        number += 1;
        let hash = hex(&Sha256::digest(number.to_le_bytes()));
        write!(
            text,
            "/registry/pods/kube-system/pod-{number}\0{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\
             \"metadata\":{{\"name\":\"pod-{number}\",\"namespace\":\"kube-system\",\"uid\":\"{hash}\",\
             \"resourceVersion\":\"{}\"}},\"status\":{{\"phase\":\"Running\"}}}}",
            number * 31
        )?;
    }
    let mut bytes = text.into_bytes();
    bytes.truncate(size);
    Ok(bytes.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Each level, and the `gzip` program.
async fn levels(scratch: &Path, data: &Bytes) -> Outcome {
    let file = scratch.join("data");
    std::fs::write(&file, data)?;
    for level in [0, 1, 6, 9] {
        let (mut there, mut back, mut size) = (Vec::new(), Vec::new(), 0);
        for _ in 0..3 {
            let start = Instant::now();
            let packed = gzip(received(data), level)?.collect(u64::MAX).await?;
            there.push(start.elapsed());
            size = packed.len();
            let start = Instant::now();
            drain(gunzip(received(&packed))).await?;
            back.push(start.elapsed());
        }
        let (there, back) = (median(there), median(back));
        let ratio = data.len() as f64 / size as f64;
        println!(
            "levels  gzip {level}: {}, {ratio:.2} to 1; gunzip of it: {}",
            rate(data.len(), there),
            rate(data.len(), back)
        );
        if level > 0 {
            let mut program = Command::new("gzip");
            program.arg("-c").arg(format!("-{level}")).arg(&file).stdout(Stdio::null());
            let start = Instant::now();
            program.status()?;
            println!("levels  the program `gzip -{level}`: {}", rate(data.len(), start.elapsed()));
        }
    }
    Ok(())
}

/// Compressing in the task that reads, in small pieces, or in batches on another thread. A meter comes
/// before it, a meter and a store after it, as for a snapshot of etcd. Then the same on a
/// single-threaded runtime, to see how long another task has to wait.
async fn threads(scratch: &Path, data: &Bytes) -> Outcome {
    let store = DiskStore::open(scratch.join("store"), DiskOptions::default())?;
    let key = Key::new("backup")?;
    for level in [1, 6] {
        for (name, is_beside) in [("in the task", false), ("beside", true)] {
            let packed = |body| if is_beside { Ok(beside(body, level)) } else { gzip(body, level) };
            let mut times = Vec::new();
            for _ in 0..5 {
                let body = Meter::attach(packed(Meter::attach(received(data)).1)?).1;
                let start = Instant::now();
                store.put(&key, body, PutOptions::default()).await?;
                times.push(start.elapsed());
            }
            let body = packed(received(data))?;
            let waited = spawn_blocking(move || {
                Builder::new_current_thread().build()?.block_on(longest_wait(body))
            });
            println!(
                "threads gzip {level} {name}: {}, others wait up to {:.2} ms",
                rate(data.len(), median(times)),
                waited.await??.as_secs_f64() * 1e3
            );
        }
    }
    Ok(())
}

/// How long a task that is always ready waits while a body is read.
async fn longest_wait(body: Body) -> Outcome<Duration> {
    let reading = tokio::spawn(drain(body));
    let mut longest = Duration::ZERO;
    while !reading.is_finished() {
        let start = Instant::now();
        tokio::task::yield_now().await;
        longest = longest.max(start.elapsed());
    }
    reading.await??;
    Ok(longest)
}

/// The alternative: batches on blocking threads, while the next one is read.
fn beside(body: Body, level: u8) -> Body {
    let state = Compress::new_gzip(Compression::new(level.into()), 15);
    let batch = Vec::new();
    Body::from_stream(
        None,
        stream::try_unfold((body, Some(state), batch), |(mut body, state, batch)| async move {
            let Some(mut state) = state else {
                return Ok(None);
            };
            let compressing = spawn_blocking(move || {
                // Larger than a compressed batch can become.
                let mut output = Vec::with_capacity(2 * BATCH);
                state
                    .compress_vec(&batch, &mut output, FlushCompress::None)
                    .map(|_| (state, output))
            });
            let reading = async {
                let mut batch = Vec::with_capacity(BATCH);
                while batch.len() < BATCH
                    && let Some(chunk) = body.chunk().await
                {
                    batch.extend_from_slice(&chunk?);
                }
                Ok::<_, BodyError>(batch)
            };
            let (compressed, batch) = tokio::join!(compressing, reading);
            let failed = |error: &dyn Error| BodyError::Failed(error.to_string());
            let compressed = compressed.map_err(|error| failed(&error))?;
            let ((mut state, mut output), batch) =
                (compressed.map_err(|error| failed(&error))?, batch?);
            if batch.is_empty() {
                output.reserve(2 * BATCH);
                let ended = state.compress_vec(&[], &mut output, FlushCompress::Finish);
                ended.map_err(|error| failed(&error))?;
                return Ok(Some((output.into(), (body, None, batch))));
            }
            Ok(Some((output.into(), (body, Some(state), batch))))
        }),
    )
}

/// Pipes that only move and count bytes.
async fn others(scratch: &Path, data: &Bytes) -> Outcome {
    let spool = Spool::new(scratch.join("spool"), u64::MAX);
    let (mut archived, mut metered, mut written, mut read) = (vec![], vec![], vec![], vec![]);
    for _ in 0..5 {
        let start = Instant::now();
        let entry = Entry {
            path: "data".to_owned(),
            size: data.len() as u64,
            mode: 0o600,
            modified: SystemTime::UNIX_EPOCH,
            body: received(data),
        };
        drain(tar(vec![entry])?).await?;
        archived.push(start.elapsed());
        let start = Instant::now();
        drain(Meter::attach(received(data)).1).await?;
        metered.push(start.elapsed());
        let start = Instant::now();
        let spooled = spool.read(received(data)).await?;
        written.push(start.elapsed());
        let start = Instant::now();
        drain(spooled.body).await?;
        read.push(start.elapsed());
    }
    for (name, times) in
        [("tar", archived), ("meter", metered), ("spool, in", written), ("spool, out", read)]
    {
        println!("others  {name}: {}", rate(data.len(), median(times)));
    }
    Ok(())
}

/// A body in chunks such as a socket delivers.
fn received(data: &Bytes) -> Body {
    let (data, length) = (data.clone(), data.len());
    let chunks =
        (0..length).step_by(RECEIVED).map(move |at| Ok(data.slice(at..length.min(at + RECEIVED))));
    Body::from_stream(Some(length as u64), stream::iter(chunks))
}

async fn drain(mut body: Body) -> Outcome {
    while let Some(chunk) = body.chunk().await {
        chunk?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn rate(bytes: usize, time: Duration) -> String {
    format!("{:.0} MB/s", bytes as f64 / 1e6 / time.as_secs_f64())
}
