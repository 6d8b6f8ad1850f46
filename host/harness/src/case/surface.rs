//! What all cases of a surface share, from `surface.toml` at the top of their folder: bodies, preconditions
//! that cases can name, how to start a server, and which files it may leave on disk.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Content, Pattern, Short, Step};

/// The name of that file.
pub(crate) const SURFACE: &str = "surface.toml";

/// What the cases of a surface share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Surface {
    /// A description of the surface.
    pub about: Option<String>,
    /// Named bytes.
    pub bodies: BTreeMap<String, Short<Content>>,
    /// Whether each case runs below a folder of its own on a running server, because the surface keeps
    /// folders apart.
    pub apart: bool,
    /// Preconditions by name. Parts of the name in braces become placeholders.
    pub given: BTreeMap<String, Given>,
    /// Paths that files of a repository may have; see [`Layout`].
    pub layout: Option<Layout>,
    /// How a server is started for a case.
    pub start: StartRules,
}

/// Requests that establish a precondition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// The requests.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// Requests to send instead if the server refuses the first of `steps`.
    pub otherwise: Vec<Step>,
}

impl Surface {
    /// The precondition of this name, with the values of the parts in braces.
    pub(crate) fn given(&self, name: &str) -> Option<(&Given, Vec<(String, String)>)> {
        if let Some(given) = self.given.get(name) {
            return Some((given, Vec::new()));
        }
        self.given.iter().find_map(|(pattern, given)| Some((given, parts(pattern, name)?)))
    }
}

/// The values of `{a}/{b}` in `x/y`.
fn parts(pattern: &str, name: &str) -> Option<Vec<(String, String)>> {
    let (pattern, name) = (pattern.split('/'), name.split('/'));
    if pattern.clone().count() != name.clone().count() {
        return None;
    }
    let mut found = Vec::new();
    for (part, word) in pattern.zip(name) {
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(placeholder) => found.push((placeholder.to_owned(), word.to_owned())),
            None if part == word => {}
            None => return None,
        }
    }
    Some(found)
}

/// How a server is started from a command line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartRules {
    /// A pattern for the line on standard error that says that the server is ready. Its first group is the
    /// address.
    pub ready: Option<Pattern>,
    /// The name of the htpasswd file in the data folder.
    pub users: Option<String>,
    /// Flags for servers without users, except
    pub without_users: Vec<String>,
    /// servers with a flag that matches this pattern.
    pub unless_flag: Option<Pattern>,
    /// The server's certificate.
    pub certificate: Option<CertificateRules>,
}

/// When a server gets a certificate, and where it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRules {
    /// A pattern for the flags that require a certificate.
    pub flag: Pattern,
    /// A pattern for the flags with which the server speaks TLS.
    pub speaks_tls: Pattern,
    /// Names of files for the certificate.
    pub certificate: Vec<String>,
    /// Names of files for its key.
    pub key: Vec<String>,
}

/// Paths that files of a repository may have. `**/` at the start matches any folder, `{id}` 64 hexadecimal
/// digits, `{id.2}` the first two of them, and `a|b` either.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Layout(Vec<String>);

impl Layout {
    /// Whether the layout contains a path.
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, path))
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let (anywhere, pattern) = match pattern.strip_prefix("**/") {
        Some(pattern) => (true, pattern),
        None => (false, pattern),
    };
    let (wanted, words): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').collect(), path.split('/').collect());
    let more = words.len().checked_sub(wanted.len());
    if more.is_none_or(|more| more > 0 && !anywhere) {
        return false;
    }
    let id = words.last().copied().unwrap_or_default();
    let is_id = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    words.iter().rev().zip(wanted.iter().rev()).all(|(word, wanted)| match *wanted {
        "{id}" => is_id && *word == id,
        "{id.2}" => is_id && id.get(..2) == Some(word),
        wanted => wanted.split('|').any(|wanted| wanted == *word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_names_files_by_their_hashes() {
        let layout = Layout(
            ["**/config", "**/data/{id.2}/{id}", "**/keys|locks/{id}"].map(str::to_owned).to_vec(),
        );
        let id = "0".repeat(64);
        for path in ["config", "a/config"] {
            assert!(layout.has(path), "{path}");
        }
        assert!(layout.has(&format!("a/b/data/00/{id}")) && layout.has(&format!("locks/{id}")));
        for path in [
            format!("data/01/{id}"),
            format!("data/{id}"),
            format!("index/{id}"),
            format!("data/00/{id}.temporary"),
            "keys/x".to_owned(),
            "config/x".to_owned(),
        ] {
            assert!(!layout.has(&path), "{path}");
        }
    }

    #[test]
    fn the_parts_of_a_name_are_placeholders() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            parts("{type}/{body}", "data/abc"),
            Some(vec![pair("type", "data"), pair("body", "abc")])
        );
        assert_eq!(parts("blob/{body}", "blob/x"), Some(vec![pair("body", "x")]));
        assert_eq!(parts("{type}/{body}", "config"), None);
        assert_eq!(parts("blob/{body}", "list/x"), None);
    }
}
