//! Known differences of a server, with reasons. A difference says what the server does instead, so that it
//! hides nothing else. One that no longer occurs must be removed from the file.

use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use crate::case::{CaseFile, spread};

/// A file of differences.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// The server and its version.
    pub server: String,
    /// How often to repeat a request if the server resets the connection before the reply was read. Only for
    /// servers that reply early and then close a connection that has unread data: the reply can be lost then,
    /// which says nothing about the case.
    #[serde(default)]
    pub repeats_after_a_reset: usize,
    /// The differences.
    #[serde(default, rename = "difference")]
    pub list: Vec<Difference>,
}

/// One difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Names of cases, in which `*` matches anything.
    pub cases: Vec<String>,
    /// What the server does instead.
    pub does: String,
    /// A pattern for the actual result, as a report shows it.
    pub got: String,
    /// Why the cases are right nonetheless.
    pub reason: String,
}

/// What the differences say about the result of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They do not list the case.
    AsItIs,
    /// It differs as listed. The text says what the server does.
    Known(String),
    /// It is listed, but differs in another way or not at all.
    Unexpected(String),
}

impl Differences {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a pattern is invalid.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let read: Self = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        for difference in &read.list {
            pattern(&difference.got).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(read)
    }

    /// Patterns of the file that match no case.
    pub fn unknown(&self, files: &[CaseFile]) -> Vec<String> {
        let cases: Vec<_> = files.iter().flat_map(spread).map(|single| single.name).collect();
        let names = self.list.iter().flat_map(|difference| &difference.cases);
        let unknown = names.filter(|name| !cases.iter().any(|case| fits(name, case)));
        unknown.cloned().collect()
    }

    /// Judges a case. `got` is the actual result if the case failed.
    pub(crate) fn judge(&self, case: &str, got: Option<&str>) -> Verdict {
        let listed =
            |difference: &&Difference| difference.cases.iter().any(|name| fits(name, case));
        let listed: Vec<_> = self.list.iter().filter(listed).collect();
        let Some(first) = listed.first() else { return Verdict::AsItIs };
        let Some(got) = got else {
            let does = &first.does;
            return Verdict::Unexpected(format!(
                "it passes; the listed difference no longer occurs: {does}"
            ));
        };
        let known = |difference: &&&Difference| {
            pattern(&difference.got).is_ok_and(|pattern| pattern.is_match(got))
        };
        match listed.iter().find(known) {
            Some(difference) => Verdict::Known(difference.does.clone()),
            None => Verdict::Unexpected(format!("not the listed difference: {}", first.does)),
        }
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("/{text}/: {error}"))
}

/// Whether a name, in which `*` matches anything, matches this case.
fn fits(name: &str, case: &str) -> bool {
    let parts: Vec<_> = name.split('*').map(regex::escape).collect();
    Regex::new(&format!("^{}$", parts.join(".*"))).is_ok_and(|pattern| pattern.is_match(case))
}

/// Whether a filter selects a case: it is a part of the name or, with `*`, matches the whole name.
pub(crate) fn is_meant(filter: &str, name: &str) -> bool {
    if filter.contains('*') { fits(filter, name) } else { name.contains(filter) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_hides_itself_and_nothing_else() {
        let text = "server = \"x\"\n[[difference]]\ncases = [\"a/*\"]\ndoes = \"it says 403\"\n\
                    got = \"^status 403\"\nreason = \"y\"\n";
        let differences: Differences = toml::from_str(text).unwrap();
        let judge = |case: &str, got: Option<&str>| differences.judge(case, got);
        assert_eq!(judge("a/b", Some("status 403 []")), Verdict::Known("it says 403".to_owned()));
        assert!(matches!(judge("a/b", Some("status 500 []")), Verdict::Unexpected(_)));
        assert!(matches!(judge("a/b", None), Verdict::Unexpected(_)));
        assert_eq!(judge("b/a/b", Some("status 403")), Verdict::AsItIs);
        assert_eq!(judge("c/d", None), Verdict::AsItIs);
        let file = |topic: &str| {
            let text = "[[case]]\nname = \"d\"\n[[case.step]]\nsend = \"GET /\"\n";
            CaseFile::parse(text, Path::new(&format!("{topic}.toml"))).unwrap()
        };
        assert_eq!(differences.unknown(&[file("c")]), ["a/*"]);
        assert!(differences.unknown(&[file("a")]).is_empty());
    }
}
