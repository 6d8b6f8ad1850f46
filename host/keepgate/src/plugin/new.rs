//! `keepgate plugin new`: a folder with a small plugin that does something real, its tests and a
//! README. Nothing that is there is ever overwritten.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::arguments::New;

/// The clone that this program was built from: its SDK fits, where it is still there.
const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Writes the files, and says what to do next.
#[expect(clippy::print_stdout, reason = "this is a command's output")]
pub(crate) fn run(arguments: &New) -> Result<()> {
    let folder = &arguments.folder;
    let name = name(folder)?;
    let template = arguments.lang.template().map_err(|why| anyhow!(why))?;
    let built_from = Path::new(BUILT_FROM);
    let sdk = dependency(arguments.sdk.as_deref(), built_from)?;
    let empty = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} exists already, and is not empty; choose another name", folder.display());
    for (path, text) in template {
        let path = folder.join(path);
        let text = text.replace("{{name}}", name).replace("{{sdk}}", &sdk);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text)).with_context(|| path.display().to_string())?;
        println!("  {}", path.display());
    }
    let shown = folder.display();
    println!(
        "\nnext:\n  cargo test --manifest-path {shown}/Cargo.toml   # its logic, in memory\n  \
         keepgate plugin build {shown}   # makes {shown}/{name}.wasm\n  \
         keepgate plugin check {shown}/{name}.wasm"
    );
    Ok(())
}

/// The plugin's name: what cargo, files and paths of mounts all take.
fn name(folder: &Path) -> Result<&str> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters);
    // Names that cargo refuses, or that would hide a crate which the template uses.
    let taken = ["test", "core", "std", "alloc", "proc-macro", "serde", "keepgate-sdk", "self"];
    ensure!(
        good && !name.ends_with('-') && !taken.contains(&name),
        "{name:?} cannot name a plugin: small letters, digits and `-`, a letter first; and not {}",
        taken.join(", ")
    );
    Ok(name)
}

/// The SDK as a dependency in cargo's words.
fn dependency(asked: Option<&str>, built_from: &Path) -> Result<String> {
    match asked {
        Some(url) if url.contains("://") || url.starts_with("git@") => {
            Ok(match url.split_once('#') {
                Some((url, revision)) => {
                    format!("git = {}, rev = {}", quoted(url), quoted(revision))
                }
                None => format!("git = {}", quoted(url)),
            })
        }
        Some(folder) => match sdk_in(Path::new(folder)) {
            Some(sdk) => Ok(format!("path = {}", quoted(&sdk.display().to_string()))),
            None => bail!("{folder} has no keepgate-sdk: name a clone of Keepgate, or a git URL"),
        },
        None => match sdk_in(built_from) {
            Some(sdk) => Ok(format!("path = {}", quoted(&sdk.display().to_string()))),
            None => bail!(
                "the clone that this program was built from is gone; say where the SDK is: \
                 --sdk FOLDER of a clone of Keepgate, or --sdk URL of its git repository"
            ),
        },
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
    use crate::plugin::language::Language;

    #[test]
    fn names_are_what_cargo_and_paths_take() {
        for good in ["hello", "etcd-2", "x"] {
            assert_eq!(name(Path::new("some/where").join(good).as_path()).unwrap(), good);
        }
        for bad in ["Hello", "2x", "a b", "a/..", "-x", "x-", "ä", "test", "serde", ""] {
            assert!(name(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sdk_comes_from_where_it_is_said() {
        let gone = Path::new("/nonexistent");
        let git = dependency(Some("https://example.org/keepgate.git#v1"), gone).unwrap();
        assert_eq!(git, r#"git = "https://example.org/keepgate.git", rev = "v1""#);
        let git = dependency(Some("git@example.org:keepgate.git"), gone).unwrap();
        assert_eq!(git, r#"git = "git@example.org:keepgate.git""#);
        let here = dependency(None, Path::new(BUILT_FROM)).unwrap();
        assert!(here.starts_with("path = \"/") && here.ends_with("/sdk\""), "{here}");
        assert_eq!(dependency(Some(BUILT_FROM), gone).unwrap(), here);
        assert_eq!(dependency(Some(&format!("{BUILT_FROM}/sdk")), gone).unwrap(), here);
        assert!(dependency(None, gone).unwrap_err().to_string().contains("--sdk"));
        assert!(dependency(Some("/nonexistent"), gone).unwrap_err().to_string().contains("clone"));
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let hello = folder.path().join("hello");
        let new = New { folder: hello.clone(), lang: Language::Rust, sdk: None };
        run(&new).unwrap();
        let manifest = fs::read_to_string(hello.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"hello\"") && !manifest.contains("{{"), "{manifest}");
        assert!(hello.join(".gitignore").exists() && hello.join("src/tests.rs").exists());
        assert!(run(&new).unwrap_err().to_string().contains("exists already"));
    }

    #[test]
    fn languages_to_come_are_refused_in_words() {
        for lang in [Language::Js, Language::Python] {
            let new = New { folder: "hello".into(), lang, sdk: None };
            assert!(run(&new).unwrap_err().to_string().contains("in this version"));
        }
    }
}
