//! Logs as they are kept: lines that came together are a blob, and records say which blobs are a log.
//!
//! A piece is written before the record that names it, under a name that follows from its content: whoever died in between
//! left a blob that is written again, or removed with its log. A log is taken from the list in one commit, which also says
//! that the rest of it is still to be removed.

use std::collections::BTreeSet;

use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Store, Timestamp, environment};
use serde::{Deserialize, Serialize};

use crate::layout;

/// What a piece counts at least, in bytes: many small ones are not for free.
pub(crate) const LEAST_OF_PIECE: u64 = 1024;
/// How many pieces are removed in one commit.
const AT_ONCE: usize = 100;

/// A log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// That of the run, or else one of its own for the instance and the day.
    pub(crate) id: String,
    pub(crate) instance: String,
    /// The run whose lines these are.
    pub(crate) run: Option<String>,
    /// When the first and the last lines came.
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    /// The time of the first line, and of the last.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// What it counts, in bytes.
    pub(crate) charged: u64,
    pub(crate) pieces: u64,
    /// Whether there is an error among its lines.
    pub(crate) failed: bool,
    /// How many lines were dropped for want of room.
    #[serde(default)]
    pub(crate) dropped: u64,
}

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// The blob.
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// What the logs of an instance hold, and what was dropped of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    /// What they count, in bytes.
    pub(crate) bytes: u64,
    /// For want of room.
    pub(crate) dropped_lines: u64,
    pub(crate) dropped_logs: u64,
}

/// A record as it was found, or that there was none.
pub(crate) struct Found<T> {
    pub(crate) key: String,
    pub(crate) value: Option<T>,
    record: Option<Record>,
}

impl<T: serde::de::DeserializeOwned> Found<T> {
    pub(crate) fn get(key: String) -> Result<Self, Failure> {
        let record = records::get(&key)?;
        let value = record.as_ref().map(Record::json).transpose()?;
        Ok(Self { key, value, record })
    }

    /// Whether there is a record.
    pub(crate) fn exists(&self) -> bool {
        self.record.is_some()
    }

    /// Makes a commit depend on this.
    pub(crate) fn compared(&self, commit: Commit) -> Commit {
        match &self.record {
            Some(record) => commit.unchanged(record),
            None => commit.absent(&self.key),
        }
    }
}

impl Usage {
    pub(crate) fn of(instance: &str) -> Result<Found<Self>, Failure> {
        Found::get(layout::log_usage(instance))
    }
}

impl Log {
    /// The log with this id.
    pub(crate) fn find(id: &str) -> Result<Option<Self>, Failure> {
        let Some(index) = records::get(&layout::log_index(id))? else { return Ok(None) };
        records::get(&index.json::<String>()?)?.map(|record| record.json()).transpose()
    }

    /// The newest logs of an instance, the newest first.
    pub(crate) fn newest(instance: &str, most: usize) -> Result<Vec<Self>, Failure> {
        let logs = records::scan(&layout::logs(instance)).take(most);
        logs.map(|record| record?.json()).collect()
    }

    fn key(&self) -> String {
        layout::log(&self.instance, self.created, &self.id)
    }

    /// Its pieces from this number on, with their numbers.
    pub(crate) fn pieces(
        instance: &str,
        id: &str,
        from: u64,
    ) -> Result<Vec<(u64, Piece)>, Failure> {
        let prefix = layout::pieces(instance, id);
        let scan = records::scan(&prefix);
        let scan = match from.checked_sub(1) {
            Some(last) => scan.after(&layout::piece(instance, id, last)),
            None => scan,
        };
        let read = |record: Result<Record, Failure>| {
            let record = record?;
            let number = record.key.strip_prefix(&prefix).and_then(|number| number.parse().ok());
            Ok((number.unwrap_or_default(), record.json()?))
        };
        scan.map(read).collect()
    }
}

/// Takes a log from the list, in one commit with what the instance's logs hold then.
fn leave(log: &Log, for_room: bool) -> Result<(), Failure> {
    let (found, usage) = (Found::<Log>::get(log.key())?, Usage::of(&log.instance)?);
    let mut held = usage.value.clone().unwrap_or_default();
    held.bytes = held.bytes.saturating_sub(log.charged);
    if for_room {
        held.dropped_lines += log.lines;
        held.dropped_logs += 1;
    }
    if found.value.as_ref() != Some(log) {
        return Err(Failure::PreconditionFailed);
    }
    usage
        .compared(found.compared(Commit::new()))
        .delete(&found.key)
        .delete(&layout::log_index(&log.id))
        .put(&layout::leaving_log(&log.instance, &log.id), b"null")
        .put_json(&usage.key, &held)?
        .run()?;
    Ok(())
}

/// Removes the rest of a log that was taken from the list, at most so many pieces, and returns whether it is gone.
pub(crate) fn remove_rest(instance: &str, id: &str, mut most: usize) -> Result<bool, Failure> {
    let store = Store::open(layout::STORE)?;
    loop {
        let page = records::scan(&layout::pieces(instance, id)).page(AT_ONCE)?;
        if page.records.is_empty() {
            break;
        }
        if most == 0 {
            return Ok(false);
        }
        let mut commit = Commit::new();
        for record in &page.records {
            remove_blob(&store, &record.json::<Piece>()?.key)?;
            commit = commit.unchanged(record).delete(&record.key);
        }
        commit.run()?;
        most = most.saturating_sub(page.records.len());
    }
    // What was written by somebody who died before it was named.
    match store.list(&layout::log_blobs(instance, id), true) {
        Ok(listing) => {
            for entry in listing.next(1000)? {
                remove_blob(&store, &entry.key)?;
            }
        }
        Err(Failure::NotFound) => {}
        Err(failure) => return Err(failure),
    }
    Commit::new().delete(&layout::leaving_log(instance, id)).run()?;
    Ok(true)
}

/// A mount that only appends keeps the blob, which nothing names any more.
fn remove_blob(store: &Store, key: &str) -> Result<(), Failure> {
    match store.delete(key) {
        Err(Failure::Denied(reason)) => {
            environment::warn("lines of an old log stay", &[("blob", &key), ("reason", &reason)]);
            Ok(())
        }
        Err(failure) => Err(failure),
        Ok(_) => Ok(()),
    }
}

/// Removes old logs of an instance until this many bytes more have room, but never the newest log, nor one of these. Returns
/// whether they have room then.
pub(crate) fn make_room(
    instance: &str,
    needed: u64,
    most: u64,
    keep: &[String],
) -> Result<bool, Failure> {
    let has_room = || -> Result<bool, Failure> {
        Ok(Usage::of(instance)?.value.unwrap_or_default().bytes.saturating_add(needed) <= most)
    };
    if has_room()? {
        return Ok(true);
    }
    let newest = records::scan(&layout::logs(instance)).page(1)?.records;
    let newest = newest.first().map(|record| record.json::<Log>().map(|log| log.id)).transpose()?;
    let keep: BTreeSet<&String> = keep.iter().chain(&newest).collect();
    let mut kept = 0;
    for id in &keep {
        kept += Log::find(id)?.filter(|log| log.instance == instance).map_or(0, |log| log.charged);
    }
    // Nothing is removed in vain.
    if needed.saturating_add(kept) > most {
        return Ok(false);
    }
    for record in records::scan(&layout::logs(instance)).descending() {
        let log: Log = record?.json()?;
        if keep.contains(&log.id) {
            continue;
        }
        leave(&log, true)?;
        remove_rest(instance, &log.id, 10 * AT_ONCE)?;
        if has_room()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes logs that began before this time, and what else is left of removed ones and of received bodies: at most about
/// `most` pieces and records. Returns whether there are more.
pub(crate) fn remove_older_than(time: Timestamp, most: usize) -> Result<bool, Failure> {
    let mut removed = 0;
    for record in records::scan(layout::LEAVING_LOGS) {
        let key = record?.key;
        let rest = key.strip_prefix(layout::LEAVING_LOGS).unwrap_or_default();
        let (instance, id) = rest.split_once('/').unwrap_or_default();
        if !remove_rest(instance, id, most)? {
            return Ok(true);
        }
    }
    let yesterday = Timestamp::now().as_secs() / 86_400 - 1;
    let kept = layout::received_log(yesterday, "", "");
    let page = records::scan(layout::RECEIVED_LOGS).page(records::MAX_PAGE)?;
    let old: Vec<_> = page.records.into_iter().filter(|record| record.key < kept).collect();
    for some in old.chunks(records::MAX_OPERATIONS) {
        some.iter().fold(Commit::new(), |commit, record| commit.delete(&record.key)).run()?;
    }
    if page.more && old.len() == records::MAX_PAGE {
        return Ok(true);
    }
    let mut place = layout::LOGS.to_owned();
    loop {
        // The next instance that has logs.
        let next = records::scan(layout::LOGS).after(&place).page(1)?.records;
        let Some(next) = next.first() else { return Ok(false) };
        let instance = next.json::<Log>()?.instance;
        for record in records::scan(&layout::logs(&instance)).descending() {
            let log: Log = record?.json()?;
            if log.created >= time {
                break;
            }
            if removed >= most {
                return Ok(true);
            }
            match leave(&log, false) {
                Ok(()) => {}
                // Lines have come just now; tomorrow it is looked at again.
                Err(Failure::PreconditionFailed) => continue,
                Err(failure) => return Err(failure),
            }
            removed += 1 + usize::try_from(log.pieces).unwrap_or(most);
            if !remove_rest(&instance, &log.id, most)? {
                return Ok(true);
            }
        }
        // `0` comes after `/`.
        place = format!("{}{instance}0", layout::LOGS);
    }
}
