//! Removes from the copy what has been missing in the source for long enough.
//!
//! When a blob is first missed, its key and the time are noted in a file of its unit. Each run lists
//! both stores again, stage by stage *from the first to the last*, and writes the file anew: a blob
//! that is back is forgotten, so its clock starts again if it goes once more. A program deletes what
//! refers before what is referred to, so in this order a pack is never noted earlier than the index
//! file that names it, and never comes due earlier. Then what is due is removed *from the last stage
//! to the first*, each blob after one more look at the source. If a blob of a stage cannot be
//! removed, earlier stages are left alone.
//!
//! What was first missed by this very run is never removed by it, whatever the delay: what replaces
//! it in the source may be newer than the listings that the copy was made by. For the same reason
//! nothing is removed if the stage before the last (restic: the index) has something new again.
//!
//! **A wiped source does not wipe the copy.** Nothing is removed from a unit, and nothing is newly
//! noted, if the source has none of the unit's blobs, or none of one of its stages that the copy has,
//! or if more than the configured share of the bytes of a stage, or of the blobs of the last one, has
//! come to be missing since the run before (of the stage before the last, restic's index, all may: a
//! prune writes it anew). A source that cannot be listed ends the run before it gets here.
//!
//! The file is replaced by renaming, after fsync. A file that is damaged, or lost, means that all
//! clocks start again. It is read and written in batches: memory does not grow with its length.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use futures_util::{StreamExt as _, stream};
use keepgate_store::{Key, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::context::Context;
use crate::error::{CopyError, Result};
use crate::options::Deletes;
use crate::records::{RecordReader, RecordWriter, blocking};
use crate::scan::{Scan, Shape, Unit};

/// What names of unfinished files begin with.
const UNFINISHED: &str = ".new-";

/// A blob that is missing in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Missing {
    stage: usize,
    key: String,
    /// When it was first missed, in seconds since 1970.
    since: u64,
    /// Whether this run was the first to miss it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
}

/// Blobs of a stage.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    from: u64,
    to: u64,
    /// The bytes of `to`.
    bytes: u64,
    /// In the target alone, and not known from an earlier run.
    fresh: u64,
    /// The bytes of `fresh`.
    fresh_bytes: u64,
    /// In the source alone.
    new: u64,
}

/// Notes what is missing in a unit and removes what is due.
pub(crate) async fn follow(context: &Context, unit: &Unit, deletes: &Deletes) -> Result<()> {
    let path = file_of(unit, &deletes.state);
    let now = deletes.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (noted, counts) = note(context, unit, &path, now).await?;
    let refusal = refusal(context, unit, &counts, deletes.max_missing);
    replace(noted, &path, refusal.is_some()).await?;
    match refusal {
        Some(reason) => {
            let folder = unit.name();
            tracing::error!(folder, reason, "nothing removed from the copy");
            context.report().kept.add(folder, reason);
            Ok(())
        }
        None if has_moved(context, unit, &counts) => {
            tracing::info!(
                folder = unit.name(),
                "the source has changed; nothing removed this time"
            );
            Ok(())
        }
        None => {
            let due = now.saturating_sub(deletes.after.as_secs().max(1));
            remove(context, unit, &path, due).await
        }
    }
}

/// Whether what the last stage refers to has changed since it was copied.
fn has_moved(context: &Context, unit: &Unit, counts: &[Counts]) -> bool {
    let before_last = unit.dependent(context).and_then(|stage| stage.checked_sub(1));
    before_last.and_then(|stage| counts.get(stage)).is_some_and(|counts| counts.new > 0)
}

/// Removes what a killed run left in the folder of the state.
pub(crate) async fn tidy(deletes: &Deletes) -> Result<()> {
    let folder = deletes.state.clone();
    let tidied = blocking(move || {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    });
    tidied.await.map_err(|error| state("cannot tidy", &deletes.state, error))
}

fn file_of(unit: &Unit, state: &Path) -> PathBuf {
    let shape = if unit.shape == Shape::Folder { "folder" } else { "all" };
    let digest = Sha256::digest(format!("{shape} {}", unit.folder));
    let mut name = hex::encode(digest);
    name.truncate(32);
    state.join(format!("{name}.missing"))
}

/// Lists the unit and writes what is missing into a new file.
async fn note(
    context: &Context,
    unit: &Unit,
    path: &Path,
    now: u64,
) -> Result<(NamedTempFile, Vec<Counts>)> {
    let mut earlier = Earlier::open(path).await?;
    let new = new_file(path).await?;
    let mut writer = RecordWriter::new(reopened(&new, path)?, path);
    let mut all = Vec::new();
    for stage in 0..unit.stages(context) {
        let mut counts = Counts::default();
        let mut scan = Scan::open(context, unit, stage).await?;
        while let Some(pair) = scan.next().await? {
            counts.from += u64::from(pair.from.is_some());
            counts.to += u64::from(pair.to.is_some());
            let size = pair.to.as_ref().map_or(0, |entry| entry.size);
            counts.bytes = counts.bytes.saturating_add(size);
            counts.new += u64::from(pair.to.is_none());
            if pair.from.is_some() {
                continue;
            }
            let since = earlier.since(stage, &pair.key).await;
            if since.is_none() {
                counts.fresh += 1;
                counts.fresh_bytes = counts.fresh_bytes.saturating_add(size);
            }
            let (fresh, since) = (since.is_none(), since.unwrap_or(now).min(now));
            writer.push(Missing { stage, key: pair.key, since, fresh }).await?;
        }
        all.push(counts);
    }
    writer.finish().await?;
    Ok((new, all))
}

/// What the run before has noted, read along with the listings.
struct Earlier {
    reader: Option<RecordReader<Missing>>,
    next: Option<Missing>,
}

impl Earlier {
    async fn open(path: &Path) -> Result<Self> {
        let named = path.to_owned();
        let file = match blocking(move || File::open(named)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { reader: None, next: None });
            }
            Err(error) => return Err(state("cannot read", path, error)),
        };
        let mut earlier = Self { reader: Some(RecordReader::new(file, path)), next: None };
        earlier.advance().await;
        Ok(earlier)
    }

    async fn advance(&mut self) {
        self.next = match &mut self.reader {
            None => None,
            Some(reader) => reader.next().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "list of missing blobs ignored; their clocks start again");
                None
            }),
        };
        if self.next.is_none() {
            self.reader = None;
        }
    }

    /// Since when a blob is missing. Must be asked in ascending order.
    async fn since(&mut self, stage: usize, key: &str) -> Option<u64> {
        loop {
            let next = self.next.as_ref()?;
            match (next.stage, next.key.as_str()).cmp(&(stage, key)) {
                Ordering::Less => self.advance().await,
                Ordering::Equal => return Some(next.since),
                Ordering::Greater => return None,
            }
        }
    }
}

/// Why nothing may be removed.
fn refusal(context: &Context, unit: &Unit, counts: &[Counts], max: f64) -> Option<String> {
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).fold(0, u64::saturating_add);
    let (from, to) = (sum(|it| it.from), sum(|it| it.to));
    if from == 0 && to > 0 {
        return Some(format!("the source has no blobs, the copy has {to}"));
    }
    let Some(last) = unit.dependent(context) else {
        return too_many(sum(|it| it.fresh), to, "blobs", max);
    };
    let names = context.options.order.names();
    let wiped = names.iter().zip(counts).find_map(|(name, counts)| {
        let wiped = counts.from == 0 && counts.to > 0;
        let to = counts.to;
        wiped.then(|| format!("the source has no blobs in \"{name}\", the copy has {to}"))
    });
    let stages = || names.iter().zip(counts).enumerate();
    let dependents = || {
        let (_, (name, counts)) = stages().nth(last)?;
        too_many(counts.fresh, counts.to, &format!("blobs in \"{name}\""), max)
    };
    // Not of the stage before the last: a prune makes one index file of hundreds.
    let rewritten = if last < 2 { None } else { Some(last - 1) };
    let bytes = || {
        let others = stages().filter(|(stage, _)| Some(*stage) != rewritten);
        others.into_iter().find_map(|(_, (name, counts))| {
            let what = format!("bytes in \"{name}\"");
            too_many(counts.fresh_bytes, counts.bytes, &what, max)
        })
    };
    wiped.or_else(dependents).or_else(bytes)
}

fn too_many(fresh: u64, of: u64, what: &str, max: f64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
    let too_many = fresh as f64 > max * of as f64;
    too_many.then(|| {
        format!(
            "{fresh} of {of} {what} went missing since the last run, more than the share of {max} that \
             is allowed"
        )
    })
}

/// Puts the new file into place; durable when it returns. Without the fresh ones, their clocks do
/// not start.
async fn replace(noted: NamedTempFile, path: &Path, without_fresh: bool) -> Result<()> {
    let new = new_file(path).await?;
    let mut reader = RecordReader::<Missing>::new(reopened(&noted, path)?, path);
    let mut writer = RecordWriter::new(reopened(&new, path)?, path);
    let mut empty = true;
    while let Some(missing) = reader.next().await? {
        if !(without_fresh && missing.fresh) {
            empty = false;
            writer.push(Missing { fresh: false, ..missing }).await?;
        }
    }
    let file = writer.finish().await?;
    let place = path.to_owned();
    let replaced = blocking(move || {
        file.sync_all()?;
        if !empty {
            new.persist(&place)?;
        } else if let Err(error) = std::fs::remove_file(&place)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let folder = place.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    });
    replaced.await.map_err(|error| state("cannot write", path, error))
}

/// Removes what has been missing since `due` or earlier.
async fn remove(context: &Context, unit: &Unit, path: &Path, due: u64) -> Result<()> {
    for stage in (0..unit.stages(context)).rev() {
        let named = path.to_owned();
        let file = match blocking(move || File::open(named)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(state("cannot read", path, error)),
        };
        let reader = RecordReader::<Missing>::new(file, path);
        let due = stream::try_unfold(reader, |mut reader| async move {
            while let Some(missing) = reader.next().await? {
                if missing.stage == stage && missing.since <= due {
                    return Ok::<_, CopyError>(Some((missing, reader)));
                }
            }
            Ok(None)
        });
        let mut removed = due
            .map(|missing| async { remove_one(context, &missing?.key).await })
            .buffer_unordered(context.parallel())
            .boxed();
        let mut all = true;
        while let Some(removed) = removed.next().await {
            all &= removed?;
        }
        if !all {
            return Ok(());
        }
    }
    Ok(())
}

/// Removes a blob from the copy, unless the source has it again. False if it is still there.
async fn remove_one(context: &Context, name: &str) -> Result<bool> {
    let key = Key::new(name).map_err(CopyError::Target)?;
    match context.from.head(&key).await {
        Err(StoreError::NotFound) => {}
        Ok(_) => return Ok(false),
        Err(error) => return Err(CopyError::Source(error)),
    }
    match context.to.delete(&key).await {
        Ok(Some(_)) => {
            tracing::info!(key = name, "removed from the copy");
            context.report().removed.add(name, "");
            Ok(true)
        }
        Ok(None) => Ok(true),
        Err(error @ StoreError::Unavailable(_)) => Err(CopyError::Target(error)),
        Err(error @ (StoreError::Denied(_) | StoreError::Unsupported(_))) => {
            context.report().not_removed.add(name, error.to_string());
            Ok(false)
        }
        Err(error) => {
            context.report().failed.add(name, format!("cannot be removed: {error}"));
            Ok(false)
        }
    }
}

async fn new_file(path: &Path) -> Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let made = blocking(move || tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder));
    made.await.map_err(|error| state("cannot write", path, error))
}

fn reopened(file: &NamedTempFile, path: &Path) -> Result<File> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(file.path());
    opened.map_err(|error| state("cannot open", path, error))
}

fn state(action: &'static str, path: &Path, source: io::Error) -> CopyError {
    CopyError::State { action, path: path.to_owned(), source }
}
