//! Builds the components in JavaScript and Python that the tests use: both templates, and for each language a
//! plugin that fails in various ways. They are built as an author builds them, with `keepgate plugin new`,
//! `build` and `test`; their component builders are installed here. They are built again only if their
//! sources change, since Python takes about ten seconds of CPU time.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use keepgate_builder::componentize::Componentizer;
use keepgate_builder::language::Language;
use keepgate_builder::process::{self, note};
use keepgate_builder::project;
use keepgate_builder::workspace::Workspace;

use crate::run;

/// A component: its name, its language, and the main file that replaces the one of the template.
type Sample = (&'static str, Language, Option<&'static str>);

const SAMPLES: [Sample; 4] = [
    ("archive-js", Language::JavaScript, None),
    ("archive-py", Language::Python, None),
    (
        "faults-js",
        Language::JavaScript,
        Some(include_str!("../../tests/guests/languages/faults.js")),
    ),
    ("faults-py", Language::Python, Some(include_str!("../../tests/guests/languages/faults.py"))),
];

/// The files that [`build`] creates in a folder.
pub(crate) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    SAMPLES.into_iter().map(move |(name, ..)| folder.join(format!("{name}.wasm")))
}

/// Builds the components into the folder of the test guests. Their projects stay in the target folder for
/// inspection. Returns a `skipped:` line for each language that cannot be built on this machine.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<String>> {
    process::step("plugins in JavaScript and Python");
    let output = workspace.test_guests();
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let mut skipped = Vec::new();
    for language in [Language::JavaScript, Language::Python] {
        let builder = match Componentizer::install(language, &workspace.cache) {
            Ok(builder) => builder,
            Err(error) => {
                let why = format!("{error:#}").replace('\n', " ");
                let line = format!("skipped: checks of plugins in {}: {why}", language.title());
                note(&line);
                skipped.push(line);
                continue;
            }
        };
        for (name, _, main) in SAMPLES.into_iter().filter(|(_, of, _)| *of == language) {
            let made_of = identity(&builder, language, main);
            build_one(workspace, language, (name, main), &made_of)
                .with_context(|| format!("cannot build {name}"))?;
        }
    }
    Ok(skipped)
}

fn build_one(
    workspace: &Workspace,
    language: Language,
    (name, main): (&str, Option<&str>),
    made_of: &str,
) -> Result<()> {
    let component = workspace.test_guests().join(format!("{name}.wasm"));
    let scratch = workspace.target.join("languages");
    let (folder, stamp) = (scratch.join(name), scratch.join(format!("{name}.made-of")));
    let is_made = || fs::read_to_string(&stamp).is_ok_and(|before| before == made_of);
    let change = if component.exists() && folder.exists() && is_made() {
        "unchanged"
    } else {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&scratch)?;
        plugin(workspace, "new", &folder, &["--lang", language.name()])?;
        if let Some(main) = main {
            fs::write(folder.join(language.main_file()), main)?;
        }
        plugin(workspace, "build", &folder, &[])?;
        fs::copy(folder.join(format!("{name}.wasm")), &component)?;
        fs::write(&stamp, made_of)?;
        "written"
    };
    // The cases are those of the template; other plugins have none.
    if main.is_none() {
        plugin(workspace, "test", &folder, &[])?;
    }
    let size = component.metadata()?.len().div_ceil(1024);
    note(&format!("{}: {size} KiB, {change}", component.display()));
    Ok(())
}

/// Runs `keepgate plugin COMMAND FOLDER`; prints nothing unless it fails.
fn plugin(workspace: &Workspace, command: &str, folder: &Path, more: &[&str]) -> Result<()> {
    let mut tools = Command::new(workspace.program(run::PLUGIN_TOOLS));
    tools.arg(command).arg(folder).args(more).env("KEEPGATE_CACHE", &workspace.cache);
    process::output_of_both(&mut tools).map(drop)
}

fn identity(builder: &Componentizer, language: Language, main: Option<&str>) -> String {
    let mut hasher = DefaultHasher::new();
    main.hash(&mut hasher);
    project::parts(language).for_each(|text| text.hash(&mut hasher));
    format!("{} {:016x}\n", builder.version(), hasher.finish())
}
