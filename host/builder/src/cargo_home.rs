//! A cargo home for builds of guests. Cargo reads configuration files in the project's folder, in all folders above and
//! in the user's cargo home, and what they say is about programs for this machine: a linker that is not one for
//! WebAssembly, flags, wrappers, profiles, variables. A guest must come out the same whatever is there.
//!
//! Cargo cannot be told to ignore these files, so it is started in `/` with a home of its own. This home has the user's
//! registries, downloads and credentials, as links, and of the configuration what is about getting crates and about
//! compiling build scripts. Keys may be added to what is kept if they cannot change a guest.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::toolchain::TARGET;

/// Tables that are kept: where crates come from, and how they are fetched.
const KEPT: [&str; 10] = [
    "credential-alias",
    "http",
    "net",
    "patch",
    "paths",
    "registries",
    "registry",
    "resolver",
    "source",
    "term",
];
/// Folders that are shared with the user's cargo home.
const FOLDERS: [&str; 2] = ["registry", "git"];
/// Files that are. Locks are shared too, so that a cargo of the user and this one wait for each other.
const FILES: [&str; 5] =
    [".package-cache", ".package-cache-mutate", ".global-cache", "credentials", "credentials.toml"];

/// Makes or renews the cargo home in `folder` for builds of the workspace in `root`. The caller makes sure that nobody
/// else uses the folder meanwhile.
pub(crate) fn make(folder: &Path, root: &Path) -> Result<()> {
    let user = user_home()?;
    check_root(Path::new("/"))?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for name in FOLDERS {
        let shared = user.join(name);
        fs::create_dir_all(&shared).with_context(|| shared.display().to_string())?;
        link(&shared, &folder.join(name))?;
    }
    for name in FILES {
        link(&user.join(name), &folder.join(name))?;
    }
    let config = kept_configuration(root, &user)?;
    let file = folder.join("config.toml");
    fs::write(&file, config.to_string()).with_context(|| file.display().to_string())
}

/// `CARGO_HOME`, or `~/.cargo`.
fn user_home() -> Result<PathBuf> {
    let named = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = named.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let home = home.context("no cargo home: set HOME or CARGO_HOME")?;
    std::path::absolute(&home).with_context(|| home.display().to_string())
}

/// Makes `link` a symbolic link to `target`, which need not exist.
fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|existing| existing == target) {
        return Ok(());
    }
    let made = match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(target, link),
    };
    made.with_context(|| format!("cannot link {}", link.display()))
}

/// What is kept of the configuration files for a project. Those that are nearer to it win.
fn kept_configuration(root: &Path, user: &Path) -> Result<Table> {
    let mut merged = Table::new();
    let mut seen = Vec::new();
    let folders = root.ancestors().map(|folder| folder.join(".cargo")).chain([user.to_owned()]);
    for folder in folders {
        let Some(file) = file_in(&folder).filter(|file| !seen.contains(file)) else { continue };
        let mut kept = kept(read(&file)?);
        make_absolute(&mut kept, folder.parent().unwrap_or(&folder));
        merge(&mut merged, kept);
        seen.push(file);
    }
    Ok(merged)
}

/// The configuration file in a folder; the old name wins, as for cargo.
fn file_in(folder: &Path) -> Option<PathBuf> {
    ["config", "config.toml"].map(|name| folder.join(name)).into_iter().find(|file| file.is_file())
}

fn read(file: &Path) -> Result<Table> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.parse().with_context(|| format!("{} is not a configuration of cargo", file.display()))
}

/// Cargo reads the files in the root folder wherever it starts. What can be overridden is; the rest cannot be kept away.
fn check_root(root: &Path) -> Result<()> {
    let Some(file) = file_in(&root.join(".cargo")) else { return Ok(()) };
    let table = read(&file)?;
    if let Some(key) = ["env", "profile", "unstable"].iter().find(|key| table.contains_key(**key)) {
        bail!(
            "[{key}] in {} would change plugins, and cargo reads this file for every build; move the table to the \
             configuration of the projects that need it",
            file.display()
        );
    }
    Ok(())
}

fn kept(mut table: Table) -> Table {
    let mut kept = Table::new();
    for key in KEPT {
        kept.extend(table.remove(key).map(|value| (key.to_owned(), value)));
    }
    if let Some(jobs) = table.get("build").and_then(|build| build.get("jobs")) {
        let build = Table::from_iter([("jobs".to_owned(), jobs.clone())]);
        kept.insert("build".to_owned(), Value::Table(build));
    }
    // Build scripts and macros are programs for this machine, which may have no other linker.
    let Some(Value::Table(targets)) = table.remove("target") else { return kept };
    let mut machines = Table::new();
    for (name, target) in targets {
        let Value::Table(mut target) = target else { continue };
        if name != TARGET && !name.starts_with("cfg(") {
            target.retain(|key, _| matches!(key, "linker" | "ar"));
            machines.insert(name, Value::Table(target));
        }
    }
    kept.insert("target".to_owned(), Value::Table(machines));
    kept
}

/// Paths in a configuration file are relative to the folder above its own.
fn make_absolute(table: &mut Table, base: &Path) {
    for (key, value) in table.iter_mut() {
        let is_path = matches!(
            key.as_str(),
            "cainfo" | "proxy-cainfo" | "directory" | "local-registry" | "path" | "paths"
        );
        // A program without a slash is looked for on the `PATH`.
        let is_program = |text: &str| matches!(key.as_str(), "linker" | "ar") && text.contains('/');
        match value {
            Value::Table(inner) => make_absolute(inner, base),
            Value::Array(items) if is_path => items.iter_mut().for_each(|item| join(item, base)),
            Value::String(text) if is_path || is_program(text) => join(value, base),
            _ => {}
        }
    }
}

fn join(value: &mut Value, base: &Path) {
    if let Value::String(text) = value {
        *text = base.join(&*text).display().to_string();
    }
}

/// Adds what `nearer` does not have.
fn merge(nearer: &mut Table, further: Table) {
    for (key, value) in further {
        match (nearer.get_mut(&key), value) {
            (Some(Value::Table(nearer)), Value::Table(further)) => merge(nearer, further),
            (Some(_), _) => {}
            (None, value) => drop(nearer.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, file: &str, text: &str) {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn only_what_cannot_change_a_guest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (project, user) = (folder.path().join("above/project"), folder.path().join("user"));
        put(
            &project,
            ".cargo/config.toml",
            "[source.crates-io]\nreplace-with = 'vendored'\n[source.vendored]\ndirectory = 'vendor'\n\
             [build]\ntarget = 'x86_64-unknown-linux-musl'\ntarget-dir = 'elsewhere'\njobs = 1\n\
             [env]\nX = '1'\n[profile.release]\nopt-level = 0\n[unstable]\nbuild-std = ['std']\n",
        );
        put(
            folder.path(),
            "above/.cargo/config",
            "[build]\nrustflags = ['-Clink-arg=-fuse-ld=mold']\njobs = 7\n[net]\noffline = true\n\
             [target.'cfg(all())']\nrustflags = ['-x']\nlinker = 'ld'\n",
        );
        put(
            &user,
            "config.toml",
            "[build]\nrustc-wrapper = 'sccache'\n[http]\ncainfo = 'ca.pem'\n\
             [target.x86_64-unknown-linux-gnu]\nlinker = 'tools/cc'\nrustflags = ['-y']\n\
             [target.wasm32-unknown-unknown]\nlinker = 'x'\n[source.crates-io]\nreplace-with = 'mirror'\n",
        );
        let kept = kept_configuration(&project, &user).unwrap();
        let path = |path: &str| folder.path().join(path).display().to_string();
        let expected: Table = format!(
            "[source.crates-io]\nreplace-with = 'vendored'\n[source.vendored]\ndirectory = '{}'\n\
             [build]\njobs = 1\n[net]\noffline = true\n[http]\ncainfo = '{}'\n\
             [target.x86_64-unknown-linux-gnu]\nlinker = '{}'\n",
            path("above/project/vendor"),
            path("ca.pem"),
            path("tools/cc"),
        )
        .parse()
        .unwrap();
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), ".cargo/config.toml", "[build\n");
        let error = kept_configuration(folder.path(), folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains(".cargo/config.toml is not a config"), "{error:#}");
    }

    #[test]
    fn what_cannot_be_kept_away_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), ".cargo/config.toml", "[build]\nrustflags = ['-x']\n");
        check_root(folder.path()).unwrap();
        put(folder.path(), ".cargo/config.toml", "[profile.release]\nlto = false\n");
        let error = check_root(folder.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("[profile] in ") && error.contains(".cargo/config.toml"),
            "{error}"
        );
    }

    #[test]
    fn downloads_and_credentials_are_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (target, file) = (folder.path().join("real"), folder.path().join("link"));
        link(&target, &file).unwrap();
        link(&target, &file).unwrap();
        fs::write(&file, "through").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "through");
        let other = folder.path().join("other");
        link(&other, &file).unwrap();
        assert_eq!(fs::read_link(&file).unwrap(), other);
    }
}
