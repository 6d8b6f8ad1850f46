//! `backup`: hashes what is in a folder, posts the manifest, and sends what the server lacks.

use std::collections::BTreeMap;
use std::fs::File as Opened;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::{Timestamp, Unit};
use serde_json::json;

use crate::api::{Failed, Server};
use crate::arguments::BackupArguments;
use crate::hashes::Hashes;
use crate::manifest::{File, Manifest};
use crate::names;
use crate::omit::Omit;
use crate::progress::{Progress, size};
use crate::tree::{self, Found, Identity};

/// How often a request is repeated that the network or a busy server has spoiled, and the first pause.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// A file to send: what the server has of it, and where its bytes are.
#[derive(Debug)]
struct Wanted<'a> {
    found: &'a Found,
    hash: &'a str,
    gaps: Vec<(u64, u64)>,
}

/// Whether all files were backed up.
pub(crate) fn run(server: &Server, asked: &BackupArguments, as_json: bool) -> Result<bool> {
    let folder = asked.folder.canonicalize().with_context(|| asked.folder.display().to_string())?;
    let timestamp = Timestamp::now().round(Unit::Millisecond)?.to_string();
    let mut manifest = Manifest {
        name: asked.name.clone(),
        timestamp,
        base: folder.to_string_lossy().into_owned(),
        omit: asked.omit.clone(),
        ..Manifest::default()
    };
    let problems = Mutex::new(0_u64);
    let report = |path: &Path, error: &dyn std::fmt::Display| {
        eprintln!("fest: {}: {error}", names::shown(path));
        *problems.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    };
    let mut unread = |path: &Path, error: &io::Error| report(path, error);
    let found = tree::walk(&folder, &Omit::new(&asked.omit)?, &mut manifest, &mut unread)?;
    let hashes = Hashes::of(&folder, asked.rehash);
    let files = hash_all(&folder, &found, &hashes, asked.jobs, &report);
    for (found, hash) in &files {
        let file = File {
            hash: hash.clone(),
            size: found.size,
            about: found.about.clone(),
            ..File::default()
        };
        manifest.files.insert(found.key.clone(), file);
    }
    hashes.save(&found);
    let answered = with_patience(|| server.post(&manifest))?;
    let wanted = wanted(&files, &answered);
    let sent = send_all(server, &folder, &wanted, asked.jobs, &hashes, &report)?;
    let problems = *problems.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes: u64 = manifest.files.values().map(|file| file.size).sum();
    if as_json {
        let result = json!({
            "name": manifest.name, "timestamp": manifest.timestamp, "files": manifest.files.len(), "bytes": bytes,
            "sent_files": wanted.len(), "sent_bytes": sent, "problems": problems,
        });
        println!("{result}");
    } else {
        println!(
            "{} {}: {} files, {}; sent {} of {}",
            manifest.name,
            manifest.timestamp,
            manifest.files.len(),
            size(bytes),
            size(sent),
            if wanted.len() == 1 { "1 file".to_owned() } else { format!("{} files", wanted.len()) },
        );
    }
    Ok(problems == 0)
}

/// The hashes of all files that can be read.
fn hash_all<'a>(
    folder: &Path,
    found: &'a [Found],
    hashes: &Hashes,
    jobs: usize,
    report: &(dyn Fn(&Path, &dyn std::fmt::Display) + Sync),
) -> Vec<(&'a Found, String)> {
    let bytes = found.iter().map(|found| found.size).sum();
    let progress = Progress::begin("reading", found.len() as u64, bytes);
    let done = Mutex::new(Vec::with_capacity(found.len()));
    // More would only make the disk seek.
    each(found, jobs.min(4), |found| {
        match hashes.get(folder, found) {
            Ok(hash) => done.lock().unwrap_or_else(PoisonError::into_inner).push((found, hash)),
            Err(error) => report(&found.path, &error),
        }
        progress.add_bytes(found.size);
        progress.add_file();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What the server lacks, each content once.
fn wanted<'a>(files: &'a [(&'a Found, String)], answered: &Manifest) -> Vec<Wanted<'a>> {
    let mut wanted: BTreeMap<&str, Wanted<'a>> = BTreeMap::new();
    for (found, hash) in files {
        let Some(file) = answered.files.get(&found.key).filter(|file| !file.is_available) else {
            continue;
        };
        let mut gaps = gaps(&file.available_bytes, file.size);
        if gaps.is_empty() {
            // All bytes are there, and the server does not take them for the file.
            gaps.push((0, file.size.saturating_sub(1)));
        }
        wanted.entry(hash).or_insert(Wanted { found, hash, gaps });
    }
    wanted.into_values().collect()
}

/// What is between ranges, first and last byte of each.
fn gaps(there: &[(u64, u64)], size: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for (first, last) in there {
        if *first > next {
            gaps.push((next, first - 1));
        }
        next = last + 1;
    }
    if next < size {
        gaps.push((next, size - 1));
    }
    gaps
}

/// Sends files, several at the same time. Returns the number of bytes.
fn send_all(
    server: &Server,
    folder: &Path,
    wanted: &[Wanted<'_>],
    jobs: usize,
    hashes: &Hashes,
    report: &(dyn Fn(&Path, &dyn std::fmt::Display) + Sync),
) -> Result<u64> {
    let bytes =
        wanted.iter().flat_map(|wanted| &wanted.gaps).map(|(first, last)| last - first + 1).sum();
    let progress = Progress::begin("sending", wanted.len() as u64, bytes);
    let sent = AtomicU64::new(0);
    let fatal: Mutex<Option<Failed>> = Mutex::default();
    let is_fatal = || fatal.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    each(wanted, jobs, |wanted| {
        if is_fatal() {
            return;
        }
        match send(server, folder, wanted, &progress) {
            Ok(bytes) => drop(sent.fetch_add(bytes, Ordering::Relaxed)),
            Err(Unsent::Changed) => {
                hashes.forget(&wanted.found.path);
                report(&wanted.found.path, &"was changed while it was backed up");
            }
            Err(Unsent::Unreadable(error)) => report(&wanted.found.path, &error),
            Err(Unsent::Failed(failed)) => {
                *fatal.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
            }
        }
        progress.add_file();
    });
    drop(progress);
    match fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failed) => bail!("{failed}; what has arrived stays there: run it again to go on"),
        None => Ok(sent.into_inner()),
    }
}

/// Why a file was not sent.
enum Unsent {
    /// It is not the file that was hashed any more.
    Changed,
    Unreadable(io::Error),
    Failed(Failed),
}

/// Sends what is missing of a file.
fn send(
    server: &Server,
    folder: &Path,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> Result<u64, Unsent> {
    let path: PathBuf = folder.join(&wanted.found.path);
    let size = wanted.found.size;
    let mut sent = 0;
    for (first, last) in &wanted.gaps {
        let length = last - first + 1;
        let range = (length < size).then_some((*first, *last, size));
        let mut tries = 0;
        loop {
            let mut file = Opened::open(&path).map_err(Unsent::Unreadable)?;
            let identity = file.metadata().map(|metadata| Identity::of(&metadata));
            if identity.map_err(Unsent::Unreadable)? != wanted.found.identity {
                return Err(Unsent::Changed);
            }
            file.seek(SeekFrom::Start(*first)).map_err(Unsent::Unreadable)?;
            let mut bytes = progress.follow(file.take(length));
            match server.put(wanted.hash, range, length, &mut bytes) {
                Ok(()) => break,
                Err(failed) if failed.is_mismatch() => return Err(Unsent::Changed),
                Err(failed) if failed.may_pass() && tries < TRIES => {
                    thread::sleep(PAUSE * 2_u32.pow(tries));
                    tries += 1;
                }
                Err(failed) => return Err(Unsent::Failed(failed)),
            }
        }
        sent += length;
    }
    Ok(sent)
}

/// Repeats what may pass.
pub(crate) fn with_patience<T>(mut ask: impl FnMut() -> Result<T, Failed>) -> Result<T, Failed> {
    let mut tries = 0;
    loop {
        match ask() {
            Err(failed) if failed.may_pass() && tries < TRIES => {
                thread::sleep(PAUSE * 2_u32.pow(tries));
                tries += 1;
            }
            done => return done,
        }
    }
}

/// Works on all of these, several at the same time.
pub(crate) fn each<'a, T: Sync>(all: &'a [T], at_once: usize, work: impl Fn(&'a T) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, 64).min(all.len()) {
            scope.spawn(|| {
                loop {
                    let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed));
                    let Some(one) = number.ok().and_then(|number| all.get(number)) else { break };
                    work(one);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_missing() {
        for (there, size, expected) in [
            (&[][..], 10, &[(0, 9)][..]),
            (&[(0, 9)], 10, &[]),
            (&[(2, 3), (5, 5)], 10, &[(0, 1), (4, 4), (6, 9)]),
            (&[(0, 4)], 10, &[(5, 9)]),
            (&[], 0, &[]),
        ] {
            assert_eq!(gaps(there, size), expected);
        }
    }
}
