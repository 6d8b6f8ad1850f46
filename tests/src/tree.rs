//! Folders to back up and compare.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::data::{Blob, sha256};

/// Makes a tree of some MiB: odd names, empty files, duplicates, links, a file of several packs.
pub fn make(top: &Path) {
    let names: [&[u8]; 10] = [
        b"plain.txt",
        b"with blanks and 'quotes' \"too\"",
        "größe-日本語-🗄".as_bytes(),
        b"-looks-like-a-flag",
        b"*?[globs]$HOME",
        b"new\nline\tand tab",
        b"not utf-8 \xff\xfe",
        b".hidden",
        b"trailing. ",
        &[b'n'; 255],
    ];
    for (folder, seed) in [("a", 1), ("b/c/d/e/f", 100), ("empty folder", 200)] {
        let folder = top.join(folder);
        fs::create_dir_all(&folder).unwrap();
        if seed == 200 {
            continue;
        }
        for (number, name) in (seed..).zip(names) {
            let size = [0, 1, 511, 4096, 70_000][usize::try_from(number % 5).unwrap()];
            write(&folder.join(OsStr::from_bytes(name)), Blob::new(number, size));
        }
    }
    let large = Blob::new(7, 9 << 20);
    write(&top.join("large"), large);
    write(&top.join("a/the same again"), large);
    fs::set_permissions(top.join("large"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("../large", top.join("a/link")).unwrap();
    symlink("nowhere", top.join("broken link")).unwrap();
    fs::hard_link(top.join("large"), top.join("b/hard link")).unwrap();
    for number in 0..200 {
        write(&top.join(format!("a/small-{number}")), Blob::new(1000 + number, number));
    }
}

/// Changes a tree: adds, modifies, removes and moves files.
pub fn change(top: &Path) {
    write(&top.join("new"), Blob::new(5000, 3 << 20));
    write(&top.join("a/plain.txt"), Blob::new(5001, 12_345));
    fs::remove_file(top.join("a/small-17")).unwrap();
    fs::rename(top.join("b/c"), top.join("moved")).unwrap();
}

fn write(file: &Path, blob: Blob) {
    fs::write(file, blob.bytes()).unwrap();
}

/// Panics if two trees differ in names, kinds, modes, contents or targets of links.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (describe(one), describe(other));
    assert!(one.len() > 1, "nothing to compare");
    let missing: Vec<_> =
        one.iter().filter(|(path, what)| other.get(*path) != Some(what)).collect();
    let added: Vec<_> = other.iter().filter(|(path, what)| one.get(*path) != Some(what)).collect();
    assert!(missing.is_empty() && added.is_empty(), "missing: {missing:?}\nadded: {added:?}");
}

/// Every file below a folder, by its relative path.
pub fn files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(top, top, &mut |path, entry| {
        if entry.file_type().unwrap().is_file() {
            found.push(path.to_owned());
        }
    });
    found.sort();
    found
}

/// The same without the gateway's own: `.keepgate` and unfinished files, which a kill leaves until they are
/// swept; and without those of versitygw.
pub fn blobs(top: &Path) -> Vec<PathBuf> {
    let mut found = files(top);
    found.retain(|file| !is_the_gateways(file) && !file.starts_with(".sgwtmp"));
    found
}

/// Every folder below another one, without the gateway's own.
pub fn folders(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(top, top, &mut |path, entry| {
        if entry.file_type().unwrap().is_dir() && !is_the_gateways(path) {
            found.push(path.to_owned());
        }
    });
    found
}

/// A gateway keeps nothing in a store but blobs and, for as long as an upload lasts, its unfinished file.
#[track_caller]
pub fn assert_no_leftovers(top: &Path) {
    let mut left = files(top);
    left.retain(|file| is_the_gateways(file));
    assert!(left.is_empty(), "{left:?}");
}

fn is_the_gateways(file: &Path) -> bool {
    file.to_string_lossy().contains(".keepgate")
}

fn describe(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    walk(top, top, &mut |path, entry| {
        let metadata = entry.metadata().unwrap();
        let mode = metadata.permissions().mode();
        let what = if metadata.is_symlink() {
            format!("link to {}", fs::read_link(entry.path()).unwrap().display())
        } else if metadata.is_dir() {
            format!("folder {mode:o}")
        } else {
            format!("file {mode:o} {}", sha256(fs::File::open(entry.path()).unwrap()))
        };
        found.insert(path.to_owned(), what);
    });
    found
}

fn walk(top: &Path, folder: &Path, each: &mut impl FnMut(&Path, &fs::DirEntry)) {
    let entries = match fs::read_dir(folder) {
        // A server that is at work has removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder != top => return,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let entry = entry.unwrap();
        each(entry.path().strip_prefix(top).unwrap(), &entry);
        if entry.file_type().unwrap().is_dir() {
            walk(top, &entry.path(), each);
        }
    }
}
