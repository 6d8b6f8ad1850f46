//! `[plugins]`: which plugins are loaded, and which may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keepgate_runtime::Trust;
use serde::Deserialize;
use toml::Spanned;

use super::Problems;
use super::units::Size;

/// The components that are loaded and those that are trusted, which are all unless this says otherwise; and what operators
/// see of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plugins {
    /// Names of the only plugins to load; empty for all.
    #[serde(default)]
    pub(crate) only: Vec<Spanned<String>>,
    /// SHA-256 digests of components, `sha256:…`.
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
    /// minisign public keys, `RW…`.
    #[serde(default)]
    pub(crate) keys: Vec<Spanned<String>>,
    /// A file with more keys.
    #[serde(default)]
    pub(crate) keys_file: Option<PathBuf>,
    /// Names of plugins whose metrics are shown under the plugin's own names.
    #[serde(default)]
    pub(crate) unprefixed_metrics: Vec<String>,
    /// Memory that all plugins may take together, unless it is half of what there is.
    #[serde(default)]
    pub(crate) memory: Option<Spanned<Size>>,
}

/// Less than this is less than what one call may use.
const LEAST_MEMORY: u64 = 64 << 20;

pub(super) fn check(plugins: &Spanned<Plugins>, problems: &mut Problems) {
    let Plugins { only, allow, keys, keys_file, unprefixed_metrics, memory } = plugins.get_ref();
    if let Some(size) = memory.as_ref().filter(|size| size.get_ref().0 < LEAST_MEMORY) {
        problems.add(
            size.span(),
            "[plugins] memory: plugins need at least 64MiB together; leave it out for half of the machine's memory",
        );
    }
    for digest in allow {
        if let Err(error) = Trust::new([digest.get_ref().as_str()], []) {
            problems.add(digest.span(), format!("[plugins] allow: {error}"));
        }
    }
    for key in keys {
        if let Err(error) = Trust::new([], [key.get_ref().as_str()]) {
            problems.add(key.span(), format!("[plugins] keys: {error}"));
        }
    }
    let has_rules =
        !(only.is_empty() && allow.is_empty() && keys.is_empty() && keys_file.is_none());
    if !has_rules && unprefixed_metrics.is_empty() && memory.is_none() {
        problems.add(
            plugins.span(),
            "[plugins] trusts no plugin; add digests to `allow` or keys to `keys` or `keys_file`, or \
             remove [plugins] to trust all",
        );
    }
}

impl Plugins {
    /// Names of the only plugins to load; `None` for all.
    pub(crate) fn only(&self) -> Option<BTreeSet<String>> {
        let names = self.only.iter().map(|name| name.get_ref().clone());
        (!self.only.is_empty()).then(|| names.collect())
    }

    /// Bytes that all plugins may take together, if the configuration says how many.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.memory.as_ref().map(|size| size.get_ref().0)
    }

    /// The rules, with the current content of the file of keys.
    pub(crate) fn trust(&self) -> Result<Trust> {
        let file = self.keys_file.as_deref();
        let more = file.map(read_keys).transpose()?.unwrap_or_default();
        let digests = self.allow.iter().map(|digest| digest.get_ref().as_str());
        let keys = self.keys.iter().map(|key| key.get_ref().as_str());
        let rules = Trust::new(digests, keys.chain(more.iter().map(String::as_str)));
        rules.with_context(|| match file {
            // Keys in the configuration itself have been checked before.
            Some(file) => format!("[plugins] keys_file: {}", file.display()),
            None => "[plugins]".to_owned(),
        })
    }
}

/// Reads keys, one per line, with comments between them as minisign writes them.
fn read_keys(file: &Path) -> Result<Vec<String>> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("[plugins] keys_file: cannot read {name}"))?;
    let lines = text.lines().map(str::trim);
    let comment = |line: &&str| line.starts_with('#') || line.starts_with("untrusted comment:");
    let keys: Vec<_> =
        lines.filter(|line| !line.is_empty() && !comment(line)).map(str::to_owned).collect();
    if keys.is_empty() {
        bail!(
            "[plugins] keys_file: {name} contains no keys; concatenate one or more .pub files of minisign"
        );
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWTR6gsW/UUAK7Qugdeeu39laHVl9pDlWU5ryv7F3GGdyLJZ7C72J6m5";

    #[test]
    fn a_file_of_keys_is_one_or_more_files_of_minisign() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins.pub");
        let plugins = Plugins { keys_file: Some(file.clone()), ..Plugins::default() };
        let said = |plugins: &Plugins| crate::output::explain(&plugins.trust().unwrap_err());
        assert!(
            said(&plugins).contains("cannot read") && said(&plugins).contains("plugins.pub"),
            "{}",
            said(&plugins)
        );
        std::fs::write(&file, "# nobody yet\n\n").unwrap();
        assert!(said(&plugins).contains("plugins.pub contains no keys"), "{}", said(&plugins));
        std::fs::write(&file, "untrusted comment: key 1\nRWno\n").unwrap();
        let wrong = said(&plugins);
        assert!(wrong.contains("plugins.pub") && wrong.contains("\"RWno\""), "{wrong}");
        std::fs::write(&file, format!("untrusted comment: key 1\n{KEY}\n\n# two\n{KEY}\n"))
            .unwrap();
        assert_eq!(plugins.trust().unwrap(), Trust::new([], [KEY, KEY]).unwrap());
    }
}
