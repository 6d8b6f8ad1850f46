//! What is remembered about finished jobs without reading them from disk: which exist, which may be
//! removed, and the newest success of each key.
//!
//! **The newest success of a mount, kind and key is kept whatever the limits say**, because alerts
//! look at it, and because it is the proof that a backup was ever made. Keys come from plugins, so
//! this has a limit too: the [`MAX_KEYS`] keys of a mount that succeeded most recently.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::Options;
use crate::clock::between;
use crate::job::{Filter, Job, State};

/// The most keys of a mount whose newest success is kept and shown in metrics.
const MAX_KEYS: usize = 1000;

/// Mount, kind and key.
pub(crate) type Key = (String, String, String);

pub(crate) fn key_of(job: &Job) -> Key {
    (job.mount.clone(), job.kind.clone(), job.key.clone())
}

#[derive(Clone, Debug)]
struct Ended {
    mount: String,
    kind: String,
    state: State,
    ended: SystemTime,
}

/// The newest success of a key.
#[derive(Clone, Debug)]
pub(crate) struct Success {
    id: String,
    pub(crate) ended: SystemTime,
    /// Duration of the attempt that succeeded.
    pub(crate) took: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Finished jobs by id.
    ended: BTreeMap<String, Ended>,
    newest: BTreeMap<Key, Success>,
    /// Whether too many keys have been logged.
    warned: bool,
}

impl History {
    /// Adds a finished job.
    pub(crate) fn add(&mut self, job: &Job) {
        let at = job.ended.unwrap_or(job.created);
        let (mount, kind) = (job.mount.clone(), job.kind.clone());
        let ended = Ended { mount, kind, state: job.state, ended: at };
        self.ended.insert(job.id.clone(), ended);
        if job.state != State::Succeeded {
            return;
        }
        let key = key_of(job);
        if self.newest.get(&key).is_some_and(|success| success.ended > at) {
            return;
        }
        let took = job.started.map(|started| between(started, at)).unwrap_or_default();
        self.newest.insert(key, Success { id: job.id.clone(), ended: at, took });
        self.limit_keys(&job.mount);
    }

    fn limit_keys(&mut self, mount: &str) {
        let of_mount = || self.newest.iter().filter(|(key, _)| key.0 == mount);
        if of_mount().count() <= MAX_KEYS {
            return;
        }
        let oldest =
            of_mount().min_by_key(|(_, success)| success.ended).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.newest.remove(&oldest);
        }
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                mount,
                keys = MAX_KEYS,
                "too many keys of jobs; the oldest successes are no longer kept, nor in the metrics"
            );
        }
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.ended.remove(id);
    }

    pub(crate) fn newest(&self) -> &BTreeMap<Key, Success> {
        &self.newest
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.ended.contains_key(id)
    }

    /// Mounts and kinds of all finished jobs, with repetitions.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ended.values().map(|ended| (ended.mount.as_str(), ended.kind.as_str()))
    }

    /// Ids of the jobs that match a filter, newest first.
    pub(crate) fn ids<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a String> {
        let newest_first = self.ended.iter().rev();
        newest_first
            .filter(|(_, ended)| filter.matches(&ended.mount, &ended.kind, ended.state))
            .map(|(id, _)| id)
    }

    /// Ids of the jobs that are no longer kept.
    pub(crate) fn expired(&self, options: &Options, now: SystemTime) -> Vec<String> {
        let mut newer: HashMap<(&str, &str), usize> = HashMap::new();
        let mut expired = Vec::new();
        let kept: HashSet<&str> = self.newest.values().map(|newest| newest.id.as_str()).collect();
        for (id, ended) in self.ended.iter().rev() {
            let newer = newer.entry((&ended.mount, &ended.kind)).or_default();
            *newer += 1;
            let is_over = *newer > options.keep || between(ended.ended, now) > options.keep_for;
            if is_over && !kept.contains(id.as_str()) {
                expired.push(id.clone());
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::job::{NewJob, Record, WhenBusy};

    fn ended(number: u64, key: &str, state: State) -> Job {
        let new = NewJob {
            mount: "/".to_owned(),
            kind: "backup".to_owned(),
            key: key.to_owned(),
            origin: "test".to_owned(),
            schedule: None,
            user: None,
            input: Vec::new(),
            attempts: 1,
            backoff: Duration::ZERO,
            not_before: None,
            finally: None,
            when_busy: WhenBusy::Queue,
        };
        let at = UNIX_EPOCH + Duration::from_secs(number);
        let mut record = Record::new(format!("{number:026}"), new, at);
        record.job.started = Some(at);
        record.end(state, String::new(), at + Duration::from_secs(1));
        record.job
    }

    #[test]
    fn the_newest_success_of_a_key_outlives_every_limit() {
        let mut history = History::default();
        history.add(&ended(1, "a", State::Succeeded));
        history.add(&ended(2, "b", State::Succeeded));
        history.add(&ended(3, "b", State::Succeeded));
        (4..10).for_each(|number| history.add(&ended(number, "a", State::Failed)));
        let options = Options { keep: 3, keep_for: Duration::from_secs(100), at_once: 1 };
        let numbers = |now| -> Vec<u64> {
            let expired = history.expired(&options, UNIX_EPOCH + Duration::from_secs(now));
            expired.iter().map(|id| id.parse().unwrap()).collect()
        };
        assert_eq!(numbers(10), [6, 5, 4, 2]);
        assert_eq!(numbers(1000), [9, 8, 7, 6, 5, 4, 2]);
    }

    #[test]
    fn the_number_of_keys_is_limited() {
        let mut history = History::default();
        for number in 0..1500 {
            history.add(&ended(number, &format!("key {number}"), State::Succeeded));
        }
        assert_eq!(history.newest().len(), MAX_KEYS);
        assert!(history.newest().contains_key(&key_of(&ended(0, "key 1499", State::Queued))));
        let options = Options { keep: 0, keep_for: Duration::ZERO, at_once: 1 };
        let now = UNIX_EPOCH + Duration::from_secs(5000);
        assert_eq!(history.expired(&options, now).len(), 500);
    }
}
