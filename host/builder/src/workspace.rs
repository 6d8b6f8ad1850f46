//! A workspace according to `cargo metadata`, and the folders for what is built. All paths come from here.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// The workspace as cargo sees it.
#[derive(Debug)]
pub struct Workspace {
    /// The folder with the workspace's Cargo.toml.
    pub root: PathBuf,
    /// Cargo's target folder; respects `CARGO_TARGET_DIR`.
    pub target: PathBuf,
    /// Shared by all clones on this machine, and kept when a clone is deleted.
    pub cache: PathBuf,
    /// The members of the workspace.
    pub packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Debug)]
pub struct Package {
    /// Its name in Cargo.toml.
    pub name: String,
    /// The folder with its Cargo.toml.
    pub folder: PathBuf,
    /// The minimum version of rustc, for example `1.95`.
    pub rust_version: Option<String>,
    /// What cargo builds from it.
    pub targets: Vec<Target>,
}

/// A library, program or example of a [`Package`].
#[derive(Debug)]
pub struct Target {
    /// Its name; cargo writes `-` as `_` in the file names of libraries.
    pub name: String,
    /// Whether it is an example.
    pub is_example: bool,
    /// Whether it is a `cdylib`, which can become a component.
    pub is_cdylib: bool,
}

impl Workspace {
    /// Asks cargo about the workspace of the current folder. Dependencies are not resolved.
    pub fn load() -> Result<Self> {
        Self::load_from(Path::new("."))
    }

    /// Like [`Workspace::load`], for the workspace of another folder. Fails with cargo's message if there is no
    /// workspace.
    pub fn load_from(folder: &Path) -> Result<Self> {
        let mut command = cargo("metadata");
        command.args(["--no-deps", "--format-version", "1"]).current_dir(folder);
        let json = process::output(&mut command)?;
        parse(&json, cache_folder()?).context("cannot read the output of `cargo metadata`")
    }

    /// The folder for plugins, one `NAME.wasm` each.
    pub fn plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// The folder for the hostile guests of Keepgate's tests.
    pub fn test_guests(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// The folder for test peers that are installed with Go.
    pub fn tools(&self) -> PathBuf {
        self.cache.join("go").join("bin")
    }

    /// The path of one of this workspace's programs, built with `--release`.
    pub fn program(&self, name: &str) -> PathBuf {
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        self.target.join("release").join(file)
    }

    /// The member of that name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// `--locked` if there is a lock file, so that no build changes it.
    pub fn locked(&self) -> Option<&'static str> {
        self.root.join("Cargo.lock").exists().then_some("--locked")
    }

    /// A cargo command of the active toolchain, run in the root of the workspace.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = cargo(subcommand);
        command.current_dir(&self.root);
        command
    }
}

/// The cargo that started this program, if one did, so that a `+toolchain` applies to all steps.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand);
    command
}

/// The cache shared by all clones and projects on this machine. It may not exist yet.
pub fn cache_folder() -> Result<PathBuf> {
    cache_by(|name| env::var_os(name))
        .context("no folder for a cache: set KEEPGATE_CACHE or HOME to an absolute path")
}

/// `variable` looks up an environment variable. Relative paths are ignored: they would create another cache
/// in each folder that this is called from.
fn cache_by<V: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<V>) -> Option<PathBuf> {
    let absolute = |name| {
        variable(name)
            .map(|value| Path::new(&value).to_path_buf())
            .filter(|path| path.is_absolute())
    };
    absolute("KEEPGATE_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|path| path.join("keepgate")))
        .or_else(|| absolute("HOME").map(|path| path.join(".cache").join("keepgate")))
}

impl Workspace {
    /// A workspace below `root` with the given packages, without asking cargo: for tests.
    pub fn sample(root: &Path, packages: Vec<Package>) -> Self {
        Self {
            root: root.to_owned(),
            target: root.join("target"),
            cache: root.join("cache"),
            packages,
        }
    }
}

fn parse(json: &str, cache: PathBuf) -> Result<Workspace> {
    let metadata: Value = serde_json::from_str(json)?;
    let packages = list(&metadata, "packages")?;
    Ok(Workspace {
        root: text(&metadata, "workspace_root")?.into(),
        target: text(&metadata, "target_directory")?.into(),
        cache,
        packages: packages.iter().map(package).collect::<Result<_>>()?,
    })
}

fn package(value: &Value) -> Result<Package> {
    let manifest = Path::new(text(value, "manifest_path")?);
    let targets = list(value, "targets")?;
    Ok(Package {
        name: text(value, "name")?.to_owned(),
        folder: manifest.parent().context("Cargo.toml has no folder")?.to_owned(),
        rust_version: text(value, "rust_version").ok().map(str::to_owned),
        targets: targets.iter().map(target).collect::<Result<_>>()?,
    })
}

fn target(value: &Value) -> Result<Target> {
    let says = |key, word| -> Result<bool> {
        Ok(list(value, key)?.iter().any(|item| item.as_str() == Some(word)))
    };
    Ok(Target {
        name: text(value, "name")?.to_owned(),
        is_example: says("kind", "example")?,
        is_cdylib: says("crate_types", "cdylib")?,
    })
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    let found = value.get(key).and_then(Value::as_str);
    found.with_context(|| format!("no text at `{key}`"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    let found = value.get(key).and_then(Value::as_array);
    found.with_context(|| format!("no list at `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read() {
        let json = r#"{"packages":[{"name":"keepgate-restic","manifest_path":"/w/plugins/restic/Cargo.toml",
            "rust_version":"1.95","targets":[
              {"name":"keepgate_restic","kind":["cdylib","rlib"],"crate_types":["cdylib","rlib"]},
              {"name":"show","kind":["example"],"crate_types":["bin"]}]}],
            "workspace_root":"/w","target_directory":"/t"}"#;
        let workspace = parse(json, "/c".into()).unwrap();
        assert_eq!(workspace.root, Path::new("/w"));
        assert_eq!(workspace.plugins(), Path::new("/t/plugins"));
        assert_eq!(workspace.tools(), Path::new("/c/go/bin"));
        let package = workspace.package("keepgate-restic").unwrap();
        assert_eq!(package.folder, Path::new("/w/plugins/restic"));
        assert_eq!(package.rust_version.as_deref(), Some("1.95"));
        assert!(package.targets[0].is_cdylib && !package.targets[0].is_example);
        assert!(package.targets[1].is_example && !package.targets[1].is_cdylib);
    }

    #[test]
    fn what_is_missing_in_the_metadata_is_named() {
        let error = parse(r#"{"packages":[]}"#, "/c".into()).unwrap_err();
        assert!(error.to_string().contains("workspace_root"), "{error}");
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let with = |pairs: &'static [(&'static str, &'static str)]| {
            cache_by(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
        };
        let all = &[("KEEPGATE_CACHE", "/k"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(all), Some("/k".into()));
        assert_eq!(with(&all[1..]), Some("/x/keepgate".into()));
        assert_eq!(with(&all[2..]), Some("/h/.cache/keepgate".into()));
        assert_eq!(with(&[("KEEPGATE_CACHE", "here"), ("HOME", "")]), None);
    }
}
