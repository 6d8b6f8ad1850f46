//! The job that removes what nobody needs: versions of manifests that the settings do not keep, files that no version
//! names, and what has come of files that nobody goes on with. It runs by itself once a day, as long as there is anything.
//!
//! A file must not go while a manifest that names it is being posted. So the sweep first says which files it will remove
//! (`d/HASH`), and only then looks at the versions that were stored since it began. A version whose record was there by
//! then saves its files. One whose record was written later looks at its files later, too, and finds them not available.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepgate_sdk::jobs::{Job, Options, WhenBusy, report_progress};
use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Store, Timestamp, environment, jobs, json};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::pool::Complete;
use crate::settings::Settings;
use crate::versions::{self, Version};
use crate::{index, layout};

/// The kind of job.
pub(crate) const KIND: &str = "sweep";
/// From the end of one to the beginning of the next.
const PAUSE: Duration = Duration::from_secs(86_400);
/// Those that run by themselves; an operator's have another key.
const BY_ITSELF: &str = "daily";

/// What a sweep is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// Whether it only says what it would remove.
    dry_run: bool,
    by_itself: bool,
}

/// What it has removed, or would.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Removed {
    dry_run: bool,
    versions: Vec<String>,
    files: u64,
    file_bytes: u64,
    parts: u64,
    part_bytes: u64,
}

/// The key of a schedule's job.
pub(crate) fn key(kind: &str, input: &[u8]) -> Result<String, String> {
    if kind != KIND {
        return Err("schedules start jobs of the kinds `sweep` and `verify` only".to_owned());
    }
    let input: Result<Input, Failure> = jobs::input(KIND, input);
    input.map(|_| "scheduled".to_owned()).map_err(|failure| failure.message().to_owned())
}

/// Sees to it that a sweep comes.
pub(crate) fn begin() -> Result<(), Failure> {
    let input = Input { by_itself: true, ..Input::default() };
    let at = Timestamp::now().saturating_add(PAUSE);
    let options = Options::new(BY_ITSELF).when_busy(WhenBusy::Refuse).not_before(at.0);
    match jobs::start_with(KIND, &input, &options) {
        // One comes already. Without jobs, the operator does not want any.
        Ok(_) | Err(Failure::Busy(_) | Failure::Unsupported(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Runs the job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let input: Input = jobs::input(KIND, &job.input)?;
    let began = Timestamp::now();
    let mut removed = Removed { dry_run: input.dry_run, ..Removed::default() };
    report_progress("versions", 0, None);
    retain(settings, &mut removed)?;
    report_progress("files", 0, None);
    files(settings, began, &mut removed)?;
    report_progress("parts", 0, None);
    parts(settings, began, &mut removed)?;
    if input.by_itself && !records::scan("").page(1)?.records.is_empty() {
        // This job has the key until it ends, so the next one queues behind it.
        let at = Timestamp::now().saturating_add(PAUSE);
        let options = Options::new(BY_ITSELF).when_busy(WhenBusy::JoinQueued).not_before(at.0);
        jobs::start_with(KIND, &input, &options)?;
    }
    json::to_vec(&removed)
}

/// The user and the version of a record.
fn version_of(record: &Record) -> Result<(String, Version), Failure> {
    let user = record.key.split('/').nth(1).unwrap_or_default();
    Ok((user.to_owned(), record.json()?))
}

/// Removes versions that the settings do not keep; never the newest complete one of a name.
fn retain(settings: &Settings, removed: &mut Removed) -> Result<(), Failure> {
    let Some(policy) = &settings.keep else { return Ok(()) };
    // Versions of one manifest are next to each other.
    let mut manifest: (String, Vec<(Record, Version)>) = (String::new(), Vec::new());
    let mut expire = |versions: &mut Vec<(Record, Version)>| -> Result<(), Failure> {
        versions.sort_by_key(|(_, version)| (version.time, version.stored));
        let times: Vec<Version> = versions.iter().map(|(_, version)| version.clone()).collect();
        let store = Store::open("main")?;
        let mut newest_complete = None;
        for (record, version) in versions.iter().rev() {
            let (user, _) = version_of(record)?;
            if is_complete(&store, &user, version)? {
                newest_complete = Some(version.id.clone());
                break;
            }
        }
        let spared = |version: &Version| Some(&version.id) == newest_complete.as_ref();
        for expired in policy.expired(&times, Timestamp::now(), spared) {
            let Some((record, version)) = versions.iter().find(|(_, it)| it.id == expired.id)
            else {
                continue;
            };
            let (user, _) = version_of(record)?;
            removed.versions.push(format!("{user}/{}/{}", version.name, version.timestamp));
            if !removed.dry_run && versions::remove(&user, record, version)? {
                environment::info(
                    "version of a manifest removed",
                    &[("user", &user), ("name", &version.name), ("timestamp", &version.timestamp)],
                );
            }
        }
        Ok(())
    };
    for record in records::scan("m/") {
        let record = record?;
        let (_, version) = version_of(&record)?;
        let of = record.key.rsplit_once('/').map(|(of, _)| of.to_owned()).unwrap_or_default();
        if of != manifest.0 {
            expire(&mut manifest.1)?;
            manifest = (of, Vec::new());
        }
        manifest.1.push((record, version));
    }
    expire(&mut manifest.1)
}

fn is_complete(store: &Store, user: &str, version: &Version) -> Result<bool, Failure> {
    for first in 0..=255 {
        let files = index::part(store, &layout::index(user, &version.id), first)?;
        for some in files.chunks(records::MAX_PAGE) {
            let names: Vec<_> = some.iter().map(|(hash, _)| layout::file(hash)).collect();
            let missing = |(file, (hash, _)): (Option<Record>, &(Hash, u64))| {
                file.is_none() && *hash != crate::hash::EMPTY
            };
            if records::get_all(&names)?.into_iter().zip(some).any(missing) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Removes files that no version names and that are old enough.
fn files(settings: &Settings, began: Timestamp, removed: &mut Removed) -> Result<(), Failure> {
    let store = Store::open("main")?;
    if !removed.dry_run {
        finish_earlier(&store, removed)?;
    }
    // One part after another, so that memory does not depend on how many files there are.
    for first in 0..=255 {
        let named = named(&store, first, Timestamp(0))?;
        let mut doomed: BTreeMap<Hash, Record> = BTreeMap::new();
        for record in records::scan(&format!("f/{first:02x}")) {
            let record = record?;
            let file: Complete = record.json()?;
            let hash = record.key.strip_prefix("f/").and_then(Hash::parse);
            let Some(hash) = hash.filter(|hash| !named.contains(hash)) else { continue };
            if began.since(file.at) >= settings.grace() {
                removed.files += 1;
                removed.file_bytes = removed.file_bytes.saturating_add(file.size);
                doomed.insert(hash, record);
            }
        }
        if removed.dry_run || doomed.is_empty() {
            continue;
        }
        for (hash, record) in &doomed {
            let commit = Commit::new().unchanged(record).put(&layout::doomed(hash), b"");
            match commit.run() {
                // Changed meanwhile: it is somebody's again.
                Err(Failure::PreconditionFailed) => {}
                made => drop(made?),
            }
        }
        let saved = self::named(&store, first, began)?;
        for (hash, record) in doomed {
            let is_saved = saved.contains(&hash);
            if is_saved {
                removed.files -= 1;
                Commit::new().delete(&layout::doomed(&hash)).run()?;
            } else {
                remove(&store, &hash, &record)?;
            }
        }
    }
    Ok(())
}

/// Removes a file that was said to go, unless somebody has uploaded it again.
fn remove(store: &Store, hash: &Hash, record: &Record) -> Result<(), Failure> {
    let doomed = layout::doomed(hash);
    let commit = Commit::new().unchanged(record).present(&doomed).delete(&record.key);
    match commit.run() {
        Err(Failure::PreconditionFailed) => return Ok(()),
        made => made?,
    };
    // The bytes after the record: nothing says any more that they are there.
    store.delete(&record.json::<Complete>()?.key)?;
    Commit::new().delete(&doomed).run().map(|_| ())
}

/// What an earlier sweep, which was killed, has said it would remove: it is looked at again.
fn finish_earlier(store: &Store, removed: &mut Removed) -> Result<(), Failure> {
    let doomed: Result<Vec<Record>, Failure> = records::scan("d/").collect();
    for record in doomed? {
        let Some(hash) = record.key.strip_prefix("d/").and_then(Hash::parse) else { continue };
        let file = records::get(&layout::file(&hash))?;
        let [first, ..] = hash.0;
        match file {
            Some(file) if !named(store, first, Timestamp(0))?.contains(&hash) => {
                removed.files += 1;
                remove(store, &hash, &file)?;
            }
            _ => drop(Commit::new().delete(&record.key).run()?),
        }
    }
    Ok(())
}

/// The files that versions name which were stored since, by the first byte of their hashes.
fn named(store: &Store, first: u8, since: Timestamp) -> Result<BTreeSet<Hash>, Failure> {
    // Clocks of gateways differ.
    let since = since.saturating_sub(Duration::from_secs(3600));
    let mut named = BTreeSet::new();
    for record in records::scan("m/") {
        let (user, version) = version_of(&record?)?;
        if version.stored < since {
            continue;
        }
        match index::part(store, &layout::index(&user, &version.id), first) {
            Ok(files) => named.extend(files.into_iter().map(|(hash, _)| hash)),
            // Removed meanwhile, and its record before.
            Err(Failure::NotFound) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(named)
}

/// Removes what has come of files that nobody goes on with, and what was left by gateways that were killed.
fn parts(settings: &Settings, began: Timestamp, removed: &mut Removed) -> Result<(), Failure> {
    for folder in [layout::UPLOADED, layout::JOINED] {
        parts_below(folder, settings, began, removed)?;
    }
    Ok(())
}

fn parts_below(
    folder: &str,
    settings: &Settings,
    began: Timestamp,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let store = Store::open("main")?;
    let entries = match store.entries(folder, true) {
        Err(Failure::NotFound) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let old = began.since(Timestamp(entry.modified)) >= settings.partial();
        let Some(hash) = layout::hash_of_upload(&entry.key).filter(|_| old) else { continue };
        let named = records::get(&layout::file(&hash))?;
        let is_file = match &named {
            Some(record) => record.json::<Complete>()?.key == entry.key,
            None => false,
        };
        if is_file {
            continue;
        }
        removed.parts += 1;
        removed.part_bytes = removed.part_bytes.saturating_add(entry.size);
        if !removed.dry_run {
            store.delete(&entry.key)?;
            if folder == layout::UPLOADED {
                let user = entry.key.split('/').nth(1).unwrap_or_default();
                Commit::new().delete(&format!("p/{user}/{hash}")).run()?;
            }
        }
    }
    Ok(())
}
