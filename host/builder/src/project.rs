//! New projects: the template of a language, cases, and a copy of the SDK and the contract in the folder
//! `keepgate`, so that nothing has to be downloaded and the project can be moved. `build.rs` embeds all of
//! these files in this program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::language::Language;

/// Placeholders in templates: the name of the plugin, and the dependency on the SDK.
const NAME: &str = "{{name}}";
const SDK: &str = "{{sdk}}";

/// The folder in a project for SDK and contract.
const OWN: &str = "keepgate";

/// The path of a file and its text.
type File = (&'static str, &'static str);

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The manifest of the SDK in a copy, where it is not a member of this workspace.
const RUST_SDK_MANIFEST: File =
    ("Cargo.toml", include_str!("../../../sdk/templates/rust-sdk.toml"));

/// One world with everything of `plugin` and `worker`. A plugin without jobs exports the runner, too; the
/// host only calls it for plugins that declare kinds of jobs.
const WORLD: File = (
    "with-jobs.wit",
    "/// For SDKs that always export both.\n\
     world plugin-with-jobs {\n  include plugin;\n  include worker;\n}\n",
);
/// The name of that world.
pub(crate) const WORLD_NAME: &str = "plugin-with-jobs";

fn template(language: Language) -> &'static [File] {
    match language {
        Language::Rust => RUST_TEMPLATE,
        Language::JavaScript => JS_TEMPLATE,
        Language::Python => PYTHON_TEMPLATE,
    }
}

/// The files of a language's SDK, with paths relative to [`OWN`].
fn sdk(language: Language) -> Vec<(PathBuf, &'static str)> {
    let below = |folder: &'static str, files: &'static [File]| {
        files.iter().map(move |(file, text)| (Path::new(folder).join(file), *text))
    };
    match language {
        Language::Rust => below("sdk/src", RUST_SDK)
            .chain(below("sdk", &[RUST_SDK_MANIFEST]))
            .chain(below("wit/0.1.0", CONTRACT))
            .collect(),
        Language::JavaScript => below("", JS_SDK).chain(contract()).collect(),
        Language::Python => below("", PYTHON_SDK).chain(contract()).collect(),
    }
}

/// The contract with the world for JavaScript and Python, with paths relative to [`OWN`].
fn contract() -> impl Iterator<Item = (PathBuf, &'static str)> {
    let files = CONTRACT.iter().chain([&WORLD]);
    files.map(|(file, text)| (Path::new("wit").join(file), *text))
}

/// Creates a project in a new or empty folder. `sdk` is the dependency on the SDK for plugins in Rust, as in a
/// Cargo.toml; by default they get a copy. Returns the author's files and the folder of the SDK.
pub fn create(
    language: Language,
    folder: &Path,
    name: &str,
    sdk: Option<&str>,
) -> Result<Vec<PathBuf>> {
    let mut entries = folder.read_dir().into_iter().flatten().flatten();
    ensure!(
        entries.all(|entry| entry.file_name() == ".git"),
        "{} exists already and is not empty; choose another name",
        folder.display()
    );
    let source = sdk.unwrap_or("path = \"keepgate/sdk\"");
    let mut written = Vec::new();
    for (file, text) in template(language) {
        // In this repository, git would apply a `.gitignore` of a template, and cargo a `Cargo.toml`.
        let file = match *file {
            "gitignore" => ".gitignore",
            "Cargo.toml.in" => "Cargo.toml",
            file => file,
        };
        let text = text.replace(NAME, name).replace(SDK, source);
        written.push(write(folder, Path::new(file), &text)?);
    }
    for (file, text) in CASES {
        written.push(write(folder, &Path::new("cases").join(file), text)?);
    }
    if sdk.is_none() {
        add_sdk(language, folder)?;
        written.push(folder.join(OWN));
    }
    Ok(written)
}

/// Writes SDK and contract into a project in JavaScript or Python that lacks them. Existing files are kept.
pub(crate) fn add_sdk(language: Language, folder: &Path) -> Result<()> {
    let own = folder.join(OWN);
    let files = match own.exists() {
        false => sdk(language),
        true if own.join("wit").exists() => return Ok(()),
        true => contract().collect(),
    };
    files.iter().try_for_each(|(file, text)| write(&own, file, text).map(drop))
}

/// The folder of the contract for building a project in JavaScript or Python.
pub(crate) fn contract_of(folder: &Path) -> PathBuf {
    folder.join(OWN).join("wit")
}

/// The texts of all files of a new project, to detect changes.
pub fn parts(language: Language) -> impl Iterator<Item = &'static str> {
    let sdk = sdk(language).into_iter().map(|(_, text)| text);
    template(language).iter().chain(CASES).map(|(_, text)| *text).chain(sdk)
}

fn write(folder: &Path, file: &Path, text: &str) -> Result<PathBuf> {
    let path = folder.join(file);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_project_has_its_name_and_the_sdk() {
        for language in Language::ALL {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().join("hello");
            let written = create(language, &folder, "hello", None).unwrap();
            assert_eq!(Language::of(&folder), Some(language));
            for file in written.iter().filter(|path| path.is_file()) {
                let text = fs::read_to_string(file).unwrap();
                assert!(!text.contains("{{"), "{}", file.display());
            }
            let main = fs::read_to_string(folder.join(language.main_file())).unwrap();
            assert!(main.contains("\"hello\""), "{main}");
            for file in [".gitignore", "README.md", "cases/archives.toml"] {
                assert!(folder.join(file).is_file(), "{language:?}: {file}");
            }
            assert!(folder.join("keepgate").is_dir());
            let error = create(language, &folder, "other", None).unwrap_err();
            assert!(error.to_string().contains("not empty"), "{error}");
        }
    }

    #[test]
    fn a_repository_that_was_just_made_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        create(Language::JavaScript, folder.path(), "hello", None).unwrap();
    }

    #[test]
    fn another_sdk_takes_the_place_of_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        create(Language::Rust, folder.path(), "hello", Some("git = \"there\"")).unwrap();
        let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("keepgate-sdk = { git = \"there\" }"), "{manifest}");
        assert!(!folder.path().join("keepgate").exists());
    }

    #[test]
    fn an_sdk_that_is_there_stays_and_gets_its_contract() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join(OWN), Path::new("index.js"), "mine").unwrap();
        add_sdk(Language::JavaScript, folder.path()).unwrap();
        let kept = fs::read_to_string(folder.path().join("keepgate/index.js")).unwrap();
        assert_eq!(kept, "mine");
        assert!(contract_of(folder.path()).join("http.wit").is_file());
        assert!(!folder.path().join("keepgate/store.js").exists());
    }

    #[test]
    fn the_world_is_the_one_that_is_built() {
        assert!(WORLD.1.contains(&format!("world {WORLD_NAME} {{")));
    }

    /// The copy of the SDK that plugins in Rust have is built as the SDK here is.
    #[test]
    fn the_copy_of_the_sdk_depends_on_what_the_sdk_does() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| -> toml::Table {
            fs::read_to_string(root.join(path)).unwrap().parse().unwrap()
        };
        let (workspace, sdk) = (read("Cargo.toml"), read("sdk/Cargo.toml"));
        let copy: toml::Table = RUST_SDK_MANIFEST.1.parse().unwrap();
        let all = &workspace["workspace"]["dependencies"];
        let resolved = |table: Option<&toml::Value>| -> toml::Table {
            let table = table.unwrap().as_table().unwrap().iter();
            table.map(|(name, _)| (name.clone(), all[name].clone())).collect()
        };
        let own = |table: Option<&toml::Value>| table.unwrap().as_table().unwrap().clone();
        assert_eq!(own(copy.get("dependencies")), resolved(sdk.get("dependencies")));
        let (of_copy, of_sdk) = (copy["target"].as_table(), sdk["target"].as_table());
        let (of_copy, of_sdk) = (of_copy.unwrap(), of_sdk.unwrap());
        assert_eq!(of_copy.len(), of_sdk.len());
        for (target, tables) in of_sdk {
            let (copied, tables) =
                (of_copy[target].get("dependencies"), tables.get("dependencies"));
            assert_eq!(own(copied), resolved(tables), "{target}");
        }
        for key in ["version", "edition", "rust-version", "license"] {
            assert_eq!(copy["package"][key], workspace["workspace"]["package"][key], "{key}");
        }
    }
}
