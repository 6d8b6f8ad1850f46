//! `keepgate plugin new`: creates a folder with a small but useful plugin, its cases, a README and the SDK.
//! Existing files are never overwritten.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use keepgate_builder::language::Language;
use keepgate_builder::project;

use crate::arguments::New;
use keepgate::output::say;

/// Writes the files and prints the next steps.
pub(crate) fn run(arguments: &New) -> Result<()> {
    let folder = &arguments.folder;
    let name = name(folder)?;
    // KEEPGATE_SDK in the environment does not concern the other languages.
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

/// The name of the plugin. It must be valid as a crate, a file and a path.
fn name(folder: &Path) -> Result<String> {
    let whole = std::path::absolute(folder)?;
    let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters);
    // Names that cargo rejects, or that would shadow a crate of the template.
    let taken = ["test", "core", "std", "alloc", "proc-macro", "serde", "keepgate-sdk", "self"];
    ensure!(
        good && !name.ends_with('-') && !taken.contains(&name),
        "{name:?} is not a valid name for a plugin: use lower-case letters, digits and `-`, starting with a \
         letter, but none of {}",
        taken.join(", ")
    );
    Ok(name.to_owned())
}

/// The SDK as a dependency in Cargo.toml.
fn dependency(asked: &str) -> Result<String> {
    if asked.contains("://") || asked.starts_with("git@") {
        return Ok(match asked.split_once('#') {
            Some((url, revision)) => format!("git = {}, rev = {}", quoted(url), quoted(revision)),
            None => format!("git = {}", quoted(asked)),
        });
    }
    match sdk_in(Path::new(asked)) {
        Some(sdk) => {
            let text = sdk.to_str().with_context(|| {
                format!(
                    "Cargo.toml cannot name {}, which is not UTF-8; copy the SDK",
                    sdk.display()
                )
            })?;
            Ok(format!("path = {}", quoted(text)))
        }
        None => bail!("{asked} contains no keepgate-sdk; name a clone of Keepgate or a git URL"),
    }
}

/// The folder of the SDK in a clone, or `folder` itself if it is the SDK.
fn sdk_in(folder: &Path) -> Option<PathBuf> {
    let is_sdk = |folder: &PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("name = \"keepgate-sdk\"")
    };
    let found = [folder.join("sdk"), folder.to_owned()].into_iter().find(is_sdk)?;
    found.canonicalize().ok()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_for_cargo_and_paths() {
        for good in ["hello", "archive-2", "x"] {
            assert_eq!(name(&Path::new("some/where").join(good)).unwrap(), good);
        }
        for bad in ["Hello", "2x", "a b", "a/..", "-x", "x-", "ä", "test", "serde", "/"] {
            assert!(name(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sdk_is_taken_from_the_given_place() {
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
    fn existing_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for lang in Language::ALL {
            let folder = folder.path().join(lang.name());
            let new = New { folder, lang, sdk: None };
            run(&new).unwrap();
            assert!(run(&new).unwrap_err().to_string().contains("exists already"));
        }
    }
}
