//! Where a server is known to differ, and why. A difference says what comes instead, so that it hides nothing
//! else; one that no longer occurs has to be taken out of the file.

use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use crate::case::{CaseFile, spread};

/// A file of differences.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// Which server, and its version.
    pub server: String,
    /// How often a request is repeated if the server resets the connection before its reply was read. Only for
    /// servers that answer early and then close a connection on which there is more to read: the answer can
    /// be lost on its way then, which is no matter of the case.
    #[serde(default)]
    pub repeats_after_a_reset: usize,
    /// Its differences.
    #[serde(default, rename = "difference")]
    pub list: Vec<Difference>,
}

/// One difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Names of cases; `*` stands for anything.
    pub cases: Vec<String>,
    /// What the server does instead.
    pub does: String,
    /// A pattern of what came, as a report shows it.
    pub got: String,
    /// Why the cases are right nevertheless.
    pub reason: String,
}

/// What a case's outcome is in the light of the differences.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No difference is listed for the case.
    AsItIs,
    /// Different as listed: what the server does.
    Known(String),
    /// Not as listed.
    Unexpected(String),
}

impl Differences {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a pattern is none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let read: Self = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        for difference in &read.list {
            pattern(&difference.got).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(read)
    }

    /// Names of the file that belong to no case.
    pub fn unknown(&self, files: &[CaseFile]) -> Vec<String> {
        let cases: Vec<_> = files.iter().flat_map(spread).map(|single| single.name).collect();
        let names = self.list.iter().flat_map(|difference| &difference.cases);
        let unknown = names.filter(|name| !cases.iter().any(|case| fits(name, case)));
        unknown.cloned().collect()
    }

    /// What to make of a case; `got` is what came if it was not right.
    pub(crate) fn judge(&self, case: &str, got: Option<&str>) -> Verdict {
        let listed =
            |difference: &&Difference| difference.cases.iter().any(|name| fits(name, case));
        let listed: Vec<_> = self.list.iter().filter(listed).collect();
        let Some(first) = listed.first() else { return Verdict::AsItIs };
        let Some(got) = got else {
            let does = &first.does;
            return Verdict::Unexpected(format!(
                "it is right; the difference that is listed does not occur any more: {does}"
            ));
        };
        let known = |difference: &&&Difference| {
            pattern(&difference.got).is_ok_and(|pattern| pattern.is_match(got))
        };
        match listed.iter().find(known) {
            Some(difference) => Verdict::Known(difference.does.clone()),
            None => {
                Verdict::Unexpected(format!("not the difference that is listed: {}", first.does))
            }
        }
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("/{text}/: {error}"))
}

/// Whether a name with `*` in it means this case.
fn fits(name: &str, case: &str) -> bool {
    let parts: Vec<_> = name.split('*').map(regex::escape).collect();
    Regex::new(&format!("^{}$", parts.join(".*"))).is_ok_and(|pattern| pattern.is_match(case))
}

/// Whether a filter means a case: a part of its name, or with `*` the whole of it.
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
