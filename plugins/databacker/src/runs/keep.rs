//! Runs as they are kept: by their start, the newest first, by their id and that of their trace, and the newest of each
//! instance once more, for lists of instances.
//!
//! Clients choose the ids of runs. An id belongs to the trace that had it first, of whichever instance: another trace
//! that names it is called by its own id, so nobody takes over what is another's.

use std::time::Duration;

use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layout;
use crate::run::{Run, Status};

/// After which time without news a run without its root is `unknown`. Spans come when they end, and a dump may take hours.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A run with what is needed to keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(flatten)]
    pub(crate) run: Run,
    pub(crate) trace: String,
    /// When spans of it came last.
    pub(crate) seen: Timestamp,
    /// How many of its spans were dropped.
    #[serde(default)]
    pub(crate) dropped: u64,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) instance: String,
    pub(crate) trace: String,
    pub(crate) key: String,
}

/// A run that a commit places.
pub(crate) struct Placed {
    pub(crate) commit: Commit,
    /// Under the id that it got.
    pub(crate) run: Run,
    /// Whether it had ended before.
    pub(crate) had_ended: bool,
}

impl Kept {
    /// Its status as it is to be shown at this time.
    pub(crate) fn status(&self, now: Timestamp) -> Status {
        let is_lost = self.run.status == Status::Running && now.since(self.seen) > LOST_AFTER;
        if is_lost { Status::Unknown } else { self.run.status }
    }

    /// The run with its status at this time.
    pub(crate) fn at(&self, now: Timestamp) -> Run {
        Run { status: self.status(now), ..self.run.clone() }
    }

    /// As administrators see it.
    pub(crate) fn shown(&self, now: Timestamp) -> Result<Value, Failure> {
        serde_json::to_value(self.at(now))
            .map_err(|error| Failure::Internal(format!("a run as JSON: {error}")))
    }
}

/// The run with this id, or of the trace with this id.
pub(crate) fn find(id: &str) -> Result<Option<(Index, Kept)>, Failure> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 128 || !id.bytes().all(is_id) {
        return Ok(None);
    }
    let Some(index) = records::get(&layout::run_index(id))? else { return Ok(None) };
    let index: Index = index.json()?;
    let kept = records::get(&index.key)?.map(|record| record.json()).transpose()?;
    Ok(kept.map(|kept| (index, kept)))
}

/// How the runs with these ids of an instance stand at this time, in the same order; none for those that are not known.
pub(crate) fn statuses(
    instance: &str,
    ids: &[&str],
    now: Timestamp,
) -> Result<Vec<Option<Status>>, Failure> {
    let keys: Vec<String> = ids.iter().map(|id| layout::run_index(id)).collect();
    let mut statuses = Vec::with_capacity(keys.len());
    for some in keys.chunks(records::MAX_PAGE) {
        for record in records::get_all(some)? {
            let index: Option<Index> = record.as_ref().map(Record::json).transpose()?;
            let index = index.filter(|index| index.instance == instance);
            let kept = index.map(|index| records::get(&index.key)).transpose()?.flatten();
            statuses.push(kept.map(|kept| Ok(kept.json::<Kept>()?.status(now))).transpose()?);
        }
    }
    Ok(statuses)
}

/// The newest runs of an instance, the newest first.
pub(crate) fn newest(instance: &str, most: usize) -> Result<Vec<Run>, Failure> {
    let now = Timestamp::now();
    let runs = records::scan(&layout::runs(instance)).take(most);
    runs.map(|record| Ok(record?.json::<Kept>()?.at(now))).collect()
}

/// The newest run of each of these instances, in the same order.
pub(crate) fn last(instances: &[&str]) -> Result<Vec<Option<Run>>, Failure> {
    let now = Timestamp::now();
    let keys: Vec<String> = instances.iter().map(|id| layout::last_run(id)).collect();
    let mut runs = Vec::with_capacity(keys.len());
    for some in keys.chunks(records::MAX_PAGE) {
        for record in records::get_all(some)? {
            let kept: Option<Kept> = record.map(|record| record.json()).transpose()?;
            runs.push(kept.map(|kept| kept.at(now)));
        }
    }
    Ok(runs)
}

/// The id of an instance's newest run, if it has one.
pub(crate) fn last_id(instance: &str) -> Result<Option<String>, Failure> {
    let last = records::get(&layout::last_run(instance))?;
    Ok(last.map(|record| record.json::<Kept>()).transpose()?.map(|kept| kept.run.id))
}

/// Adds to a commit that a run is written, in place of what was written of it before, under `previous` if that is known.
/// The commit must compare the record of the trace.
pub(crate) fn place(
    commit: Commit,
    mut kept: Kept,
    previous: Option<&str>,
) -> Result<Placed, Failure> {
    let (instance, trace) = (kept.run.instance.clone(), kept.trace.clone());
    let mut ids = vec![kept.run.id.clone(), trace.clone(), format!("{trace}.{instance}")];
    ids.extend(previous.map(str::to_owned));
    let keys: Vec<String> = ids.iter().map(|id| layout::run_index(id)).collect();
    let mut found = Vec::new();
    for (id, record) in ids.into_iter().zip(records::get_all(&keys)?) {
        let index: Option<Index> = record.as_ref().map(Record::json).transpose()?;
        found.push(Name { id, record, index });
    }
    let is_free = |name: &Name| name.is_of(&instance, &trace) || name.index.is_none();
    // The last of the three is nobody else's.
    if let Some(name) = found.iter().take(3).find(|name| is_free(name)) {
        kept.run.id.clone_from(&name.id);
    }
    let index = Index {
        key: layout::run(&instance, kept.run.start, &kept.run.id),
        instance: instance.clone(),
        trace: trace.clone(),
    };
    let before = found.iter().rev().filter(|name| name.is_of(&instance, &trace));
    let before = before.filter_map(|name| name.index.clone()).map(|index| index.key).next();
    let before = before.map(|key| records::get(&key)).transpose()?.flatten();

    let mut commit = commit;
    let mut done: Vec<&str> = Vec::new();
    for name in &found {
        if done.contains(&name.id.as_str()) || !is_free(name) {
            continue;
        }
        done.push(&name.id);
        let key = layout::run_index(&name.id);
        let is_wanted = name.id == kept.run.id || name.id == trace;
        if !is_wanted && name.index.is_none() {
            continue;
        }
        commit = name.compared(commit, &key);
        commit = match is_wanted {
            true if name.index.as_ref() == Some(&index) => commit,
            true => commit.put_json(&key, &index)?,
            false => commit.delete(&key),
        };
    }
    let value = keepgate_sdk::json::to_vec(&kept)?;
    if before.as_ref().is_none_or(|before| before.key != index.key || before.value != value) {
        commit = commit.put(&index.key, &value);
    }
    let old = before.as_ref().map(|before| before.key.as_str());
    if let Some(old) = old.filter(|old| *old != index.key) {
        commit = commit.delete(old);
    }
    commit = with_last(commit, &instance, Some((&index.key, &value)), old)?;
    let had_ended = match &before {
        Some(before) => before.json::<Kept>()?.run.status != Status::Running,
        None => false,
    };
    Ok(Placed { commit, run: kept.run, had_ended })
}

/// An id with what is known under it.
struct Name {
    id: String,
    record: Option<Record>,
    index: Option<Index>,
}

impl Name {
    fn is_of(&self, instance: &str, trace: &str) -> bool {
        self.index.as_ref().is_some_and(|index| index.instance == instance && index.trace == trace)
    }

    fn compared(&self, commit: Commit, key: &str) -> Commit {
        match &self.record {
            Some(record) => commit.unchanged(record),
            None => commit.absent(key),
        }
    }
}

/// Adds to a commit that a run is removed. The commit must compare what says that it can go.
pub(crate) fn remove(commit: Commit, instance: &str, id: &str) -> Result<Commit, Failure> {
    let Some(found) = records::get(&layout::run_index(id))? else { return Ok(commit) };
    let index: Index = found.json()?;
    let commit = commit.unchanged(&found).delete(&found.key).delete(&index.key);
    let commit = match id == index.trace {
        true => commit,
        false => match records::get(&layout::run_index(&index.trace))? {
            Some(alias) if alias.json::<Index>()? == index => {
                commit.unchanged(&alias).delete(&alias.key)
            }
            _ => commit,
        },
    };
    with_last(commit, instance, None, Some(&index.key))
}

/// Adds to a commit what the newest run of an instance is when the commit has written one run and removed another.
fn with_last(
    commit: Commit,
    instance: &str,
    written: Option<(&str, &[u8])>,
    gone: Option<&str>,
) -> Result<Commit, Failure> {
    let key = layout::last_run(instance);
    // What is compared is read first.
    let last = records::get(&key)?;
    let newest = records::scan(&layout::runs(instance)).page(2)?.records;
    let newest = newest.iter().find(|record| Some(record.key.as_str()) != gone);
    let newest = newest.map(|record| (record.key.as_str(), record.value.as_slice()));
    let newest = match (written, newest) {
        (Some(written), Some(newest)) if written.0 > newest.0 => Some(newest),
        (Some(written), _) => Some(written),
        (None, newest) => newest,
    };
    let commit = match &last {
        Some(last) => commit.unchanged(last),
        None => commit.absent(&key),
    };
    Ok(match newest {
        Some((_, value)) if last.as_ref().is_some_and(|last| last.value == value) => commit,
        Some((_, value)) => commit.put(&key, value),
        None => commit.delete(&key),
    })
}

/// Removes runs that began before this time, at most `most` of them, and returns whether there are more.
pub(crate) fn remove_older_than(time: Timestamp, most: usize) -> Result<bool, Failure> {
    let (mut removed, mut place) = (0, layout::RUNS.to_owned());
    loop {
        // The next instance that has runs.
        let next = records::scan(layout::RUNS).after(&place).page(1)?.records;
        let Some(next) = next.first() else { return Ok(false) };
        let rest = next.key.strip_prefix(layout::RUNS).unwrap_or_default();
        let instance = rest.split('/').next().unwrap_or_default();
        for record in records::scan(&layout::runs(instance)).descending() {
            let kept: Kept = record?.json()?;
            if kept.run.start >= time {
                break;
            }
            if removed >= most {
                return Ok(true);
            }
            removed += 1;
            match remove(Commit::new(), instance, &kept.run.id)?.run() {
                // It has changed just now; tomorrow it is looked at again.
                Ok(_) | Err(Failure::PreconditionFailed) => {}
                Err(failure) => return Err(failure),
            }
        }
        // `0` comes after `/`.
        place = format!("{}{instance}0", layout::RUNS);
    }
}
