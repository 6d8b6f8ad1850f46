//! What is known of files, in records: which are complete, who may read them, and which are about to be removed.

use std::collections::{BTreeMap, BTreeSet};

use keepgate_sdk::records::{self, Commit, MAX_OPERATIONS, MAX_PAGE};
use keepgate_sdk::{Failure, Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hash::{EMPTY, Hash};
use crate::manifest::File;
use crate::partial::Progress;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::user::User;
use crate::{layout, partial};

/// A complete file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Complete {
    /// The blob with its bytes.
    pub(crate) key: String,
    pub(crate) size: u64,
    /// When it was completed, or somebody wanted to upload it again.
    pub(crate) at: Timestamp,
}

/// What a user can have of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Available {
    Yes,
    /// First and last byte of what the user has uploaded of it.
    Ranges(Vec<(u64, u64)>),
}

impl Available {
    /// As members of an entry.
    pub(crate) fn members(&self) -> String {
        match self {
            Self::Yes => "\"is_available\": true".to_owned(),
            Self::Ranges(ranges) => {
                let ranges: Vec<String> =
                    ranges.iter().map(|(first, last)| format!("[{first}, {last}]")).collect();
                format!("\"is_available\": false, \"available_bytes\": [{}]", ranges.join(", "))
            }
        }
    }
}

/// A complete file of the pool, with its record; `None` if there is none, or if it is about to be removed.
pub(crate) fn find(hash: &Hash) -> Result<Option<(Complete, records::Record)>, Failure> {
    let mut found = records::get_all(&[layout::file(hash), layout::doomed(hash)])?.into_iter();
    match (found.next().flatten(), found.next().flatten()) {
        (Some(record), None) => Ok(Some((record.json()?, record))),
        _ => Ok(None),
    }
}

/// The blob that has the bytes of a file of the pool, also if it is about to be removed.
pub(crate) fn key(hash: &Hash) -> Result<Option<String>, Failure> {
    let found = records::get(&layout::file(hash))?;
    found.map(|record| Ok(record.json::<Complete>()?.key)).transpose()
}

/// Puts a file into the pool whose bytes are in this blob and were found right. False if somebody else was faster.
pub(crate) fn complete(user: &User, hash: &Hash, key: &str, size: u64) -> Result<bool, Failure> {
    let file = Complete { key: key.to_owned(), size, at: Timestamp::now() };
    let name = layout::file(hash);
    // Again if another request or the sweep has changed the file meanwhile.
    for _ in 0..3 {
        let mut found = records::get_all(&[name.clone(), layout::doomed(hash)])?.into_iter();
        let (there, doomed) = (found.next().flatten(), found.next().flatten());
        let commit = match (&there, &doomed) {
            (Some(_), None) => return Ok(false),
            (None, _) => Commit::new().absent(&name),
            (Some(there), Some(doomed)) => Commit::new().unchanged(there).unchanged(doomed),
        };
        let commit = commit
            .put_json(&name, &file)?
            .put(&layout::right(user, hash), b"")
            .delete(&layout::doomed(hash))
            .delete(&layout::begun(user, hash));
        match commit.run() {
            Err(Failure::PreconditionFailed) => {}
            made => {
                made?;
                let store = Store::open("main")?;
                if let Some(there) = there {
                    // Its bytes were about to be removed.
                    let old: Complete = there.json()?;
                    store.delete(&old.key)?;
                }
                return if store.heads(&[key.to_owned()])?.iter().all(Option::is_some) {
                    Ok(true)
                } else {
                    // Another upload of the same user was wrong and has taken these bytes with it.
                    if let Some(record) = records::get(&name)? {
                        is_corrupt(hash, &record)?;
                    }
                    let why = "another upload of this file was wrong; send it again";
                    Err(Failure::refused(409, "conflict", why))
                };
            }
        }
    }
    // Not `false`: nobody is known to have the bytes, so these must stay.
    Err(Failure::refused(
        409,
        "conflict",
        "others are uploading or removing this file; send it again",
    ))
}

/// Takes a file out of the pool whose bytes are not what they must be, if it is still the same.
pub(crate) fn is_corrupt(hash: &Hash, record: &records::Record) -> Result<(), Failure> {
    let commit = Commit::new().unchanged(record).delete(&layout::file(hash));
    match commit.run() {
        Err(Failure::PreconditionFailed) => Ok(()),
        made => made.map(|_| ()),
    }
}

/// Whether a user may read a file without looking at manifests.
pub(crate) fn has_right(user: &User, hash: &Hash) -> Result<bool, Failure> {
    Ok(records::get(&layout::right(user, hash))?.is_some())
}

/// Lets a user read a file.
pub(crate) fn give_right(user: &User, hash: &Hash) -> Result<(), Failure> {
    if has_right(user, hash)? {
        return Ok(());
    }
    Commit::new().put(&layout::right(user, hash), b"").run().map(|_| ())
}

/// What the pool is to a user: looks up many files at once.
#[derive(Debug)]
pub(crate) struct View<'a> {
    user: &'a User,
    /// Whether only what the user has uploaded once counts.
    strict: bool,
    /// The records of files that are about to be removed.
    doomed: BTreeSet<String>,
}

/// A file of the pool that is available to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct There {
    pub(crate) size: u64,
    /// Whether the user may read it without looking at manifests.
    has_right: bool,
}

impl<'a> View<'a> {
    pub(crate) fn new(user: &'a User, settings: &Settings) -> Result<Self, Failure> {
        let doomed = records::scan("d/").map(|record| Ok(record?.key));
        let doomed = doomed.collect::<Result<_, Failure>>()?;
        Ok(Self { user, strict: settings.strict_sharing, doomed })
    }

    /// Those of these files that are available, in their order; `None` for the others.
    pub(crate) fn find(&self, hashes: &[Hash]) -> Result<Vec<Option<There>>, Failure> {
        let mut all = Vec::with_capacity(hashes.len());
        for some in hashes.chunks(MAX_PAGE) {
            let files = records::get_all(&some.iter().map(layout::file).collect::<Vec<_>>())?;
            let rights = some.iter().map(|hash| layout::right(self.user, hash));
            let rights = records::get_all(&rights.collect::<Vec<_>>())?;
            for ((hash, file), right) in some.iter().zip(files).zip(rights) {
                let has_right = right.is_some();
                let counts = has_right || !self.strict;
                let file = file.filter(|_| counts && !self.doomed.contains(&layout::doomed(hash)));
                let file = file.map(|record| record.json::<Complete>()).transpose()?;
                all.push(file.map(|file| There { size: file.size, has_right }));
            }
        }
        Ok(all)
    }
}

/// What a user can have of each of these files, in their order. Whoever names a file that is there may read it, unless
/// sharing is strict. Fails with `size_conflict` for a file that has another size.
pub(crate) fn availability(
    user: &User,
    files: &[File<'_>],
    settings: &Settings,
) -> Result<Vec<Available>, Problem> {
    let hashes: BTreeSet<Hash> = files.iter().map(|file| file.hash).collect();
    let hashes: Vec<Hash> = hashes.into_iter().collect();
    let found = View::new(user, settings)?.find(&hashes)?;
    let begun = begun(user)?;
    let known: BTreeMap<Hash, There> = hashes
        .into_iter()
        .zip(found)
        .filter_map(|(hash, there)| there.map(|there| (hash, there)))
        .collect();
    let new_rights = known.iter().filter(|(_, there)| !there.has_right);
    let new_rights: Vec<String> = new_rights.map(|(hash, _)| layout::right(user, hash)).collect();
    for some in new_rights.chunks(MAX_OPERATIONS) {
        some.iter().fold(Commit::new(), |commit, right| commit.put(right, b"")).run()?;
    }
    let store = Store::open("main")?;
    let mut available = Vec::with_capacity(files.len());
    for file in files {
        available.push(match known.get(&file.hash).map(|there| there.size) {
            _ if file.hash == EMPTY => Available::Yes,
            Some(size) if size == file.size => Available::Yes,
            Some(size) => {
                let why = format!("{:?}: the file with this hash has {size} bytes", file.path);
                let problem = Problem::new(422, "size_conflict", why).with("size", size);
                return Err(problem.with("path", &*file.path));
            }
            // All of it may be there, if whoever sent the last bytes left before it was completed.
            None if begun.contains(&file.hash) => {
                match partial::advance(&store, user, &file.hash, file.size) {
                    Ok(Progress::Complete) => Available::Yes,
                    Ok(Progress::Ranges(ranges)) => Available::Ranges(ranges),
                    // What was there had another hash, and is gone.
                    Err(Problem::Refusal(_)) => Available::Ranges(Vec::new()),
                    Err(failure) => return Err(failure),
                }
            }
            None => Available::Ranges(Vec::new()),
        });
    }
    Ok(available)
}

/// The files of which a user has uploaded parts.
fn begun(user: &User) -> Result<BTreeSet<Hash>, Failure> {
    let prefix = format!("p/{}/", user.as_str());
    let hash = |record: Result<records::Record, Failure>| {
        Ok(record?.key.strip_prefix(&prefix).and_then(Hash::parse))
    };
    records::scan(&prefix).map(hash).filter_map(Result::transpose).collect()
}
