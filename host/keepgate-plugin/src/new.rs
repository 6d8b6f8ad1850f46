//! `keepgate plugin new`: a folder with a small plugin that does something real, its cases, a README
//! and the SDK. Nothing that is there is ever overwritten.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use keepgate_builder::language::Language;
use keepgate_builder::project;

use crate::arguments::New;
use keepgate::output::say;

/// Writes the files, and says what to do next.
pub(crate) fn run(arguments: &New) -> Result<()> {
    let folder = &arguments.folder;
    let name = name(folder)?;
    // Where the environment names one, the other languages have their own all the same.
    let sdk = arguments.sdk.as_deref().filter(|_| arguments.lang == Language::Rust);
    let sdk = sdk.map(dependency).transpose()?;
    for path in project::create(arguments.lang, folder, &name, sdk.as_deref())? {
        let what = if path.is_dir() { "/  the SDK and the contract" } else { "" };
        say!("  {}{what}", path.display())?;
    }
    let shown = folder.display();
    say!(
        "\nnext:\n  keepgate plugin build {shown}\n  keepgate plugin test {shown}\n  \
         keepgate plugin check {}",
        folder.join(format!("{name}.wasm")).display()
    )
}

/// The plugin's name: what cargo, files and paths of mounts all take.
fn name(folder: &Path) -> Result<String> {
    let whole = std::path::absolute(folder)?;
    let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters);
    // Names that cargo refuses, or that would hide a crate which the template uses.
    let taken = ["test", "core", "std", "alloc", "proc-macro", "serde", "keepgate-sdk", "self"];
    ensure!(
        good && !name.ends_with('-') && !taken.contains(&name),
        "{name:?} cannot name a plugin: small letters, digits and `-`, a letter first; and not {}",
        taken.join(", ")
    );
    Ok(name.to_owned())
}

/// The SDK as a dependency in cargo's words.
fn dependency(asked: &str) -> Result<String> {
    if asked.contains("://") || asked.starts_with("git@") {
        return Ok(match asked.split_once('#') {
            Some((url, revision)) => format!("git = {}, rev = {}", quoted(url), quoted(revision)),
            None => format!("git = {}", quoted(asked)),
        });
    }
    match sdk_in(Path::new(asked)) {
        Some(sdk) => Ok(format!("path = {}", quoted(&sdk.display().to_string()))),
        None => bail!("{asked} has no keepgate-sdk: name a clone of Keepgate, or a git URL"),
    }
}

/// The SDK's folder in a clone, or the folder itself where it is the SDK's.
fn sdk_in(folder: &Path) -> Option<PathBuf> {
    let is_sdk = |folder: &PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("name = \"keepgate-sdk\"")
    };
    let found = [folder.join("sdk"), folder.to_owned()].into_iter().find(is_sdk)?;
    found.canonicalize().ok()
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_cargo_and_paths_take() {
        for good in ["hello", "etcd-2", "x"] {
            assert_eq!(name(&Path::new("some/where").join(good)).unwrap(), good);
        }
        for bad in ["Hello", "2x", "a b", "a/..", "-x", "x-", "ä", "test", "serde", "/"] {
            assert!(name(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sdk_comes_from_where_it_is_said() {
        let git = dependency("https://example.org/keepgate.git#v1").unwrap();
        assert_eq!(git, r#"git = "https://example.org/keepgate.git", rev = "v1""#);
        let git = dependency("git@example.org:keepgate.git").unwrap();
        assert_eq!(git, r#"git = "git@example.org:keepgate.git""#);
        let clone = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let here = dependency(clone).unwrap();
        assert!(here.starts_with("path = \"/") && here.ends_with("/sdk\""), "{here}");
        assert_eq!(dependency(&format!("{clone}/sdk")).unwrap(), here);
        assert!(dependency("/nonexistent").unwrap_err().to_string().contains("clone"));
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        for lang in Language::ALL {
            let folder = folder.path().join(lang.name());
            let new = New { folder, lang, sdk: None };
            run(&new).unwrap();
            assert!(run(&new).unwrap_err().to_string().contains("exists already"));
        }
    }
}
