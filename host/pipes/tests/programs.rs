//! The programs `gzip` and `tar` read what the pipes write, and the pipes read what `gzip` writes. Both
//! are on every Debian.

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
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{all, chunked, noise, text};
use keepgate_pipes::{Entry, gunzip, gzip, tar};
use keepgate_store::Body;

/// Runs a program, which must succeed and print no error.
fn run(program: &str, arguments: &[&str], input: &[u8], folder: &Path) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").env("TZ", "UTC");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let (mut stdin, input) = (running.stdin.take().unwrap(), input.to_vec());
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {said}");
    // A program need not read what follows the end of an archive.
    let _ = feeding.join().unwrap();
    output.stdout
}

fn entry(path: &str, content: &[u8]) -> Entry {
    Entry {
        path: path.to_owned(),
        size: content.len() as u64,
        mode: 0o640,
        modified: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        body: chunked(content, 1000),
    }
}

#[tokio::test]
async fn the_gzip_program_reads_our_output() {
    let folder = tempfile::tempdir().unwrap();
    for content in [vec![], b"a".to_vec(), text(300_000), noise(200_000, 1), vec![0; 1_000_000]] {
        for level in 0..=9 {
            let packed = all(gzip(chunked(&content, 4096), level).unwrap()).await.unwrap();
            // A header without name and time.
            assert_eq!(packed[..8], [0x1F, 0x8B, 8, 0, 0, 0, 0, 0]);
            assert!(run("gzip", &["-dc"], &packed, folder.path()) == content, "level {level}");
        }
    }
}

#[tokio::test]
async fn we_read_the_gzip_programs_output() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a-name"), text(200_000)).unwrap();
    for flag in ["-1", "-6", "-9"] {
        let packed = run("gzip", &[flag, "-c", "a-name"], b"", folder.path());
        assert_eq!(packed[3], 8, "the head has a name");
        assert!(all(gunzip(chunked(&packed, 999))).await.unwrap() == text(200_000));
    }
}

#[tokio::test]
async fn higher_levels_compress_better() {
    let mut sizes = Vec::new();
    for level in [0, 1, 9] {
        sizes.push(all(gzip(chunked(&text(300_000), 4096), level).unwrap()).await.unwrap().len());
    }
    assert!(sizes[0] > 300_000 && sizes[1] < 150_000 && sizes[2] < sizes[1], "{sizes:?}");
}

#[tokio::test]
async fn the_tar_program_unpacks_our_archives() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(60), "f".repeat(200));
    let hundred = "h".repeat(100);
    let contents = [
        ("snapshot.db", text(100_000)),
        ("empty", vec![]),
        ("a/block", noise(512, 1)),
        ("a/über 1", noise(513, 2)),
        (&long, noise(1023, 3)),
        (&hundred, noise(1, 4)),
        ("last", noise(1024, 5)),
    ];
    let entries = || contents.iter().map(|(path, content)| entry(path, content)).collect();
    let archive = tar(entries()).unwrap();
    let length = archive.length().unwrap();
    let archive = all(archive).await.unwrap();
    assert_eq!(archive.len() as u64, length);
    assert!(all(tar(entries()).unwrap()).await.unwrap() == archive, "the bytes are reproducible");

    let listed = run("tar", &["-tvf", "-", "--quoting-style=literal"], &archive, folder.path());
    let listed = String::from_utf8(listed).unwrap();
    assert_eq!(listed.lines().count(), contents.len());
    for (line, (path, content)) in listed.lines().zip(&contents) {
        let words: Vec<_> = line.split_whitespace().collect();
        let size = content.len().to_string();
        let told = ["-rw-r-----", "0/0", &size, "2023-11-14", "22:13"];
        assert_eq!(words[..5], told, "{line}");
        assert!(line.ends_with(path), "{line}");
    }
    run("tar", &["-xpf", "-"], &archive, folder.path());
    for (path, content) in &contents {
        assert!(fs::read(folder.path().join(path)).unwrap() == *content, "{path}");
    }
}

#[tokio::test]
async fn an_empty_archive_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let archive = all(tar(vec![]).unwrap()).await.unwrap();
    assert_eq!(archive, vec![0; 1024]);
    assert!(run("tar", &["-tf", "-"], &archive, folder.path()).is_empty());
}

#[tokio::test]
async fn the_tar_program_unpacks_our_compressed_archives() {
    let folder = tempfile::tempdir().unwrap();
    let archive = tar(vec![entry("snapshot.db", &text(500_000))]).unwrap();
    let packed = all(gzip(archive, 6).unwrap()).await.unwrap();
    run("tar", &["-xzf", "-"], &packed, folder.path());
    assert!(fs::read(folder.path().join("snapshot.db")).unwrap() == text(500_000));
}

#[tokio::test]
async fn files_beyond_8_gib_and_odd_times_have_a_head_that_the_program_tar_understands() {
    const SIZE: u64 = 9 << 30;
    let folder = tempfile::tempdir().unwrap();
    let times = [
        (UNIX_EPOCH - Duration::from_secs(5), "1970-01-01"),
        (UNIX_EPOCH + Duration::from_secs((1 << 33) - 1), "2242-03-16"),
        (UNIX_EPOCH + Duration::from_secs(1 << 33), "2242-03-16"),
    ];
    for (modified, date) in times {
        for size in [(8 << 30) - 1, 8 << 30, SIZE] {
            let zeros = zeros(size);
            let whole = Entry { size, modified, body: zeros, ..entry("snapshot.db", b"") };
            let mut archive = tar(vec![whole]).unwrap();
            let head = archive.chunk().await.unwrap().unwrap();
            assert_eq!(head.len(), 512);
            // The content and the end of the archive are zeros, like holes in a file.
            let file = folder.path().join("archive.tar");
            fs::write(&file, &head).unwrap();
            let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
            open.set_len(archive.length().unwrap()).unwrap();
            let listed = run("tar", &["-tvf", "archive.tar"], b"", folder.path());
            let listed = String::from_utf8(listed).unwrap();
            let words: Vec<_> = listed.split_whitespace().collect();
            assert_eq!(words[2], size.to_string(), "{listed}");
            assert_eq!(words[3], date, "{listed}");
        }
    }
}

#[tokio::test]
async fn nine_gib_fit_into_an_archive() {
    const SIZE: u64 = 9 << 30;
    let mut archive = tar(vec![Entry {
        path: "zeros".to_owned(),
        size: SIZE,
        mode: 0o600,
        modified: SystemTime::now(),
        body: zeros(SIZE),
    }])
    .unwrap();
    let length = archive.length().unwrap();
    let mut counted = 0;
    while let Some(chunk) = archive.chunk().await {
        counted += chunk.unwrap().len() as u64;
    }
    assert_eq!(counted, length);
    assert_eq!(counted, 512 + SIZE + 1024);
}

/// Zeros that take hardly any memory.
fn zeros(size: u64) -> Body {
    let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
    let chunks = (0..size).step_by(1 << 20).map(move |at| {
        let length = (size - at).min(1 << 20) as usize;
        Ok(chunk.slice(..length))
    });
    Body::from_stream(Some(size), futures_util::stream::iter(chunks))
}
