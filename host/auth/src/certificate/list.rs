//! A file of clients by the SHA-256 fingerprints of their certificates: `fingerprint name`, one per line. This is how
//! LXD and Incus trust their clients, whose certificates are self-signed. Invalid lines are ignored and reported; they
//! never affect the others.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use keepgate_certificates::Fingerprint;

use crate::htpasswd::is_user_name;
use crate::list_file::{self, Problem, Stamp, Watch, Watched};

/// How often a file is checked for changes, unless the caller says otherwise: at most so often.
pub const CHECK_EVERY: Duration = Duration::from_secs(3);

/// What `openssl x509 -fingerprint -sha256` prints before a fingerprint.
const OPENSSL: &str = "sha256 fingerprint=";

/// A file of fingerprints with the names of their users.
pub struct FingerprintList {
    path: PathBuf,
    names: ArcSwap<Names>,
    watch: Mutex<Watch>,
}

/// Why a file of fingerprints is refused.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("cannot read fingerprints from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It has lines, but no valid one.
    #[error("no valid fingerprint in {}: {first}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The first problem.
        first: Problem,
    },
}

/// The content of a file.
#[derive(Debug, Default)]
struct Names {
    by_fingerprint: HashMap<Fingerprint, String>,
    problems: Vec<Problem>,
}

impl FingerprintList {
    /// Reads a file and checks it for changes at most this often. Invalid lines are logged and listed by
    /// [`problems`](Self::problems). An empty file is valid and admits nobody. Blocks.
    pub fn load(path: impl Into<PathBuf>, check_every: Duration) -> Result<Arc<Self>, ListError> {
        let path = path.into();
        let (names, stamp) = read(&path)?;
        let names = ArcSwap::from_pointee(names);
        let watch = Mutex::new(Watch::new(stamp, check_every));
        Ok(Arc::new(Self { path, names, watch }))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Invalid lines, which are ignored.
    pub fn problems(&self) -> Vec<Problem> {
        self.names.load().problems.clone()
    }

    /// Reads the file again. If it is invalid, that is logged and the current list stays active. Blocks: do not call it
    /// on asynchronous threads.
    pub fn reload(&self) -> Result<(), ListError> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload_with(&mut watch)
    }

    /// The name of the user whose certificate has this fingerprint.
    pub(super) async fn name(self: &Arc<Self>, fingerprint: &Fingerprint) -> Option<String> {
        list_file::check_for_changes(self).await;
        self.names.load().by_fingerprint.get(fingerprint).cloned()
    }

    fn reload_with(&self, watch: &mut Watch) -> Result<(), ListError> {
        let (names, stamp) = match read(&self.path) {
            Ok(read) => read,
            Err(error) => {
                if watch.failed() {
                    tracing::error!(%error, "cannot reload fingerprints, the current ones stay active");
                }
                return Err(error);
            }
        };
        let certificates = names.by_fingerprint.len();
        tracing::info!(file = %self.path.display(), certificates, "fingerprints reloaded");
        watch.read(stamp);
        self.names.store(Arc::new(names));
        Ok(())
    }
}

impl Watched for FingerprintList {
    const CONTENT: &'static str = "fingerprints";

    fn file(&self) -> Option<(&Path, &Mutex<Watch>)> {
        Some((&self.path, &self.watch))
    }

    fn read_again(&self, _: &Path, watch: &mut Watch) {
        // Errors are logged there.
        let _ = self.reload_with(watch);
    }
}

impl Names {
    fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut names = Self::default();
        let mut lines = HashMap::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            match entry(line) {
                Ok(None) => {}
                Ok(Some((fingerprint, name))) => {
                    if let Some(earlier) = lines.insert(fingerprint, number) {
                        let text = format!(
                            "the certificate is listed again in line {number}, which takes precedence"
                        );
                        names.problems.push(Problem { line: earlier, text });
                    }
                    names.by_fingerprint.insert(fingerprint, name);
                }
                Err(text) => names.problems.push(Problem { line: number, text }),
            }
        }
        names
    }
}

/// `None` for a blank line or a comment.
fn entry(line: &[u8]) -> Result<Option<(Fingerprint, String)>, String> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let printed = line.get(..OPENSSL.len()).filter(|begin| begin.eq_ignore_ascii_case(OPENSSL));
    let line = printed.and_then(|begin| line.get(begin.len()..)).unwrap_or(line);
    let (fingerprint, name) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let fingerprint = fingerprint.parse::<Fingerprint>().map_err(|error| error.to_string())?;
    let name = name.trim();
    if name.is_empty() {
        return Err("missing name of the user; expected `fingerprint name`".to_owned());
    }
    if !is_user_name(name) {
        return Err(format!(
            "invalid user name {name:?}: only letters, digits and the characters @ . _ - are allowed"
        ));
    }
    Ok(Some((fingerprint, name.to_owned())))
}

/// Reads a file and logs invalid lines.
fn read(path: &Path) -> Result<(Names, Stamp), ListError> {
    let read = list_file::read(path);
    let (text, stamp) = read.map_err(|source| ListError::Read { path: path.to_owned(), source })?;
    let names = Names::parse(&text);
    match names.problems.first() {
        Some(first) if names.by_fingerprint.is_empty() => {
            return Err(ListError::Unusable { path: path.to_owned(), first: first.clone() });
        }
        _ => {}
    }
    for problem in &names.problems {
        tracing::warn!(file = %path.display(), line = problem.line, error = problem.text, "invalid line ignored");
    }
    Ok((names, stamp))
}

impl fmt::Debug for FingerprintList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintList").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_line_affects_no_other() {
        let (ann, bob) = (Fingerprint::of(b"ann"), Fingerprint::of(b"bob"));
        let upper = bob.to_string().to_uppercase();
        let text = format!(
            "\u{feff}# clients\n {ann}\tann\r\n{ann}\n\nSHA256 Fingerprint={upper}   bob@example.org\n\
             abc carol\n{bob} a/b\n{bob} two words"
        );
        let names = Names::parse(text.as_bytes());
        let expected = [(ann, "ann".to_owned()), (bob, "bob@example.org".to_owned())];
        assert_eq!(names.by_fingerprint, HashMap::from(expected));
        let lines: Vec<_> = names.problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [3, 6, 7, 8], "{:?}", names.problems);
    }

    #[test]
    fn the_last_line_of_a_certificate_wins_and_a_user_may_have_several_certificates() {
        let (old, new) = (Fingerprint::of(b"old"), Fingerprint::of(b"new"));
        let names = Names::parse(format!("{old} ann\n{new} bob\n{new} ann\n").as_bytes());
        let expected = [(old, "ann".to_owned()), (new, "ann".to_owned())];
        assert_eq!(names.by_fingerprint, HashMap::from(expected));
        assert_eq!(names.problems.len(), 1);
        assert_eq!(names.problems[0].line, 2);
    }
}
