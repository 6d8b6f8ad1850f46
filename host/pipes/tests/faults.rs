//! Failures: errors passing through pipes, bodies that end too early, pipes that are dropped or never
//! read.

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

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use common::{all, broken, chunked, error, noise, stuck, text, watched};
use keepgate_pipes::{Entry, Meter, PipeError, gunzip, gzip, tar};
use keepgate_store::{Body, BodyError};

fn entry(path: &str, size: u64, body: Body) -> Entry {
    Entry { path: path.to_owned(), size, mode: 0o600, modified: SystemTime::UNIX_EPOCH, body }
}

async fn packed(bytes: &[u8]) -> Vec<u8> {
    all(gzip(chunked(bytes, 4096), 6).unwrap()).await.unwrap()
}

#[test]
fn there_are_ten_levels() {
    assert!(gzip(Body::empty(), 9).is_ok());
    let Err(PipeError::Invalid(text)) = gzip(Body::empty(), 10) else { panic!("level 10") };
    assert!(text.contains("10"), "{text}");
}

#[test]
fn lengths_are_known_if_possible() {
    let body = || chunked(b"abc", 1);
    assert_eq!(gzip(body(), 6).unwrap().length(), None);
    assert_eq!(gunzip(body()).length(), None);
    assert_eq!(Meter::attach(body()).1.length(), Some(3));
    assert_eq!(tar(vec![entry("a", 3, body())]).unwrap().length(), Some(512 + 512 + 1024));
}

#[tokio::test]
async fn errors_of_the_source_pass_through_every_pipe() {
    let source = || broken(&noise(100_000, 1));
    let (meter, metered) = Meter::attach(source());
    let whole = packed(&noise(100_000, 1)).await;
    let bodies = [
        gzip(source(), 6).unwrap(),
        gunzip(broken(&whole[..50_000])),
        tar(vec![entry("a", 200_000, source())]).unwrap(),
        metered,
        gunzip(gzip(tar(vec![entry("a", 200_000, source())]).unwrap(), 1).unwrap()),
    ];
    for body in bodies {
        assert!(matches!(error(body).await, BodyError::TimedOut));
    }
    assert_eq!(meter.sum(), None);
}

#[tokio::test]
async fn a_failed_pipe_has_ended() {
    let mut body = gunzip(chunked(b"this is no gzip", 4));
    assert!(body.chunk().await.unwrap().is_err());
    assert!(body.chunk().await.is_none());
    let mut body = gzip(broken(b"x"), 6).unwrap();
    assert!(body.chunk().await.unwrap().is_err());
    assert!(body.chunk().await.is_none());
}

#[tokio::test]
async fn invalid_gzip_and_truncated_gzip_are_different_errors() {
    let whole = packed(&text(100_000)).await;
    for end in [0, 1, 9, 10, 500, whole.len() - 9, whole.len() - 8, whole.len() - 1] {
        let outcome = error(gunzip(chunked(&whole[..end], 100))).await;
        assert!(matches!(outcome, BodyError::Truncated), "{end}: {outcome:?}");
    }
    let mut wrong_sum = whole.clone();
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    let mut wrong_size = whole.clone();
    let at = wrong_size.len() - 1;
    wrong_size[at] ^= 1;
    let mut garbage_behind = whole.clone();
    garbage_behind.extend(b"more");
    let zlib = b"\x78\x9c\x03\x00\x00\x00\x00\x01".to_vec();
    let plain = b"etcd snapshot".to_vec();
    for bytes in [wrong_sum, wrong_size, garbage_behind, zlib, plain] {
        let outcome = error(gunzip(chunked(&bytes, 100))).await;
        assert!(
            matches!(&outcome, BodyError::Invalid(text) if text.contains("byte")),
            "{outcome:?}"
        );
    }
    let second_cut = [whole.clone(), whole[..100].to_vec()].concat();
    assert!(matches!(error(gunzip(chunked(&second_cut, 100))).await, BodyError::Truncated));
}

#[tokio::test]
async fn entries_must_have_their_declared_size() {
    for (size, came) in [(1, 0), (513, 512), (100_000, 99_999)] {
        let entries =
            vec![entry("a", size, chunked(&noise(came, 1), 100)), entry("b", 0, Body::empty())];
        let outcome = error(tar(entries).unwrap()).await;
        assert!(matches!(outcome, BodyError::Truncated), "{size}: {outcome:?}");
    }
    for (size, came) in [(0, 1), (511, 512), (512, 513), (100, 100_000)] {
        let outcome =
            error(tar(vec![entry("the/one", size, chunked(&noise(came, 1), 100))]).unwrap());
        let outcome = outcome.await;
        assert!(
            matches!(&outcome, BodyError::Invalid(text) if text.contains("the/one")),
            "{size}: {outcome:?}"
        );
    }
}

#[test]
fn paths_in_an_archive_cannot_leave_the_folder_it_is_unpacked_in() {
    let refused = [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/.",
        "a//b",
        "a/",
        "a\0b",
    ];
    for path in refused {
        let made = tar(vec![entry("good", 0, Body::empty()), entry(path, 0, Body::empty())]);
        assert!(matches!(made, Err(PipeError::Invalid(_))), "{path:?}");
    }
    for path in ["a", "a/b", "..a", "a..", "...", ".hidden", "a b\nc"] {
        assert!(tar(vec![entry(path, 0, Body::empty())]).is_ok(), "{path:?}");
    }
}

#[test]
fn sizes_that_overflow_are_refused() {
    for sizes in [vec![u64::MAX], vec![u64::MAX - 1024], vec![1 << 63, 1 << 63]] {
        let entries = sizes.iter().map(|size| entry("a", *size, Body::empty())).collect();
        assert!(matches!(tar(entries), Err(PipeError::Invalid(_))), "{sizes:?}");
    }
}

#[tokio::test]
async fn a_meter_reports_nothing_before_the_end() {
    let (meter, mut body) = Meter::attach(chunked(&[7; 200_000], 200_000));
    let mut pieces = 0;
    while let Some(chunk) = body.chunk().await {
        assert_eq!(meter.sum(), None);
        // One large chunk is not passed on as one.
        assert!(chunk.unwrap().len() <= 65_536);
        pieces += 1;
    }
    assert_eq!(pieces, 4);
    assert_eq!(meter.sum().unwrap().size, 200_000);
    let (meter, body) = Meter::attach(chunked(&[7; 1000], 100));
    drop(body);
    assert_eq!(meter.sum(), None);
}

/// tar, gzip and a meter around a body.
fn chain(body: Body) -> Body {
    let size = body.length().unwrap();
    let archive = tar(vec![entry("a", size, Meter::attach(body).1)]).unwrap();
    Meter::attach(gunzip(gzip(archive, 1).unwrap())).1
}

#[tokio::test]
async fn an_unread_pipe_reads_nothing_and_releases_its_source() {
    let (watch, body) = watched(vec![1; 1000], 1000);
    let body = chain(body);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(watch.read(), 0);
    drop(body);
    assert!(watch.dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_pipe_reads_little_more_than_is_asked_of_it() {
    // Nothing repeats within gzip's window, so what is held is held uncompressed.
    let (watch, body) = watched(noise(100_000, 1), 400);
    let mut body = chain(body);
    let mut out = 0;
    while out < 10_000_000 {
        out += body.chunk().await.unwrap().unwrap().len() as u64;
        assert!(watch.read() < out + 512 * 1024, "{} bytes are held", watch.read() - out);
    }
    drop(body);
    assert!(watch.dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn other_tasks_run_while_a_pipe_is_busy() {
    // All bytes are in memory, so only the pipe itself can yield.
    let (_, body) = watched(noise(65_536, 1), 160);
    let compressing = tokio::spawn(all(gzip(body, 6).unwrap()));
    let mut turns = 0;
    while !compressing.is_finished() {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns > 500, "{turns} turns in 10 MiB");
}

#[tokio::test]
async fn a_pipe_can_be_dropped_while_its_source_is_silent() {
    use futures_util::FutureExt;
    let mut body = gzip(stuck(b"a little"), 6).unwrap();
    for _ in 0..10 {
        assert!(body.chunk().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(body);
}
