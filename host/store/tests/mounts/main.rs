//! Stores on file systems that the tests mount: full, read-only and without attributes (`limits`), as folders
//! of a store (`folders`), swapped below a store (`roots`), and cut off by a power failure (`power_cut`). Mounting requires root; otherwise each
//! test reports that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

#[path = "../common/mod.rs"]
mod common;
mod folders;
mod limits;
mod power_cut;
mod roots;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use keepgate_store::disk::{DiskOptions, DiskStore, Features};
use keepgate_store::{Condition, PutOptions, StoreError};
use tempfile::TempDir;

/// A mount that is removed at the end of the test.
struct Mount(PathBuf);

impl Mount {
    /// None, and a message, if mounting is not permitted.
    fn new(test: &str, arguments: &[&str], at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let output = Command::new("mount").args(arguments).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                eprintln!("SKIPPED {test}: mount {arguments:?}: {}", text.trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED {test}: mount: {error}");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.unwrap().success() || std::thread::panicking());
    }
}

fn open(root: &Path, unnamed_files: bool) -> Store {
    let features = Features { unnamed_files, ..Features::default() };
    Arc::new(DiskStore::open(root, DiskOptions { features, ..DiskOptions::default() }).unwrap())
}

async fn comes_true(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

fn unfinished(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let count = |entry: fs::DirEntry| {
        let hidden = entry.file_name().to_string_lossy().starts_with(".keepgate");
        usize::from(hidden)
            + if entry.file_type().unwrap().is_dir() { unfinished(&entry.path()) } else { 0 }
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}

/// A new file system in an image file, mounted at `root`.
fn made_with(test: &str, mkfs: &[&str], dir: &Path, root: &Path) -> Option<Mount> {
    let image = dir.join("image");
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    match Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image).output() {
        Ok(output) if output.status.success() => {
            Mount::new(test, &["-o", "loop", image.to_str().unwrap()], root)
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED {test}: {mkfs:?}: {}", text.trim());
            None
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: {}: {error}", mkfs[0]);
            None
        }
    }
}
