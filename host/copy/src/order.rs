//! [`Order`]: which blobs refer to which others, told by the names of folders. It decides in what
//! order a repository is listed and copied; [`unit`](crate::unit) argues why.

use keepgate_store::Key;

/// Folders of restic's repositories whose blobs are named by the SHA-256 of their content.
const ADDRESSED: [&str; 4] = ["data", "index", "keys", "snapshots"];

/// The stages of restic's repositories.
const RESTIC: [&str; 5] = ["config", "keys", "data", "index", "snapshots"];

/// Names in a repository, in the order in which they are copied: what is referred to first, what
/// refers to it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    names: Vec<String>,
    skip: Vec<String>,
}

impl Default for Order {
    /// Restic's.
    fn default() -> Self {
        Self::restic()
    }
}

impl Order {
    /// The order of a restic repository. Its `locks` are not copied: they belong to programs that run
    /// now, and a copy with a lock could not be pruned.
    pub fn restic() -> Self {
        Self::of(RESTIC.map(str::to_owned).into())
    }

    /// No order: blobs are copied as they are listed.
    pub fn plain() -> Self {
        Self { names: Vec::new(), skip: Vec::new() }
    }

    /// An order of one's own: names of folders or blobs in a repository, what is referred to first.
    /// Names that are not in it are copied last. Restic's locks are skipped if all names are restic's.
    pub fn of(names: Vec<String>) -> Self {
        let restic = !names.is_empty() && names.iter().all(|name| RESTIC.contains(&&**name));
        Self { names, skip: if restic { vec!["locks".to_owned()] } else { Vec::new() } }
    }

    /// The names, what is referred to first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether blobs are copied as they are listed.
    pub fn is_plain(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a name in a repository is part of the order, or is skipped by it.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.iter().chain(&self.skip).any(|known| known == name)
    }

    /// How many known names make a folder a repository. One alone may be a folder that happens to
    /// have such a name, for example of a user called "data".
    pub(crate) fn marks(&self) -> usize {
        self.names.len().min(2)
    }

    /// Whether a blob is skipped, by the folder that it is in.
    pub(crate) fn skips(&self, key: &str) -> bool {
        let folder = key.rsplit('/').nth(1);
        folder.is_some_and(|folder| self.skip.iter().any(|name| name == folder))
    }
}

/// The SHA-256 that a blob must have by its name, if it is named by its content as restic does:
/// `index/HASH`, `keys/HASH`, `snapshots/HASH`, `data/HASH` or `data/XX/HASH`, at any depth.
pub fn sha256_of_name(key: &Key) -> Option<[u8; 32]> {
    let mut segments = key.as_str().rsplit('/');
    let name = segments.next()?;
    let lower = name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if name.len() != 64 || !lower {
        return None;
    }
    let parent = segments.next()?;
    let fan_out = parent.len() == 2 && name.starts_with(parent) && segments.next() == Some("data");
    if !fan_out && !ADDRESSED.contains(&parent) {
        return None;
    }
    hex::decode(name).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_restic_state_the_content() {
        let hash = "ab".repeat(32);
        let known = |key: String| sha256_of_name(&Key::new(key).unwrap());
        for folder in ["index", "keys", "snapshots", "data", "data/ab", "ann/home/data/ab"] {
            assert_eq!(known(format!("{folder}/{hash}")), Some([0xab; 32]), "{folder}");
        }
        for folder in ["locks", "data/cd", "x/ab", "indexes"] {
            assert_eq!(known(format!("{folder}/{hash}")), None, "{folder}");
        }
        assert_eq!(known(hash.clone()), None);
        assert_eq!(known(format!("data/{}", hash.to_uppercase())), None);
        assert_eq!(known("data/config".to_owned()), None);
    }

    #[test]
    fn locks_are_skipped_at_any_depth() {
        let order = Order::restic();
        assert!(order.skips("locks/a") && order.skips("ann/home/locks/a"));
        assert!(!order.skips("locks") && !order.skips("data/locks") && !order.skips("locks/a/b"));
        assert!(!Order::plain().skips("locks/a"));
        let of = |names: &[&str]| Order::of(names.iter().copied().map(str::to_owned).collect());
        assert_eq!(of(&RESTIC), order);
        assert!(of(&["data", "snapshots"]).skips("locks/a"));
        assert!(!of(&["chunks", "manifests"]).skips("locks/a"));
    }
}
