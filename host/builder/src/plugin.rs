//! Builds the component of a folder of sources in any of the languages, for `keepgate plugin build`. If a
//! compiler is missing, the error says in one line how to get it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::component::{Builder, Settings, core_file};
use crate::componentize::Componentizer;
use crate::language::Language;
use crate::workspace::{Package, Workspace, cache_folder};
use crate::{files, process, sections};

/// All crates except the plugin's own are compiled once for all plugins on a machine.
const SETTINGS: Settings =
    Settings { folder: "plugin-target", profile: "release", locked: false, may_install: false };

/// Builds the plugin in a folder and returns the path of its component, which is in the same folder. With
/// `may_install`, missing tools are installed if possible: component builders into the cache of the user,
/// and on Debian, as root, a compiler for Rust.
pub fn build(folder: &Path, may_install: bool) -> Result<PathBuf> {
    ensure!(folder.is_dir(), "{} does not exist or is not a folder", folder.display());
    let Some(language) = Language::of(folder) else {
        let files = Language::ALL.map(Language::main_file).join(", ");
        bail!(
            "{} contains no sources of a plugin (one of {files}); `keepgate plugin new` creates some",
            folder.display()
        );
    };
    match language {
        Language::Rust => rust(folder, may_install),
        language => other(language, folder, may_install),
    }
}

/// The component of a crate.
fn rust(folder: &Path, may_install: bool) -> Result<PathBuf> {
    ensure!(
        process::find("cargo").is_some(),
        "cargo is not installed; get Rust 1.95 or newer from https://rustup.rs"
    );
    let workspace = Workspace::load_from(folder)?;
    let package = package(&workspace, folder)?;
    let library = package.targets.iter().find(|target| target.is_cdylib && !target.is_example);
    let library = library.ok_or_else(|| {
        anyhow!("{} is not a plugin: its [lib] needs crate-type = [\"cdylib\"]", package.name)
    })?;
    let builder = Builder::new(&workspace, Settings { may_install, ..SETTINGS })?;
    builder.compile_library(package)?;
    let mut component = builder
        .component(&core_file(&library.name))
        .with_context(|| format!("cannot make a component of {}", package.name))?;
    sections::embed(&mut component, folder)?;
    let file = folder.join(format!("{}.wasm", package.name));
    let replaced = files::replace(&file, &component).and_then(|changed| match changed {
        true => Ok(()),
        // The same bytes, but as new as its sources.
        false => File::options().write(true).open(&file)?.set_modified(SystemTime::now()),
    });
    replaced.with_context(|| file.display().to_string())?;
    Ok(file)
}

/// The package in a folder.
fn package<'a>(workspace: &'a Workspace, folder: &Path) -> Result<&'a Package> {
    let wanted = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let is_it = |package: &&Package| package.folder.canonicalize().is_ok_and(|is| is == wanted);
    workspace.packages.iter().find(is_it).ok_or_else(|| {
        let folder = folder.display();
        anyhow!("{folder} is a workspace; name the folder of one of its packages")
    })
}

/// The component of a project in JavaScript or Python.
fn other(language: Language, folder: &Path, may_install: bool) -> Result<PathBuf> {
    let name = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let mut name = name.file_name().unwrap_or_default().to_owned();
    name.push(".wasm");
    let component = folder.join(name);
    let cache = cache_folder()?;
    let builder = Componentizer::find(language, folder, &cache, may_install)?;
    let begun = Instant::now();
    process::note(&format!("builder: {}", builder.program().display()));
    builder.build(folder, &component)?;
    process::note(&format!("took {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(component)
}

/// A source in a plugin's folder that is newer than its component, if there is one.
pub fn newer_source(folder: &Path, component: &Path) -> Option<PathBuf> {
    let changed = |path: &Path| path.metadata()?.modified();
    let built = changed(component).ok()?;
    let is_newer = |path: &PathBuf| changed(path).is_ok_and(|changed| changed > built);
    sources(folder).into_iter().find(is_newer)
}

/// Files that a component may be built from: without dependencies, build outputs and cases.
fn sources(folder: &Path) -> Vec<PathBuf> {
    const OTHERS: [&str; 4] = ["target", "node_modules", "cases", "__pycache__"];
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || OTHERS.contains(&&*name) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(sources(&path));
        } else if sections::is_for_one(&name) || is_source(&path) {
            found.push(path);
        }
    }
    found
}

fn is_source(path: &Path) -> bool {
    const ENDINGS: [&str; 7] = ["rs", "toml", "js", "mjs", "json", "py", "wit"];
    path.extension().is_some_and(|kind| ENDINGS.iter().any(|known| kind == *known))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_newer_source_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, age: u64| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let component = put("hello.wasm", 100);
        put("src/lib.rs", 200);
        for other in ["cases/a.toml", "README.md", ".git/x.json", "node_modules/a/index.js"] {
            put(other, 1);
        }
        assert_eq!(newer_source(folder.path(), &component), None);
        let changed = put("src/deep/names.rs", 50);
        assert_eq!(newer_source(folder.path(), &component), Some(changed));
        assert_eq!(newer_source(folder.path(), &folder.path().join("gone.wasm")), None);
    }

    #[test]
    fn a_folder_without_sources_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(folder.path(), false).unwrap_err().to_string();
        for part in ["Cargo.toml", "plugin.js", "plugin.py", "keepgate plugin new"] {
            assert!(error.contains(part), "{error}");
        }
        let error = build(&folder.path().join("gone"), false).unwrap_err().to_string();
        assert!(error.contains("is not a folder"), "{error}");
    }
}
