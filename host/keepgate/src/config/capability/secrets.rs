//! `secrets` of a mount: the files of keys that its plugin may sign and seal with. They are read when the configuration is,
//! so that SIGHUP reads them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use async_trait::async_trait;
use keepgate_runtime::Grants;
use keepgate_runtime::capability::secrets::Secrets as Grant;
use keepgate_secrets::{HmacKey, Material, MaterialError, SealError, SealKeys, hmac, seal};
use serde::Deserialize;
use toml::Spanned;

use super::provider::Provider;
use crate::config::{Config, Mount, Problems};

/// `secrets` of a mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Secrets {
    /// Files of keys to sign with, by the names that the plugin uses for them.
    pub(crate) hmac: BTreeMap<String, PathBuf>,
    pub(crate) seal: Option<Seal>,
}

/// Keys to seal with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// What the keys are bound to. Whatever was sealed opens only for the same name.
    pub(crate) name: Spanned<String>,
    /// Files. The first key seals, all of them open.
    pub(crate) keys: Spanned<Vec<PathBuf>>,
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for mount in &config.mount {
        let path = mount.path.get_ref();
        let Some(Seal { name, keys }) = &mount.secrets.seal else { continue };
        if name.get_ref().is_empty() {
            let what =
                "`secrets.seal` has an empty `name`; name what is sealed, and never change it";
            problems.add(name.span(), format!("mount {path:?}: {what}"));
        }
        if keys.get_ref().is_empty() {
            let what =
                "`secrets.seal` has no `keys`; add the file of one, the first of which seals";
            problems.add(keys.span(), format!("mount {path:?}: {what}"));
        }
    }
}

/// Relative paths are relative to the configuration's folder.
pub(super) fn resolve(config: &mut Config, base: &Path) {
    for Secrets { hmac, seal } in config.mount.iter_mut().map(|mount| &mut mount.secrets) {
        let seal = seal.iter_mut().flat_map(|seal| seal.keys.get_mut());
        for path in hmac.values_mut().chain(seal) {
            *path = base.join(&*path);
        }
    }
}

/// The keys of all mounts, by the mounts' paths.
#[derive(Debug)]
struct OpenSecrets {
    mounts: BTreeMap<String, Grant>,
    /// Files that others may read.
    exposed: Vec<PathBuf>,
}

/// Reads all files. The error names each that cannot be used, and says how to make one that is missing.
pub(super) fn open(config: &Config) -> Result<Box<dyn Provider>> {
    let mut open = OpenSecrets { mounts: BTreeMap::new(), exposed: Vec::new() };
    let mut wrong = Vec::new();
    for mount in &config.mount {
        let path = mount.path.get_ref();
        let mut read = |file: &PathBuf, least: usize| match Material::read(file, least) {
            Ok(material) => {
                if material.others_may_read && !open.exposed.contains(file) {
                    open.exposed.push(file.clone());
                }
                Some(material)
            }
            Err(error) => {
                wrong.push(format!("mount {path:?}: {}", unusable(file, &error)));
                None
            }
        };
        let Secrets { hmac, seal } = &mount.secrets;
        let mut grant = Grant::default();
        for (name, file) in hmac {
            let key = read(file, hmac::MIN_KEY).map(|material| HmacKey::new(&material));
            grant.hmac.extend(key.map(|key| (name.clone(), Arc::new(key))));
        }
        if let Some(Seal { name, keys: files }) = seal {
            let files = files.get_ref();
            let read: Vec<_> = files.iter().filter_map(|file| read(file, seal::MIN_KEY)).collect();
            if read.len() == files.len() {
                match SealKeys::new(name.get_ref(), &read) {
                    Ok(keys) => grant.seal = Some(Arc::new(keys)),
                    Err(error) => wrong.push(format!("mount {path:?}: {}", unfit(files, &error))),
                }
            }
        }
        open.mounts.insert(path.clone(), grant);
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    for file in &open.exposed {
        tracing::warn!(file = %file.display(), "every user of this machine may read a key");
    }
    Ok(Box::new(open))
}

/// What is wrong with a key file, and what to do.
fn unusable(file: &Path, error: &MaterialError) -> String {
    let shown = file.display();
    let what = format!("cannot use the key {shown}: {error}");
    let advice = match error {
        error if error.is_missing() => "restore it if there was one, or make one",
        MaterialError::TooShort { .. } | MaterialError::Constant => "make another one",
        _ => return what,
    };
    let quoted = shell_quoted(&shown.to_string());
    format!("{what}; {advice} with `(umask 077 && head -c 32 /dev/urandom | base64 > {quoted})`")
}

/// Why keys cannot be used together.
fn unfit(files: &[PathBuf], error: &SealError) -> String {
    let file = |at: usize| files.get(at).map(|file| file.display().to_string()).unwrap_or_default();
    match error {
        SealError::Same(one, other) => {
            let (one, other) = (file(*one), file(*other));
            format!(
                "`secrets.seal` has the same key twice, in {one} and {other}; remove one of them"
            )
        }
        error => format!("`secrets.seal`: {error}"),
    }
}

/// A path as a shell takes it.
fn shell_quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[async_trait]
impl Provider for OpenSecrets {
    fn grant(&self, mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        let granted = mount.and_then(|mount| self.mounts.get(mount.path.get_ref()));
        if let Some(granted) = granted {
            grants.insert(granted.clone());
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        let warning = |file: &PathBuf| {
            let file = shell_quoted(&file.display().to_string());
            format!(
                "every user of this machine may read the key {file}; `chmod o-r {file}` changes that"
            )
        };
        self.exposed.iter().map(warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Opens the keys of a mount, whose files are in a folder.
    fn opened(folder: &Path, secrets: &str) -> Result<(Box<dyn Provider>, Config), String> {
        let text = format!(
            "data_dir = \"s\"\nplugin_dir = \"p\"\n[[listener]]\naddress = \":1\"\n\
             [[mount]]\npath = \"/lxd\"\nplugin = \"lxd\"\nauth = [\"none\"]\n{secrets}\n"
        );
        let config = Config::parse(&text, &folder.join("keepgate.toml"));
        let config = config.map_err(|error| error.to_string())?;
        let provider = open(&config).map_err(|error| error.to_string())?;
        Ok((provider, config))
    }

    fn write(file: &Path, bytes: &[u8], mode: u32) {
        fs::write(file, bytes).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_mount_is_granted_its_keys_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("hook"), b"sixteen characters\n", 0o600);
        write(&folder.path().join("new"), &[b"n".repeat(31), b"1".to_vec()].concat(), 0o600);
        write(&folder.path().join("old"), &[b"o".repeat(31), b"1".to_vec()].concat(), 0o640);
        let keys = "secrets.hmac = { hook = \"hook\" }\n\
                    secrets.seal = { name = \"lxd\", keys = [\"new\", \"old\"] }";
        let (provider, config) = opened(folder.path(), keys).unwrap();
        assert!(provider.warnings().is_empty());
        let mut grants = Grants::default();
        provider.grant(None, &mut grants).unwrap();
        assert!(grants.get::<Grant>().is_none(), "a mount that a plugin proposed");
        provider.grant(config.mount.first(), &mut grants).unwrap();
        let granted = grants.get::<Grant>().unwrap();
        assert_eq!(granted.hmac.keys().collect::<Vec<_>>(), ["hook"]);
        let known = HmacKey::new(&Material::of(b"sixteen characters"));
        assert_eq!(granted.hmac["hook"].sign(b"message"), known.sign(b"message"));
        assert_eq!(granted.seal.as_ref().map(|keys| keys.name()), Some("lxd"));
        let shown = format!("{provider:?}");
        assert!(!shown.contains("sixteen") && !shown.contains("nnn"), "{shown}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        write(&folder.path().join("short"), b"short\n", 0o600);
        write(&folder.path().join("zero"), &[0; 64], 0o600);
        let why = |secrets: &str| opened(folder.path(), secrets).unwrap_err();
        let said = why("secrets.hmac = { a = \"none\", b = \"short\" }");
        let missing = format!(
            "mount \"/lxd\": cannot use the key {root}/none: No such file or directory (os error 2); restore it if there was one, or make one \
             with \
             `(umask 077 && head -c 32 /dev/urandom | base64 > {root}/none)`"
        );
        assert!(said.starts_with(&missing), "{said}");
        assert!(
            said.contains("short: it has 5 bytes; a key needs 16 or more; make another"),
            "{said}"
        );
        let seal =
            |keys: &str| why(&format!("secrets.seal = {{ name = \"lxd\", keys = [{keys}] }}"));
        assert!(seal("\"zero\"").contains("all of its bytes are the same"));
        assert!(seal("\"it's\"").contains(r"it'\''s'"), "{}", seal("\"it's\""));
        assert!(seal("\".\"").contains("it is not a file"));
        write(&folder.path().join("one"), &b"0123456789".repeat(4), 0o600);
        write(&folder.path().join("two"), &[&b"0123456789".repeat(4)[..], b"\n"].concat(), 0o600);
        let same = format!("the same key twice, in {root}/one and {root}/two");
        assert!(seal("\"one\", \"two\"").contains(&same));
    }

    #[test]
    fn what_the_types_cannot_express_is_an_error_of_the_configuration() {
        let folder = Path::new("/etc/keepgate");
        for (secrets, expected) in [
            (
                "secrets.seal = { name = \"lxd\", keys = [] }",
                ":9:39: mount \"/lxd\": `secrets.seal` has no `keys`",
            ),
            ("secrets.seal = { name = \"\", keys = [\"a\"] }", "has an empty `name`"),
            ("secrets.seal = { keys = [\"a\"] }", "missing field `name`"),
            ("secrets.seal = [\"a\"]", "secrets"),
            ("secrets.hmca = {}", "unknown field `hmca`, expected `hmac` or `seal`"),
        ] {
            let said = opened(folder, secrets).unwrap_err();
            assert!(said.contains(expected), "{secrets}: {said}");
        }
    }

    #[test]
    fn a_key_that_everybody_may_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hook");
        write(&file, b"sixteen characters\n", 0o644);
        let keys = "secrets.hmac = { a = \"hook\", b = \"hook\" }";
        let (provider, _) = opened(folder.path(), keys).unwrap();
        let warnings = provider.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(&format!("`chmod o-r {}`", file.display())), "{warnings:?}");
    }
}
