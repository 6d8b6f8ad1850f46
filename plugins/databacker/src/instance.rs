//! Instances: what is registered, who it belongs to, and when it was last seen. An instance and the index of its keys
//! change in one commit, so that a key leads to one instance or to none.

use std::collections::BTreeMap;
use std::time::Duration;

use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Timestamp, environment};
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::{layout, retain, schedule};

/// How old the time of the last sight may get before it is written again. Each write is an fsync.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// A UUID, in lower case.
    pub(crate) id: String,
    /// Empty if it belongs to no account.
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) created: Timestamp,
    pub(crate) keys: Vec<Key>,
    /// Its X25519 key, in base64, as its client writes it.
    pub(crate) encryption_public_key: Option<String>,
    /// The current revision of its configuration; 0 if it has none.
    #[serde(default)]
    pub(crate) revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Active,
    Disabled,
    /// Nobody comes with its keys any more; its runs and logs can still be looked at.
    #[serde(skip_deserializing)]
    Removed,
}

/// An instance with the record it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) instance: Instance,
    pub(crate) record: Record,
}

/// When an instance and its keys were last seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Activity {
    pub(crate) seen: Option<Timestamp>,
    /// By the id of the key.
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, Timestamp>,
}

impl Instance {
    /// The instance with this id, if there is one.
    pub(crate) fn find(id: &str) -> Result<Option<Found>, Failure> {
        if !is_uuid(id) {
            return Ok(None);
        }
        records::get(&layout::instance(id))?.map(Found::read).transpose()
    }

    /// The instance that has the key with this fingerprint.
    pub(crate) fn by_key(fingerprint: &str) -> Result<Option<Found>, Failure> {
        match records::get(&layout::key(fingerprint))? {
            Some(record) => Self::find(&String::from_utf8_lossy(&record.value)),
            None => Ok(None),
        }
    }

    /// The instance that had this id until it was removed, without what was removed with it.
    pub(crate) fn find_removed(id: &str) -> Result<Option<Self>, Failure> {
        if !is_uuid(id) {
            return Ok(None);
        }
        let Some(record) = records::get(&layout::removed_instance(id))? else { return Ok(None) };
        let instance: Self = record.json()?;
        Ok(Some(Self { state: State::Removed, ..instance }))
    }

    /// As it is kept once it is removed.
    pub(crate) fn without_credentials(self) -> Self {
        Self {
            state: State::Disabled,
            keys: Vec::new(),
            encryption_public_key: None,
            revision: 0,
            ..self
        }
    }

    /// The key with this id.
    pub(crate) fn key(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// Remembers that the instance was there. That is not worth failing for.
    pub(crate) fn seen(&self, kid: Option<&str>) {
        if let Err(failure) = self.note(kid) {
            environment::warn(
                "the time at which an instance was seen could not be written",
                &[("instance", &self.id), ("reason", &failure.message())],
            );
        }
    }

    fn note(&self, kid: Option<&str>) -> Result<(), Failure> {
        let key = layout::activity(&self.id);
        let found = records::get(&key)?;
        let mut activity: Activity = match &found {
            Some(record) => record.json()?,
            None => Activity::default(),
        };
        let now = Timestamp::now();
        let is_fresh =
            |seen: Option<&Timestamp>| seen.is_some_and(|seen| now.since(*seen) < SEEN_EVERY);
        if is_fresh(activity.seen.as_ref())
            && kid.is_none_or(|kid| is_fresh(activity.keys.get(kid)))
        {
            return Ok(());
        }
        // Jobs that run by themselves and were cancelled, or never begun, come back this way. Often enough, and seldom enough
        // for it to cost nothing.
        if activity.seen.is_none_or(|seen| day(seen) != day(now)) {
            retain::begin();
            schedule::go_on();
        }
        activity.seen = Some(now);
        activity.keys.retain(|kid, _| self.key(kid).is_some());
        if let Some(kid) = kid {
            activity.keys.insert(kid.to_owned(), now);
        }
        let commit = Commit::new().put_json(&key, &activity)?;
        let commit = match &found {
            Some(record) => commit.unchanged(record),
            None => commit.absent(&key),
        };
        match commit.run() {
            // Another request was faster.
            Err(Failure::PreconditionFailed) | Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// The number of a day.
fn day(time: Timestamp) -> u64 {
    time.as_secs() / 86_400
}

impl Found {
    fn read(record: Record) -> Result<Self, Failure> {
        Ok(Self { instance: record.json()?, record })
    }

    /// A commit that replaces the instance, if it is as it was read.
    pub(crate) fn replace(&self, instance: &Instance) -> Result<Commit, Failure> {
        Commit::new().unchanged(&self.record).put_json(&self.record.key, instance)
    }
}

/// All instances, by their ids, after this one.
pub(crate) fn all(after: &str) -> impl Iterator<Item = Result<Instance, Failure>> {
    let scan = records::scan(layout::INSTANCES);
    let scan = if after.is_empty() { scan } else { scan.after(&layout::instance(after)) };
    scan.map(|record| record?.json())
}

/// When these instances were last seen, in the same order.
pub(crate) fn activities(ids: &[&str]) -> Result<Vec<Activity>, Failure> {
    let keys: Vec<String> = ids.iter().map(|id| layout::activity(id)).collect();
    let mut activities = Vec::with_capacity(keys.len());
    for some in keys.chunks(records::MAX_PAGE) {
        for record in records::get_all(some)? {
            activities.push(record.map_or(Ok(Activity::default()), |record| record.json())?);
        }
    }
    Ok(activities)
}

/// A new random id.
pub(crate) fn uuid() -> String {
    let mut bytes = environment::random(16);
    for (index, byte) in bytes.iter_mut().enumerate() {
        match index {
            // Version 4 and variant 1 (RFC 9562, section 5.4).
            6 => *byte = *byte & 0x0f | 0x40,
            8 => *byte = *byte & 0x3f | 0x80,
            _ => {}
        }
    }
    let hex = hex::encode(bytes);
    let mut parts = Vec::new();
    let mut rest = hex.as_str();
    for length in [8, 4, 4, 4] {
        let (part, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts.join("-")
}

/// Whether this is a UUID in lower case.
pub(crate) fn is_uuid(text: &str) -> bool {
    let is_right = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let _host = keepgate_sdk::testing::Host::new();
        let id = uuid();
        assert!(is_uuid(&id), "{id}");
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, uuid());
        for wrong in ["", "x", "../../../../../../../../../../../../", &id.to_uppercase()] {
            assert!(!is_uuid(wrong) || wrong == id, "{wrong}");
        }
    }
}
