//! What is limited: the rules as an operator writes them, and the scopes that a key and an owner
//! count for. A new kind of scope begins here and in [`Charge`].

use std::fmt;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::totals::Amount;
use crate::error::{Result, StoreError};

/// Stands for every user in [`UserRule::user`].
const EVERYBODY: &str = "*";

/// Limits. Without any, nothing is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// For the whole store.
    pub total: Option<Amount>,
    /// For folders. A key counts for at most one folder: that of the first rule that matches it.
    pub folders: Vec<FolderRule>,
    /// For users. The first rule that matches a user applies.
    pub users: Vec<UserRule>,
}

/// A separate limit for each folder that matches a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderRule {
    /// Matches the folder's path: `alice`, `teams/*`, or `*` for each folder at the top. `*` and
    /// `?` do not match `/`. If a pattern matches several parents of a key, the outermost counts.
    pub pattern: String,
    /// The limit.
    pub limit: Amount,
}

/// A limit for what a user has stored, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRule {
    /// A name, or `*` for each user separately.
    pub user: String,
    /// The limit.
    pub limit: Amount,
}

/// What is counted separately.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    Store,
    /// Blobs below a folder.
    Folder(String),
    /// Blobs that a user stored.
    User(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("the store"),
            Self::Folder(name) => write!(f, "folder {name}"),
            Self::User(name) => write!(f, "user {name}"),
        }
    }
}

/// Validated rules.
#[derive(Debug)]
pub(super) struct Compiled {
    rules: Rules,
    /// One for each folder rule, in the same order.
    globs: Vec<GlobMatcher>,
}

/// The scopes that a blob counts for, besides the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Charge {
    pub(super) folder: Option<Counted>,
    pub(super) user: Option<Counted>,
}

/// A folder or a user.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) name: Arc<str>,
    /// Users are counted even without one, so that a limit can be added without a count.
    pub(super) limit: Option<Amount>,
}

impl FolderRule {
    /// A limit for this folder, whatever characters are in its name.
    pub fn exactly(folder: &str, limit: Amount) -> Self {
        Self { pattern: globset::escape(folder), limit }
    }

    /// A limit for folders that match a pattern below another folder; empty for the store's top.
    pub fn below(folder: &str, pattern: &str, limit: Amount) -> Self {
        let pattern = match folder {
            "" => pattern.to_owned(),
            folder => format!("{}/{pattern}", globset::escape(folder)),
        };
        Self { pattern, limit }
    }
}

impl Rules {
    /// Validates the rules.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if a pattern or a name is invalid.
    pub fn check(&self) -> Result<()> {
        Compiled::new(self.clone()).map(|_| ())
    }
}

impl Compiled {
    pub(super) fn new(rules: Rules) -> Result<Self> {
        let globs =
            rules.folders.iter().map(|rule| compile(&rule.pattern)).collect::<Result<_>>()?;
        if rules.users.iter().any(|rule| rule.user.is_empty()) {
            return Err(StoreError::Invalid(
                "a quota for a user has no name: name the user, or write * for each".to_owned(),
            ));
        }
        Ok(Self { rules, globs })
    }

    pub(super) fn total(&self) -> Option<Amount> {
        self.rules.total
    }

    /// Whether owners are stored with blobs, and counted.
    pub(super) fn counts_users(&self) -> bool {
        !self.rules.users.is_empty()
    }

    /// The folder patterns, in order: they decide which folders are counted.
    pub(super) fn patterns(&self) -> Vec<String> {
        self.rules.folders.iter().map(|rule| rule.pattern.clone()).collect()
    }

    /// Whether a count for these patterns, with users or without, contains all that these rules
    /// need.
    pub(super) fn is_counted_by(&self, patterns: &[String], users: bool) -> bool {
        let ours = self.patterns();
        (users || !self.counts_users()) && (ours.is_empty() || ours == patterns)
    }

    pub(super) fn charge(&self, key: &str, owner: Option<&str>) -> Charge {
        let user = owner.filter(|_| self.counts_users());
        Charge {
            folder: self.folder_of(key),
            user: user.map(|user| Counted { name: user.into(), limit: self.user_limit(user) }),
        }
    }

    fn folder_of(&self, key: &str) -> Option<Counted> {
        self.rules.folders.iter().zip(&self.globs).find_map(|(rule, glob)| {
            let mut folders = key.match_indices('/').filter_map(|(end, _)| key.get(..end));
            let name = folders.find(|folder| glob.is_match(folder))?;
            Some(Counted { name: name.into(), limit: Some(rule.limit) })
        })
    }

    /// The limit of a counted folder.
    pub(super) fn folder_limit(&self, folder: &str) -> Option<Amount> {
        let mut rules = self.rules.folders.iter().zip(&self.globs);
        rules.find(|(_, glob)| glob.is_match(folder)).map(|(rule, _)| rule.limit)
    }

    pub(super) fn user_limit(&self, user: &str) -> Option<Amount> {
        let fits = |rule: &&UserRule| rule.user == user || rule.user == EVERYBODY;
        self.rules.users.iter().find(fits).map(|rule| rule.limit)
    }

    /// Scopes that the rules name themselves, whether or not they have blobs.
    pub(super) fn named(&self) -> impl Iterator<Item = Scope> {
        let plain = |pattern: &&FolderRule| !pattern.pattern.contains(['*', '?', '[', '{', '\\']);
        let folders = self.rules.folders.iter().filter(plain);
        let users = self.rules.users.iter().filter(|rule| rule.user != EVERYBODY);
        folders
            .map(|rule| Scope::Folder(rule.pattern.clone()))
            .chain(users.map(|rule| Scope::User(rule.user.clone())))
    }

    /// The smallest limit in bytes.
    pub(super) fn smallest(&self) -> Option<u64> {
        let folders = self.rules.folders.iter().map(|rule| rule.limit);
        let users = self.rules.users.iter().map(|rule| rule.limit);
        folders.chain(users).chain(self.rules.total).map(|limit| limit.bytes).min()
    }
}

fn compile(pattern: &str) -> Result<GlobMatcher> {
    let wrong =
        |why: &str| Err(StoreError::Invalid(format!("quota for the folder {pattern:?}: {why}")));
    if pattern.is_empty() || pattern.starts_with('/') || pattern.ends_with('/') {
        return wrong("write a path without a slash at its beginning or end, such as teams/*");
    }
    match GlobBuilder::new(pattern).literal_separator(true).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => wrong(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(folders: &[(&str, u64)], users: &[(&str, u64)]) -> Compiled {
        let folder = |(pattern, limit): &(&str, u64)| FolderRule {
            pattern: (*pattern).to_owned(),
            limit: Amount::limit(*limit),
        };
        let user = |(user, limit): &(&str, u64)| UserRule {
            user: (*user).to_owned(),
            limit: Amount::limit(*limit),
        };
        let folders = folders.iter().map(folder).collect();
        let users = users.iter().map(user).collect();
        Compiled::new(Rules { total: None, folders, users }).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_a_key_applies() {
        let rules = compiled(&[("alice/photos", 1), ("teams/*", 2), ("*", 3), ("**/x", 4)], &[]);
        let folder = |key: &str| {
            rules.charge(key, None).folder.map(|f| (f.name.to_string(), f.limit.unwrap().bytes))
        };
        for (key, expected) in [
            ("alice/photos/a/b", Some(("alice/photos", 1))),
            ("alice/photos", Some(("alice", 3))),
            ("alice/other/a", Some(("alice", 3))),
            ("teams/red/a/b/c", Some(("teams/red", 2))),
            ("teams/red", Some(("teams", 3))),
            ("file", None),
        ] {
            let expected = expected.map(|(name, limit)| (name.to_owned(), limit));
            assert_eq!(folder(key), expected, "{key}");
            if let Some((name, limit)) = expected {
                assert_eq!(rules.folder_limit(&name).unwrap().bytes, limit, "{key}");
            }
        }
        // The outermost of several parents.
        let rules = compiled(&[("**", 1)], &[]);
        assert_eq!(&*rules.charge("a/b/c", None).folder.unwrap().name, "a");
    }

    #[test]
    fn users_are_counted_if_there_are_rules_for_users() {
        let rules = compiled(&[], &[("bob", 1), ("*", 2), ("carol", 3)]);
        assert_eq!(rules.user_limit("bob"), Some(Amount::limit(1)));
        assert_eq!(rules.user_limit("carol"), Some(Amount::limit(2)));
        assert!(rules.charge("a", None).user.is_none());
        let rules = compiled(&[], &[("bob", 1)]);
        let carol = rules.charge("a", Some("carol")).user.unwrap();
        assert_eq!((&*carol.name, carol.limit), ("carol", None));
        assert!(compiled(&[("*", 1)], &[]).charge("a", Some("bob")).user.is_none());
    }

    #[test]
    fn invalid_rules_are_refused() {
        for pattern in ["", "/a", "a/", "a/{b"] {
            let folders = vec![FolderRule { pattern: pattern.to_owned(), limit: Amount::limit(1) }];
            let rules = Rules { folders, ..Rules::default() };
            let Err(StoreError::Invalid(text)) = Compiled::new(rules) else { panic!("{pattern}") };
            assert!(text.contains(&format!("{pattern:?}")), "{text}");
        }
        let users = vec![UserRule { user: String::new(), limit: Amount::limit(1) }];
        assert!(Compiled::new(Rules { users, ..Rules::default() }).is_err());
    }
}
