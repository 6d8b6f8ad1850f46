//! Parsing an htpasswd file: `name:hash`, one user per line. Invalid lines are ignored and reported; they
//! never affect the others.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::hash::Hash;
use crate::list_file::{self, Problem, Stamp};

/// Users by name.
#[derive(Default)]
pub(crate) struct Users {
    pub(crate) hashes: HashMap<String, Hash>,
    /// The hash against which unknown users are checked. `None` if the file has no bcrypt hash: then
    /// no check is slow.
    pub(crate) nobody: Option<Hash>,
    pub(crate) problems: Vec<Problem>,
}

/// Why a file of users is refused.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// It cannot be read.
    #[error("cannot read users from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It has lines, but no valid one.
    #[error("no valid user in {}: {first}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The first problem.
        first: Problem,
    },
}

/// True for a valid user name in an htpasswd file: letters of any script, digits, and `@ . _ -`. In
/// particular no `/`, because surfaces use names as folders.
pub fn is_user_name(name: &str) -> bool {
    #[expect(clippy::expect_used, reason = "the pattern is constant, and a test compiles it")]
    static PATTERN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{L}0-9@._-]+$").expect("constant pattern"));
    PATTERN.is_match(name)
}

impl Users {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut users = Self::default();
        let mut lines = HashMap::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            match entry(line) {
                Ok(None) => {}
                Ok(Some((name, hash))) => {
                    if let Some(earlier) = lines.insert(name.clone(), number) {
                        let text = format!(
                            "user {name:?} is defined again in line {number}, which takes precedence"
                        );
                        users.problems.push(Problem { line: earlier, text });
                    }
                    users.hashes.insert(name, hash);
                }
                Err(text) => users.problems.push(Problem { line: number, text }),
            }
        }
        let costs = users.hashes.values().filter_map(|hash| match hash {
            Hash::Bcrypt { cost, .. } => Some(*cost),
            Hash::Sha1(_) => None,
        });
        users.nobody = costs.max().map(Hash::nobody);
        users
    }
}

/// `None` for a blank line or a comment.
fn entry(line: &[u8]) -> Result<Option<(String, Hash)>, String> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let Some((name, rest)) = line.split_once(':') else {
        return Err("missing colon between name and hash".to_owned());
    };
    if !is_user_name(name) {
        return Err(format!(
            "invalid user name {name:?}: only letters, digits and the characters @ . _ - are allowed"
        ));
    }
    // Some tools write notes into further fields.
    let hash = rest.split(':').next().unwrap_or_default().trim();
    match Hash::parse(hash) {
        Ok(hash) => Ok(Some((name.to_owned(), hash))),
        Err(why) => Err(format!("user {name:?}: {why}")),
    }
}

/// Reads a file and logs invalid lines. Blocks: do not call it on asynchronous threads.
pub(crate) fn read(path: &Path) -> Result<(Users, Stamp), HtpasswdError> {
    let read = list_file::read(path);
    let (text, stamp) =
        read.map_err(|source| HtpasswdError::Read { path: path.to_owned(), source })?;
    let users = Users::parse(&text);
    match users.problems.first() {
        Some(first) if users.hashes.is_empty() => {
            return Err(HtpasswdError::Unusable { path: path.to_owned(), first: first.clone() });
        }
        _ => {}
    }
    for problem in &users.problems {
        tracing::warn!(file = %path.display(), line = problem.line, error = problem.text, "invalid line ignored");
    }
    Ok((users, stamp))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=";

    fn problems(users: &Users) -> Vec<usize> {
        users.problems.iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn validates_user_names() {
        for name in ["alice", "a.b-c_d@example.org", "Zoë", "用户", "7"] {
            assert!(is_user_name(name), "{name}");
        }
        for name in ["", "a/b", "a b", "a\n", "\na", "a:b", "Ⅷ", "٣", "a\0", "💾"] {
            assert!(!is_user_name(name), "{name:?}");
        }
    }

    #[test]
    fn an_invalid_line_affects_no_other() {
        let bcrypt = bcrypt::hash("x", 5).unwrap();
        let mut text = format!(
            "\u{feff}# users\n  alice:{SHA}\r\nno colon\n\nbob:{bcrypt}:Bob Bobson:more\n\
             a/b:{SHA}\ncarol:$apr1$x$y\n\t dave: {SHA}\n"
        )
        .into_bytes();
        text.extend_from_slice(b"e\xff:x\nerin:");
        text.extend_from_slice(SHA.as_bytes());
        let users = Users::parse(&text);
        let mut names: Vec<_> = users.hashes.keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["alice", "bob", "dave", "erin"]);
        assert_eq!(problems(&users), [3, 6, 7, 9]);
        assert!(users.problems[2].to_string().contains("carol"), "{:?}", users.problems);
        assert!(users.nobody == Some(Hash::nobody(5)));
    }

    #[test]
    fn the_last_definition_wins_and_earlier_ones_are_reported() {
        let other = "{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let users = Users::parse(format!("a:{other}\nb:{SHA}\na:{SHA}\n").as_bytes());
        assert!(users.hashes["a"].verify(b"myPassword"));
        assert_eq!(problems(&users), [1]);
        assert!(users.nobody.is_none());
    }

    #[test]
    fn an_empty_file_has_no_users() {
        for text in ["", "\n\n", "# only a comment"] {
            let users = Users::parse(text.as_bytes());
            assert!(users.hashes.is_empty() && users.problems.is_empty());
        }
    }
}
