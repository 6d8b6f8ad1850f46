//! What can go wrong only on a disk: links, special files and modes (`names`), leftovers of uploads
//! (`uploads`), changes by other programs (`changes`), what a folder gives its files (`inherited`), and
//! links that are followed (`links`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod inherited;
mod links;
mod names;
mod uploads;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use keepgate_store::disk::{DiskOptions, DiskStore, Features};

fn open(root: &Path) -> Store {
    Arc::new(DiskStore::open(root, DiskOptions::default()).unwrap())
}

fn open_with(root: &Path, features: Features) -> Store {
    Arc::new(DiskStore::open(root, DiskOptions { features, ..DiskOptions::default() }).unwrap())
}

fn named() -> Features {
    Features { unnamed_files: false, ..Features::default() }
}

/// Both ways of resolving names.
fn resolvers() -> [Features; 2] {
    [Features::default(), Features { openat2: false, ..Features::default() }]
}

/// All files below a folder including hidden ones, except locks.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name() != Some("lock".as_ref()) {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}
