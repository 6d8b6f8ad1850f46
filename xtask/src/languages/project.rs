//! The files of a new project: the template of its language, and the SDK, which lies in the project's
//! folder `keepgate` so that an editor finds it and nothing has to be installed. They are part of
//! this program: a new file of a template or an SDK is a new line here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Language;

/// What stands for the plugin's name in templates.
const NAME: &str = "{{name}}";

type File = (&'static str, &'static str);

/// Files of a folder below sdk/, by their names there. A template's `gitignore` has no dot, because it
/// would count in this repository too.
macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../", $folder, "/", $name)))),+]
    };
}

const CONTRACT: &[File] = files!("wit/0.1.0":
    "blobs.wit", "environment.wit", "etcd.wit", "http.wit", "jobs.wit", "pipes.wit", "types.wit",
    "world.wit",
);

const JS_TEMPLATE: &[File] = files!("sdk/js/template":
    "plugin.js", "package.json", "jsconfig.json", "README.md", "gitignore",
);
const JS_SDK: &[File] = files!("sdk/js/keepgate":
    "blob-reply.js", "body.js", "environment.js", "failure.js", "fields.js", "globals.js", "handles.js",
    "http.js", "index.d.ts", "index.js", "plugin.js", "services.js", "store.js",
);

const PYTHON_TEMPLATE: &[File] =
    files!("sdk/python/template": "plugin.py", "README.md", "gitignore");
const PYTHON_SDK: &[File] = files!("sdk/python/keepgate":
    "__init__.py", "_body.py", "_environment.py", "_failure.py", "_http.py", "_plugin.py", "_store.py",
    "etcd.py", "jobs.py", "pipes.py",
);

/// One world with what `plugin` and `worker` have. A plugin that runs no jobs exports the runner as
/// well, and the host asks only those that name kinds of job.
const WORLD: File = (
    "with-jobs.wit",
    "/// Of plugins whose SDK always exports both.\n\
     world plugin-with-jobs {\n  include plugin;\n  include worker;\n}\n",
);
/// Its name.
pub(super) const WORLD_NAME: &str = "plugin-with-jobs";

fn template(language: Language) -> &'static [File] {
    match language {
        Language::JavaScript => JS_TEMPLATE,
        Language::Python => PYTHON_TEMPLATE,
    }
}

fn sdk(language: Language) -> &'static [File] {
    match language {
        Language::JavaScript => JS_SDK,
        Language::Python => PYTHON_SDK,
    }
}

/// Writes a new project into a folder, which must not have one yet.
pub(crate) fn create(language: Language, folder: &Path, name: &str) -> Result<()> {
    let main = folder.join(language.main_file());
    ensure!(!main.exists(), "{} is there already; choose another folder", main.display());
    for (file, text) in template(language) {
        let file = if *file == "gitignore" { ".gitignore" } else { file };
        write(folder, file, &text.replace(NAME, name))?;
    }
    add_sdk(language, folder)
}

/// Writes the SDK into a project that has none; one that is there is the project's own.
pub(super) fn add_sdk(language: Language, folder: &Path) -> Result<()> {
    let own = folder.join("keepgate");
    if own.exists() {
        return Ok(());
    }
    sdk(language).iter().try_for_each(|(file, text)| write(&own, file, text))
}

/// Writes the contract with the world of these languages into a folder.
pub(super) fn write_contract(folder: &Path) -> Result<()> {
    CONTRACT.iter().chain([&WORLD]).try_for_each(|(file, text)| write(folder, file, text))
}

/// All that a component is made of besides its project's own files, for telling whether it changed.
pub(super) fn parts(language: Language) -> impl Iterator<Item = &'static str> {
    let files = template(language).iter().chain(sdk(language)).chain(CONTRACT).chain([&WORLD]);
    files.map(|(_, text)| *text)
}

fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let path = folder.join(file);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of the files in a folder of this repository.
    fn present(folder: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let entries = folder.read_dir().unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        files.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn no_file_is_forgotten() {
        for (folder, files) in [
            ("wit/0.1.0", CONTRACT),
            ("sdk/js/template", JS_TEMPLATE),
            ("sdk/js/keepgate", JS_SDK),
            ("sdk/python/template", PYTHON_TEMPLATE),
            ("sdk/python/keepgate", PYTHON_SDK),
        ] {
            let named: BTreeSet<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(named, present(folder), "{folder}");
        }
    }

    #[test]
    fn a_new_project_has_its_name_and_the_sdk() {
        for language in Language::ALL {
            let folder = tempfile::tempdir().unwrap();
            create(language, folder.path(), "hello").unwrap();
            assert_eq!(Language::of(folder.path()), Some(language));
            let main = fs::read_to_string(folder.path().join(language.main_file())).unwrap();
            assert!(main.contains("\"hello\"") && !main.contains(NAME), "{main}");
            assert!(folder.path().join(".gitignore").exists());
            assert!(folder.path().join("keepgate").is_dir());
            let error = create(language, folder.path(), "other").unwrap_err();
            assert!(error.to_string().contains(language.main_file()), "{error}");
        }
    }

    #[test]
    fn an_sdk_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("keepgate"), "index.js", "mine").unwrap();
        add_sdk(Language::JavaScript, folder.path()).unwrap();
        let kept = fs::read_to_string(folder.path().join("keepgate/index.js")).unwrap();
        assert_eq!(kept, "mine");
    }

    #[test]
    fn the_world_is_the_one_that_is_built() {
        assert!(WORLD.1.contains(&format!("world {WORLD_NAME} {{")));
    }
}
