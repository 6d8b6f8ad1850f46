//! What is known of files, in records: which are complete, who may read them, and which are about to be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepgate_sdk::records::{self, Commit, MAX_OPERATIONS, MAX_PAGE, Record};
use keepgate_sdk::{Failure, Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hash::{EMPTY, Hash};
use crate::manifest::File;
use crate::partial::Progress;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::user::User;
use crate::{layout, partial};

/// That somebody wants a file is not written more often than this.
const OFTEN: Duration = Duration::from_secs(3600);

/// What the record of a right says: that the user has uploaded the file once, or named it in a manifest.
const UPLOADED: &[u8] = b"";
const NAMED: &[u8] = b"named";

/// A complete file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Complete {
    /// The blob with its bytes.
    pub(crate) key: String,
    pub(crate) size: u64,
    /// The XXH3 of its bytes, with which a download is verified faster than with its hash. Files that came in parts have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xxh3: Option<String>,
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

/// A complete file of the pool, and what a user may do with it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: Complete,
    pub(crate) record: Record,
    /// Whether the user may read it without looking at manifests: the user has uploaded it once, or, unless sharing is
    /// strict, has named it in a manifest.
    pub(crate) has_right: bool,
}

/// A complete file of the pool; `None` if there is none, or if it is about to be removed.
pub(crate) fn find(user: &User, hash: &Hash, strict: bool) -> Result<Option<Found>, Failure> {
    let keys = [layout::file(hash), layout::doomed(hash), layout::right(user, hash)];
    let mut found = records::get_all(&keys)?.into_iter();
    let mut next = || found.next().flatten();
    let (record, doomed, right) = (next(), next(), next());
    let Some(record) = record.filter(|_| doomed.is_none()) else { return Ok(None) };
    let has_right = right.is_some_and(|right| counts(&right, strict));
    Ok(Some(Found { file: record.json()?, record, has_right }))
}

/// The blob that has the bytes of a file of the pool, also if it is about to be removed.
pub(crate) fn key(hash: &Hash) -> Result<Option<String>, Failure> {
    let found = records::get(&layout::file(hash))?;
    found.map(|record| Ok(record.json::<Complete>()?.key)).transpose()
}

/// Puts a file into the pool whose bytes are in its blob and were found right. False if somebody else was faster.
pub(crate) fn complete(user: &User, hash: &Hash, file: &Complete) -> Result<bool, Failure> {
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
            .put_json(&name, file)?
            .put(&layout::right(user, hash), UPLOADED)
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
                return if store.heads(std::slice::from_ref(&file.key))?.iter().all(Option::is_some)
                {
                    Ok(true)
                } else {
                    // Another upload of the same user was wrong and has taken these bytes with it.
                    if let Some(record) = records::get(&name)? {
                        remove_damaged(&store, hash, file, &record)?;
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

/// Takes a file out of the pool whose bytes are not what they must be, and removes them, if it is still the same.
pub(crate) fn remove_damaged(
    store: &Store,
    hash: &Hash,
    file: &Complete,
    record: &Record,
) -> Result<(), Failure> {
    match Commit::new().unchanged(record).delete(&layout::file(hash)).run() {
        // Somebody has changed it meanwhile; whether its bytes are right is found out next time.
        Err(Failure::PreconditionFailed) => Ok(()),
        made => {
            made?;
            store.delete(&file.key).map(|_| ())
        }
    }
}

/// Notes that somebody wanted to upload a file again, so that the sweep leaves it for as long as a new one.
pub(crate) fn note_wanted(hash: &Hash, file: &Complete, record: &Record) -> Result<(), Failure> {
    let now = Timestamp::now();
    if now.since(file.at) < OFTEN {
        return Ok(());
    }
    let file = Complete { at: now, ..file.clone() };
    let commit = Commit::new().unchanged(record).absent(&layout::doomed(hash));
    match commit.put_json(&layout::file(hash), &file)?.run() {
        // Somebody else has just noted it, or the sweep has begun to remove it.
        Err(Failure::PreconditionFailed) => Ok(()),
        made => made.map(|_| ()),
    }
}

fn counts(right: &Record, strict: bool) -> bool {
    !strict || right.value == UPLOADED
}

/// Lets a user read a file who has uploaded it.
pub(crate) fn give_right(user: &User, hash: &Hash) -> Result<(), Failure> {
    write_right(user, hash, UPLOADED)
}

/// Lets a user read a file who has named it.
pub(crate) fn note_named(user: &User, hash: &Hash) -> Result<(), Failure> {
    write_right(user, hash, NAMED)
}

fn write_right(user: &User, hash: &Hash, value: &[u8]) -> Result<(), Failure> {
    let key = layout::right(user, hash);
    match records::get(&key)? {
        Some(there) if there.value == UPLOADED || there.value == value => Ok(()),
        _ => Commit::new().put(&key, value).run().map(|_| ()),
    }
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
                let has_right = right.is_some_and(|right| counts(&right, self.strict));
                let counts = has_right || !self.strict;
                let file = file.filter(|_| counts && !self.doomed.contains(&layout::doomed(hash)));
                let file = file.map(|record| record.json::<Complete>()).transpose()?;
                all.push(file.map(|file| There { size: file.size, has_right }));
            }
        }
        Ok(all)
    }
}

/// What a user can have of each of these files, in their order. The user's manifest names them, so the user may read
/// those that are there, unless sharing is strict. Fails as [`check`] does.
pub(crate) fn availability(
    user: &User,
    files: &[File<'_>],
    settings: &Settings,
) -> Result<Vec<Available>, Problem> {
    let known = known(user, files, settings)?;
    let new_rights = known.iter().filter(|(_, there)| !there.has_right);
    let new_rights: Vec<String> = new_rights.map(|(hash, _)| layout::right(user, hash)).collect();
    for some in new_rights.chunks(MAX_OPERATIONS) {
        some.iter().fold(Commit::new(), |commit, right| commit.put(right, NAMED)).run()?;
    }
    let (begun, store) = (partial::all(user)?, Store::open("main")?);
    let of = |file: &File<'_>| {
        if is_there(&known, file)? {
            return Ok(Available::Yes);
        }
        match begun.get(&file.hash) {
            // All of it may be there, if whoever sent the last bytes left before it was completed.
            Some(total) if *total == file.size => {
                match partial::advance(&store, user, &file.hash, file.size) {
                    Ok(Progress::Complete) => Ok(Available::Yes),
                    Ok(Progress::Ranges(ranges)) => Ok(Available::Ranges(ranges)),
                    // What was there had another hash, and is gone.
                    Err(Problem::Refusal(_)) => Ok(Available::Ranges(Vec::new())),
                    Err(failure) => Err(failure),
                }
            }
            // What has come was said to be of another length, so it is not of this file.
            _ => Ok(Available::Ranges(Vec::new())),
        }
    };
    files.iter().map(of).collect()
}

/// Fails with `size_conflict` if one of these files is there with another size. It gives nobody a right.
pub(crate) fn check(user: &User, files: &[File<'_>], settings: &Settings) -> Result<(), Problem> {
    let known = known(user, files, settings)?;
    files.iter().try_for_each(|file| is_there(&known, file).map(|_| ()))
}

/// Those of these files that are available to a user.
fn known(
    user: &User,
    files: &[File<'_>],
    settings: &Settings,
) -> Result<BTreeMap<Hash, There>, Failure> {
    let hashes: BTreeSet<Hash> = files.iter().map(|file| file.hash).collect();
    let hashes: Vec<Hash> = hashes.into_iter().collect();
    let found = View::new(user, settings)?.find(&hashes)?;
    let there = hashes.into_iter().zip(found);
    Ok(there.filter_map(|(hash, there)| there.map(|there| (hash, there))).collect())
}

fn is_there(known: &BTreeMap<Hash, There>, file: &File<'_>) -> Result<bool, Problem> {
    match known.get(&file.hash).map(|there| there.size) {
        _ if file.hash == EMPTY => Ok(true),
        None => Ok(false),
        Some(size) if size == file.size => Ok(true),
        Some(size) => {
            let why = format!("{:?}: the file with this hash has {size} bytes", file.path);
            let problem = Problem::new(422, "size_conflict", why).with("size", size);
            Err(problem.with("path", &*file.path))
        }
    }
}
