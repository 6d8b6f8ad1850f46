//! What the configuration says of the plugins that may be loaded: `[plugins]`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keepgate_runtime::Trust;
use serde::Deserialize;
use toml::Spanned;

use super::check::{Complaint, complain};

/// Which components are trusted; without this table all of them are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plugins {
    /// SHA-256 of components, `sha256:…`.
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
    /// Public keys of minisign's, `RW…`.
    #[serde(default)]
    pub(crate) keys: Vec<Spanned<String>>,
    /// File of more of them.
    #[serde(default)]
    pub(crate) keys_file: Option<PathBuf>,
}

pub(super) fn check(plugins: &Spanned<Plugins>) -> Result<(), Complaint> {
    let Plugins { allow, keys, keys_file } = plugins.get_ref();
    for digest in allow {
        let rules = Trust::new([digest.get_ref().as_str()], []);
        rules.map_err(|error| complain(digest, &error.to_string()))?;
    }
    for key in keys {
        let rules = Trust::new([], [key.get_ref().as_str()]);
        rules.map_err(|error| complain(key, &error.to_string()))?;
    }
    if allow.is_empty() && keys.is_empty() && keys_file.is_none() {
        return Err(complain(
            plugins,
            "no plugin could be loaded: name digests in `allow`, or keys in `keys` or `keys_file`; \
             without [plugins] all are trusted",
        ));
    }
    Ok(())
}

impl Plugins {
    /// The rules, with the file of keys as it is now.
    pub(crate) fn trust(&self) -> Result<Trust> {
        let file = self.keys_file.as_deref();
        let more = file.map(read_keys).transpose()?.unwrap_or_default();
        let digests = self.allow.iter().map(|digest| digest.get_ref().as_str());
        let keys = self.keys.iter().map(|key| key.get_ref().as_str());
        let rules = Trust::new(digests, keys.chain(more.iter().map(String::as_str)));
        rules.with_context(|| match file {
            // Those in the configuration itself were checked before.
            Some(file) => format!("the keys of plugins in {}", file.display()),
            None => "[plugins]".to_owned(),
        })
    }
}

/// Keys, one a line, as minisign writes them: with comments between.
fn read_keys(file: &Path) -> Result<Vec<String>> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the keys of plugins in {name} cannot be read"))?;
    let lines = text.lines().map(str::trim);
    let comment = |line: &&str| line.starts_with('#') || line.starts_with("untrusted comment:");
    let keys: Vec<_> =
        lines.filter(|line| !line.is_empty() && !comment(line)).map(str::to_owned).collect();
    if keys.is_empty() {
        bail!("there is no key in {name}: put a .pub file of minisign's there, or several");
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWTR6gsW/UUAK7Qugdeeu39laHVl9pDlWU5ryv7F3GGdyLJZ7C72J6m5";

    #[test]
    fn a_file_of_keys_is_what_minisign_writes_or_several_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins.pub");
        let plugins = Plugins { keys_file: Some(file.clone()), ..Plugins::default() };
        let said = |plugins: &Plugins| crate::explain(&plugins.trust().unwrap_err());
        assert!(said(&plugins).contains("plugins.pub cannot be read"), "{}", said(&plugins));
        std::fs::write(&file, "# nobody yet\n\n").unwrap();
        assert!(said(&plugins).contains("there is no key in"), "{}", said(&plugins));
        std::fs::write(&file, "untrusted comment: key 1\nRWno\n").unwrap();
        let wrong = said(&plugins);
        assert!(wrong.contains("plugins.pub") && wrong.contains("\"RWno\""), "{wrong}");
        std::fs::write(&file, format!("untrusted comment: key 1\n{KEY}\n\n# two\n{KEY}\n"))
            .unwrap();
        assert_eq!(plugins.trust().unwrap(), Trust::new([], [KEY, KEY]).unwrap());
    }
}
