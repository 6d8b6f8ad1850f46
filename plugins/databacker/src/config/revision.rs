//! Revisions of an instance's configuration: a record for each, and its document, sealed, in a blob.
//!
//! The blob is written first, under a name that nothing else has. The commit that writes the record also makes it the
//! instance's current one and forgets the oldest, so a crash before it leaves a blob that nothing refers to, and one after
//! it blobs that nothing refers to any more. [`sweep`] removes both.
//!
//! Digests are sealed too: a password can be guessed from the digest of a document that is otherwise known.

use std::time::Duration;

use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Body, Entry, Failure, Part, PutOptions, Store, Timestamp, environment};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::document::Kind;
use crate::admin::audit;
use crate::caller::Administrator;
use crate::instance::{Found, Instance};
use crate::layout;
use crate::schedule::{self, Schedule};
use crate::seal;
use crate::settings::Settings;

/// What is sealed, for messages.
const KEPT: &str = "configurations";
/// The most bytes of a document.
pub(super) const LONGEST: u64 = 1 << 20;
/// The most bytes of a sealed one.
const LONGEST_SEALED: u64 = LONGEST + 64;
/// How old a blob without a record must be before it is removed. Until then its record may be on its way.
const SETTLED: Duration = Duration::from_secs(86_400);

/// A revision as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    revision: u64,
    created: Timestamp,
    by: String,
    kind: Kind,
    /// Sealed, in hex.
    digest: String,
    /// The last part of its blob's key.
    blob: String,
    /// Kept beside the document, which may be encrypted for the instance alone.
    #[serde(default)]
    schedule: Option<Schedule>,
}

/// A revision.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// The instance's id.
    instance: String,
    row: Row,
    /// The SHA-256 of the document as it is served, in hex. `None` if it was sealed with a key that is lost.
    pub(super) digest: Option<String>,
}

/// A document that is to be the current one.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) kind: Kind,
    /// As it will be served.
    pub(super) bytes: &'a [u8],
    /// As in `config.put`.
    pub(super) action: &'a str,
    /// What the record of administrators' actions says of it, besides its number and kind.
    pub(super) detail: &'a str,
    /// When it lets the instance dump, if that is known.
    pub(super) schedule: Option<Schedule>,
}

impl Revision {
    /// The revision of this number.
    pub(crate) fn find(instance: &str, number: u64) -> Result<Option<Self>, Failure> {
        let record = records::get(&layout::config(instance, number))?;
        record.map(|record| Self::read(instance, &record)).transpose()
    }

    fn read(instance: &str, record: &Record) -> Result<Self, Failure> {
        let row: Row = record.json()?;
        let sealed = hex::decode(&row.digest)
            .map_err(|_| Failure::Internal(format!("the record {:?} is damaged", record.key)))?;
        let digest = seal::open(KEPT, &sealed, &context("digest", instance, row.revision))?;
        Ok(Self { instance: instance.to_owned(), row, digest: digest.map(hex::encode) })
    }

    pub(crate) fn number(&self) -> u64 {
        self.row.revision
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.row.created
    }

    /// Who wrote it.
    pub(crate) fn by(&self) -> &str {
        &self.row.by
    }

    pub(super) fn kind(&self) -> Kind {
        self.row.kind
    }

    pub(super) fn schedule(&self) -> Option<&Schedule> {
        self.row.schedule.as_ref()
    }

    /// What lists show.
    pub(super) fn shown(&self) -> Value {
        json!({
            "revision": self.row.revision,
            "created": self.row.created,
            "by": self.row.by,
            "digest": self.digest,
            "kind": self.row.kind,
        })
    }

    /// The document. `None` if the revision has been removed since it was found.
    pub(crate) fn document(&self) -> Result<Option<Vec<u8>>, Failure> {
        let key = layout::config_blob(&self.instance, &self.row.blob);
        let found = match Store::open(layout::STORE)?.get(&key, Part::Whole) {
            Ok(found) => found,
            Err(Failure::NotFound) => {
                return match Self::find(&self.instance, self.row.revision)? {
                    Some(still) if still.row.blob == self.row.blob => {
                        Err(Failure::Internal(format!("the blob {key:?} is missing")))
                    }
                    _ => Ok(None),
                };
            }
            Err(failure) => return Err(failure),
        };
        let sealed = found.data.bytes(LONGEST_SEALED)?;
        let opened =
            seal::open(KEPT, &sealed, &context("document", &self.instance, self.row.revision))?;
        opened.map(Some).ok_or_else(lost_key)
    }
}

/// The revisions of an instance, the newest first, before this number.
pub(crate) fn before(
    instance: &str,
    number: Option<u64>,
) -> impl Iterator<Item = Result<Revision, Failure>> {
    let scan = records::scan(&layout::configs(instance)).descending();
    let scan = match number {
        Some(number) => scan.after(&layout::config(instance, number)),
        None => scan,
    };
    scan.map(move |record| Revision::read(instance, &record?))
}

/// The current revision of an instance.
pub(super) fn current(instance: &Instance) -> Result<Option<Revision>, Failure> {
    match instance.revision {
        0 => Ok(None),
        number => Revision::find(&instance.id, number),
    }
}

/// The current revision of an instance with its document.
pub(super) fn current_document(
    instance: &Instance,
) -> Result<Option<(Revision, Vec<u8>)>, Failure> {
    let mut instance = instance.clone();
    // With few revisions kept, the current one may be replaced and removed while it is read.
    for _ in 0..8 {
        if instance.revision == 0 {
            return Ok(None);
        }
        if let Some(revision) = current(&instance)?
            && let Some(document) = revision.document()?
        {
            return Ok(Some((revision, document)));
        }
        match Instance::find(&instance.id)? {
            Some(found) if found.instance.revision != instance.revision => {
                instance = found.instance;
            }
            Some(_) => break,
            None => return Ok(None),
        }
    }
    Err(Failure::Unavailable("the configuration is being replaced".to_owned()))
}

/// Makes a document the current one of an instance. `None` if the instance is not as it was read any more.
pub(super) fn write(
    found: &Found,
    new: &New<'_>,
    by: &Administrator,
    settings: &Settings,
) -> Result<Option<Revision>, Failure> {
    let mut instance = found.instance.clone();
    instance.revision += 1;
    let (id, number) = (instance.id.clone(), instance.revision);
    let digest = Sha256::digest(new.bytes);
    let sealed = seal(new.bytes, &context("document", &id, number))?;
    let row = Row {
        revision: number,
        created: Timestamp::now(),
        by: by.name.clone(),
        kind: new.kind,
        digest: hex::encode(seal(&digest, &context("digest", &id, number))?),
        blob: format!("{number}-{}", hex::encode(environment::random(8))),
        schedule: new.schedule.clone(),
    };
    let kept = usize::try_from(settings.revisions()).unwrap_or(usize::MAX);
    let old = rows(&id, kept.saturating_sub(1))?;

    let detail = format!("revision {number}, {}{}", row.kind.name(), new.detail);
    let mut commit = found.replace(&instance)?.put_json(&layout::config(&id, number), &row)?;
    for (key, _) in &old {
        commit = commit.delete(key);
    }
    let commit = schedule::expect(commit, &id, new.schedule.as_ref())?;
    let commit = audit::note(commit, by, new.action, &id, &detail)?;

    let store = Store::open(layout::STORE)?;
    let key = layout::config_blob(&id, &row.blob);
    store.put(&key, Body::from_bytes(&sealed), &PutOptions::absent())?;
    let made = commit.run();
    // After any other failure the commit may have been made.
    let has_failed = matches!(
        made,
        Err(Failure::PreconditionFailed | Failure::NoSpace | Failure::QuotaExceeded(_))
    );
    if has_failed {
        discard([key]);
    }
    match made {
        Ok(_) => {}
        Err(Failure::PreconditionFailed) => return Ok(None),
        Err(failure) => return Err(failure),
    }
    schedule::begin();
    discard(old.into_iter().map(|(_, blob)| blob));
    Ok(Some(Revision { instance: id, row, digest: Some(hex::encode(digest)) }))
}

/// Adds the removal of all revisions of an instance to the commit that removes the instance. Returns the blobs to
/// [`discard`] when it has been made.
pub(crate) fn removal(
    instance: &str,
    mut commit: Commit,
) -> Result<(Commit, Vec<String>), Failure> {
    let rows = rows(instance, 0)?;
    for (key, _) in &rows {
        commit = commit.delete(key);
    }
    Ok((commit, rows.into_iter().map(|(_, blob)| blob).collect()))
}

/// The keys of the records and of the blobs of all revisions but the newest ones.
fn rows(instance: &str, newest: usize) -> Result<Vec<(String, String)>, Failure> {
    let scan = records::scan(&layout::configs(instance)).descending().skip(newest);
    scan.map(|record| {
        let record = record?;
        let row: Row = record.json()?;
        Ok((record.key, layout::config_blob(instance, &row.blob)))
    })
    .collect()
}

/// Removes blobs that nothing refers to any more. What stays is removed by [`sweep`].
pub(crate) fn discard(blobs: impl IntoIterator<Item = String>) {
    for key in blobs {
        let deleted = Store::open(layout::STORE).and_then(|store| store.delete(&key));
        if let Err(failure) = deleted {
            let reason = failure.message();
            environment::warn(
                "a sealed configuration that is not needed any more could not be removed",
                &[("key", &key), ("reason", &reason)],
            );
        }
    }
}

/// Removes sealed documents that no revision refers to, and returns how many. It is safe at any time, and to be done now
/// and then.
pub(crate) fn sweep() -> Result<u64, Failure> {
    let store = Store::open(layout::STORE)?;
    let (mut removed, mut some) = (0, Vec::new());
    for entry in store.entries(layout::CONFIG_BLOBS, true)? {
        let entry = entry?;
        if Timestamp::now().since(Timestamp(entry.modified)) >= SETTLED {
            some.push(entry);
        }
        if some.len() == records::MAX_PAGE {
            removed += sweep_some(&store, &std::mem::take(&mut some))?;
        }
    }
    Ok(removed + sweep_some(&store, &some)?)
}

fn sweep_some(store: &Store, entries: &[Entry]) -> Result<u64, Failure> {
    let keys: Vec<String> = entries.iter().map(record_of).collect();
    let mut removed = 0;
    for (entry, record) in entries.iter().zip(records::get_all(&keys)?) {
        let is_kept = match record {
            Some(record) => record.json::<Row>()?.blob == entry.name(),
            None => false,
        };
        if !is_kept {
            removed += u64::from(store.delete(&entry.key)?.is_some());
        }
    }
    Ok(removed)
}

/// The key of the record that a blob would belong to. There is none of revision 0.
fn record_of(entry: &Entry) -> String {
    let instance = entry.key.rsplit('/').nth(1).unwrap_or_default();
    let number = entry.name().split_once('-').and_then(|(number, _)| number.parse().ok());
    layout::config(instance, number.unwrap_or(0))
}

fn context(what: &str, instance: &str, revision: u64) -> Vec<u8> {
    format!("databacker configuration {what} {instance} {revision}").into_bytes()
}

fn seal(plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Failure> {
    seal::seal(KEPT, plaintext, context).map_err(|failure| match failure {
        Failure::TooLarge(_) => too_long(),
        other => other,
    })
}

pub(super) fn too_long() -> Failure {
    Failure::refused(413, "", "the configuration has more than 1 MiB")
}

fn lost_key() -> Failure {
    seal::unavailable(
        "the configuration was sealed with a key that the mount does not have any more, or is damaged: the operator adds the \
         key's file to the keys of the mount's secrets.seal, whose name must be the same; otherwise write it again",
    )
}
