//! Where a server is known to differ, and why. A difference says what comes instead, so that it
//! hides nothing else; one that no longer occurs has to be taken out of the file.

use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use crate::conformance::Failure;
use crate::conformance::suite::parse;

/// A file of differences.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// Which server, and its version.
    pub server: String,
    /// Its differences.
    #[serde(default, rename = "difference")]
    pub list: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Names of cases; `*` stands for anything.
    pub cases: Vec<String>,
    /// What the server does instead.
    pub does: String,
    /// A pattern of what the report says after `got`.
    pub got: String,
    /// Why that is not what is right here.
    pub reason: String,
}

/// What a case's outcome is in the light of the differences.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Right,
    /// Otherwise, as is known.
    Known,
    /// Otherwise.
    Wrong(Failure),
}

impl Differences {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let read: Self = parse(&name, &text)?;
        for difference in &read.list {
            pattern(&difference.got)?;
        }
        Ok(read)
    }

    /// Names of the file that belong to no case.
    pub fn unknown(&self, cases: &[&str]) -> Vec<String> {
        let names = self.list.iter().flat_map(|difference| &difference.cases);
        let unknown = names.filter(|name| !cases.iter().any(|case| fits(name, case)));
        unknown.cloned().collect()
    }

    /// What to make of a case.
    pub fn judge(&self, case: &str, outcome: Result<(), Failure>) -> Verdict {
        let listed =
            |difference: &&Difference| difference.cases.iter().any(|name| fits(name, case));
        let listed: Vec<_> = self.list.iter().filter(listed).collect();
        let Some(first) = listed.first() else {
            return outcome.map_or_else(Verdict::Wrong, |()| Verdict::Right);
        };
        let Err(failure) = outcome else {
            let expected = format!("the difference that is listed: {}", first.does);
            let got = "what is right: take the difference out of the file";
            return Verdict::Wrong(Failure::new(expected, got).at("the whole case"));
        };
        let known = |difference: &&Difference| {
            pattern(&difference.got).is_ok_and(|pattern| pattern.is_match(&failure.got))
        };
        if listed.iter().any(known) {
            return Verdict::Known;
        }
        let got = format!("{} (which is not the difference listed: {})", failure.got, first.does);
        Verdict::Wrong(Failure { got, ..failure })
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("/{text}/: {error}"))
}

/// Whether a name with `*` in it means this case.
pub fn fits(name: &str, case: &str) -> bool {
    let parts: Vec<_> = name.split('*').map(regex::escape).collect();
    Regex::new(&format!("^{}$", parts.join(".*"))).is_ok_and(|pattern| pattern.is_match(case))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_hides_itself_and_nothing_else() {
        let text = "server = \"x\"\n[[difference]]\ncases = [\"a/*\"]\ndoes = \"it says 403\"\n\
                    got = \"^status 403\"\nreason = \"y\"\n";
        let differences: Differences = toml::from_str(text).unwrap();
        let failure = |got: &str| Err(Failure::new("status 200", got));
        assert_eq!(differences.judge("a/b", failure("status 403 []")), Verdict::Known);
        assert!(matches!(differences.judge("a/b", failure("status 500 []")), Verdict::Wrong(_)));
        assert!(matches!(differences.judge("a/b", Ok(())), Verdict::Wrong(_)));
        assert!(matches!(differences.judge("b/a/b", failure("status 403")), Verdict::Wrong(_)));
        assert_eq!(differences.judge("c/d", Ok(())), Verdict::Right);
        assert_eq!(differences.unknown(&["c/d"]), ["a/*"]);
        assert!(differences.unknown(&["a/d"]).is_empty());
    }
}
