//! Where everything is. No key depends on another surface, so a mount has a store, or a folder of one, to itself.
//!
//! In the store:
//!
//! - `data/USER/HASH/FIRST-ID`: bytes of a file from the offset FIRST on, as they were uploaded by USER. One that a record
//!   of the pool names is the whole file; others are what has come of one.
//! - `joined/HASH/ID`: a whole file, made of what was uploaded.
//! - `manifests/USER/ID`: the text of a version of a manifest, and beside it `ID.index`, the hashes in it.
//!
//! Records:
//!
//! - `f/HASH`: a file of the pool, and which blob has its bytes.
//! - `u/USER/HASH`: USER may read this file.
//! - `p/USER/HASH`: USER has uploaded parts of this file; how long it will be.
//! - `m/USER/NAME/TIMESTAMP`: a version of a manifest, and its ID.
//! - `d/HASH`: a file that the sweep is about to remove. It is not available any more.

use keepgate_sdk::{Timestamp, environment};

use crate::hash::Hash;
use crate::user::{User, segment};

/// The digits of an offset: those of the largest.
const DIGITS: usize = 20;
/// The folders of files, and of what has come of them.
pub(crate) const UPLOADED: &str = "data";
pub(crate) const JOINED: &str = "joined";

/// An id that sorts by time.
pub(crate) fn id() -> String {
    let random: String = environment::random(6).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{:016x}{random}", Timestamp::now().0)
}

/// The folder of what a user has uploaded of a file.
pub(crate) fn uploads(user: &User, hash: &Hash) -> String {
    format!("data/{}/{hash}", user.as_str())
}

/// A new blob for bytes of a file from an offset on.
pub(crate) fn upload(user: &User, hash: &Hash, first: u64) -> String {
    format!("{}/{first:0DIGITS$}-{}", uploads(user, hash), id())
}

/// A new blob for a file that is joined of what was uploaded. Nobody takes it for a part of one.
pub(crate) fn joined(hash: &Hash) -> String {
    format!("{JOINED}/{hash}/{}", id())
}

/// The offset and the id in the name of a blob.
pub(crate) fn parse_upload(name: &str) -> Option<(u64, &str)> {
    let (first, id) = name.split_once('-')?;
    let is_plain = first.len() == DIGITS && first.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| first.parse().ok()).flatten().map(|first| (first, id))
}

/// The hash in the key of a blob of a file.
pub(crate) fn hash_of_upload(key: &str) -> Option<Hash> {
    let mut segments = key.split('/').skip(usize::from(!key.starts_with(JOINED)) + 1);
    Hash::parse(segments.next()?)
}

/// The text of a version of a manifest.
pub(crate) fn text(user: &User, id: &str) -> String {
    format!("manifests/{}/{id}", user.as_str())
}

/// The hashes of a version of a manifest.
pub(crate) fn index(user: &str, id: &str) -> String {
    format!("manifests/{user}/{id}.index")
}

/// The record of a file of the pool.
pub(crate) fn file(hash: &Hash) -> String {
    format!("f/{hash}")
}

/// The record of a file that is about to be removed.
pub(crate) fn doomed(hash: &Hash) -> String {
    format!("d/{hash}")
}

/// The record by which a user may read a file.
pub(crate) fn right(user: &User, hash: &Hash) -> String {
    format!("u/{}/{hash}", user.as_str())
}

/// The record of a file of which a user has uploaded parts.
pub(crate) fn begun(user: &User, hash: &Hash) -> String {
    format!("p/{}/{hash}", user.as_str())
}

/// The records of all files of which a user has uploaded parts.
pub(crate) fn all_begun(user: &User) -> String {
    format!("p/{}/", user.as_str())
}

/// The records of all versions of a user's manifests.
pub(crate) fn manifests(user: &User) -> String {
    format!("m/{}/", user.as_str())
}

/// The records of all versions of one manifest.
pub(crate) fn versions(user: &User, name: &str) -> String {
    format!("m/{}/{}/", user.as_str(), segment(name))
}

/// The record of a version of a manifest.
pub(crate) fn version(user: &User, name: &str, timestamp: &str) -> String {
    format!("{}{}", versions(user, name), segment(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_read_as_they_are_written() {
        let _host = keepgate_sdk::testing::Host::new();
        let (user, hash) = (User::named("ann"), crate::hash::EMPTY);
        let key = upload(&user, &hash, 7);
        assert_eq!(hash_of_upload(&key), Some(hash));
        assert_eq!(hash_of_upload(&joined(&hash)), Some(hash));
        let name = key.rsplit('/').next().unwrap();
        let (first, id) = parse_upload(name).unwrap();
        assert!(first == 7 && id.len() == 28, "{name}");
        for wrong in ["", "7-a", "0000000000000000000x-a", "00000000000000000007"] {
            assert_eq!(parse_upload(wrong), None, "{wrong}");
        }
        assert!(version(&user, &"n".repeat(255), &"t".repeat(99)).len() <= 512);
    }
}
