//! What has come of files that are not complete. It is its uploader's alone until all of it is there and has its hash:
//! otherwise one user could spoil another's upload.

use std::collections::BTreeMap;
use std::time::Duration;

use keepgate_sdk::records::{self, Commit};
use keepgate_sdk::turns::Turn;
use keepgate_sdk::{Failure, Piece, PutOptions, Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::pool::Complete;
use crate::problem::Problem;
use crate::range::{self, Segment, Span};
use crate::user::User;
use crate::{layout, pool};

/// How long a request waits for another one that joins the parts of the same file.
const JOINING: Duration = Duration::from_secs(600);

/// A file of which a user has uploaded parts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    total: u64,
}

/// What is there of a file.
#[derive(Debug)]
pub(crate) enum Progress {
    /// First and last byte of each range.
    Ranges(Vec<(u64, u64)>),
    Complete,
}

/// The length that the parts said that the user has uploaded, if there are some.
pub(crate) fn total(user: &User, hash: &Hash) -> Result<Option<u64>, Failure> {
    let found = records::get(&layout::begun(user, hash))?;
    found.map(|record| record.json::<Begun>()).transpose().map(|begun| begun.map(|it| it.total))
}

/// The files of which a user has uploaded parts, with the length that these said.
pub(crate) fn all(user: &User) -> Result<BTreeMap<Hash, u64>, Failure> {
    let prefix = layout::all_begun(user);
    let mut all = BTreeMap::new();
    for record in records::scan(&prefix) {
        let record = record?;
        if let Some(hash) = record.key.strip_prefix(&prefix).and_then(Hash::parse) {
            all.insert(hash, record.json::<Begun>()?.total);
        }
    }
    Ok(all)
}

/// Says that parts of a file are about to come. Fails with 409 if others said another length.
pub(crate) fn begin(user: &User, hash: &Hash, total: u64) -> Result<(), Problem> {
    let key = layout::begun(user, hash);
    let begin = || Commit::new().absent(&key).put_json(&key, &Begun { total })?.run();
    let known = match self::total(user, hash)? {
        Some(known) => known,
        None => match begin() {
            Ok(_) => return Ok(()),
            // At the same time as another one.
            Err(Failure::PreconditionFailed) => self::total(user, hash)?.unwrap_or(total),
            Err(failure) => return Err(failure.into()),
        },
    };
    if known == total { Ok(()) } else { Err(size_conflict(known)) }
}

/// A refusal of another length than the known one.
pub(crate) fn size_conflict(known: u64) -> Problem {
    let why = format!("this file was announced with {known} bytes");
    Problem::new(409, "size_conflict", why).with("size", known)
}

/// The ranges that are there of a file of this length.
pub(crate) fn ranges(
    store: &Store,
    user: &User,
    hash: &Hash,
    total: u64,
) -> Result<Vec<(u64, u64)>, Failure> {
    Ok(range::covered(&range::spans(&segments(store, user, hash)?, total)))
}

/// Parts of a file.
enum Parts {
    /// First and last byte of each range that is there.
    Some(Vec<(u64, u64)>),
    /// All bytes are there: in these blobs, of which these spans make the file.
    All(Vec<Segment>, Vec<Span>),
}

fn parts(store: &Store, user: &User, hash: &Hash, total: u64) -> Result<Parts, Failure> {
    let segments = segments(store, user, hash)?;
    let spans = range::spans(&segments, total);
    let covered = range::covered(&spans);
    match covered == [(0, total - 1)] {
        true => Ok(Parts::All(segments, spans)),
        false => Ok(Parts::Some(covered)),
    }
}

/// Completes a file if all of its bytes are there. If they do not have its hash, nobody can say which are wrong, so all
/// of them are removed, and it fails with `hash_mismatch`.
pub(crate) fn advance(
    store: &Store,
    user: &User,
    hash: &Hash,
    total: u64,
) -> Result<Progress, Problem> {
    if let Parts::Some(ranges) = parts(store, user, hash, total)? {
        return Ok(Progress::Ranges(ranges));
    }
    // Many requests may bring the last bytes at the same time; one joins them, and the others find the file.
    let _turn = Turn::take(&format!("{}/{hash}", user.as_str()), JOINING)?;
    if pool::find(user, hash, true)?.is_some_and(|found| found.has_right) {
        remove_all(store, user, hash)?;
        return Ok(Progress::Complete);
    }
    let (segments, spans) = match parts(store, user, hash, total)? {
        Parts::Some(ranges) => return Ok(Progress::Ranges(ranges)),
        Parts::All(segments, spans) => (segments, spans),
    };
    let key = layout::joined(hash);
    let options = PutOptions::absent().sha256(&hash.to_string());
    match store.concat(&key, &pieces(&spans), &options) {
        Ok(_) => {}
        Err(Failure::ChecksumMismatch(actual)) => {
            remove(store, user, hash, &segments)?;
            return Err(mismatch(actual.as_deref()));
        }
        // An upload of the whole file has completed it meanwhile and removed the parts.
        Err(Failure::NotFound) if pool::find(user, hash, true)?.is_some() => {
            return Ok(Progress::Complete);
        }
        Err(failure) => return Err(failure.into()),
    }
    let file = Complete { key, size: total, xxh3: None, at: Timestamp::now() };
    if !pool::complete(user, hash, &file)? {
        store.delete(&file.key)?;
        pool::give_right(user, hash)?;
    }
    remove(store, user, hash, &segments)?;
    Ok(Progress::Complete)
}

/// A refusal of bytes that do not have their hash.
pub(crate) fn mismatch(actual: Option<&str>) -> Problem {
    let why = match actual {
        Some(actual) => format!("the bytes have the SHA-256 {actual}; nothing of them is kept"),
        None => "the bytes do not have this SHA-256; nothing of them is kept".to_owned(),
    };
    Problem::new(422, "hash_mismatch", why).with("actual", actual)
}

fn pieces(spans: &[Span]) -> Vec<Piece> {
    spans.iter().map(|span| Piece::slice(&span.key, span.offset, span.length)).collect()
}

/// What a user has uploaded of a file, in the order of the uploads.
fn segments(store: &Store, user: &User, hash: &Hash) -> Result<Vec<Segment>, Failure> {
    let entries = match store.entries(&layout::uploads(user, hash), false) {
        Err(Failure::NotFound) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some((first, id)) = layout::parse_upload(entry.name()) {
            let id = id.to_owned();
            found.push((id, Segment { key: entry.key, first, size: entry.size }));
        }
    }
    found.sort_by(|(one, _), (two, _)| one.cmp(two));
    Ok(found.into_iter().map(|(_, segment)| segment).collect())
}

/// Removes parts of a file; not the one that another request has made the file meanwhile.
fn remove(store: &Store, user: &User, hash: &Hash, segments: &[Segment]) -> Result<(), Failure> {
    let whole = pool::key(hash)?;
    for segment in segments.iter().filter(|segment| Some(&segment.key) != whole.as_ref()) {
        store.delete(&segment.key)?;
    }
    let begun = layout::begun(user, hash);
    match records::get(&begun)? {
        Some(_) => Commit::new().delete(&begun).run().map(|_| ()),
        None => Ok(()),
    }
}

/// After an upload of which nothing was kept.
pub(crate) fn forget_if_nothing_came(
    store: &Store,
    user: &User,
    hash: &Hash,
) -> Result<(), Failure> {
    let segments = segments(store, user, hash)?;
    if segments.is_empty() { remove(store, user, hash, &segments) } else { Ok(()) }
}

/// Removes all that has come of a file: the upload is given up, or all of the file is in another blob.
pub(crate) fn remove_all(store: &Store, user: &User, hash: &Hash) -> Result<(), Failure> {
    let segments = segments(store, user, hash)?;
    remove(store, user, hash, &segments)
}
