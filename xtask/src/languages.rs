//! The components in JavaScript and Python that the tests use: both templates, and a plugin of each
//! language that does what goes wrong. They are made as an author makes them, by the gateway's own
//! `plugin new`, `build` and `test`; what their builders need is installed here. They are built again
//! only when what they are made of changes, since Python takes some ten seconds of computing each time.

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

/// A component: its name, its language, and the main file that takes the place of the template's.
type Stock = (&'static str, Language, Option<&'static str>);

const STOCK: [Stock; 4] = [
    ("archive-js", Language::JavaScript, None),
    ("archive-py", Language::Python, None),
    (
        "faults-js",
        Language::JavaScript,
        Some(include_str!("../../tests/guests/languages/faults.js")),
    ),
    ("faults-py", Language::Python, Some(include_str!("../../tests/guests/languages/faults.py"))),
];

/// The files that [`build`] makes in a folder.
pub(crate) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    STOCK.into_iter().map(move |(name, ..)| folder.join(format!("{name}.wasm")))
}

/// Builds them beside the other guests of the tests; their projects stay below the target folder for
/// people to look at. Returns a `skipped:` line for each language that nothing on this machine can
/// build.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<String>> {
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
        for (name, _, main) in STOCK.into_iter().filter(|(_, of, _)| *of == language) {
            let made_of = identity(&builder, language, main);
            build_one(workspace, language, (name, main), &made_of)
                .with_context(|| format!("{name} cannot be built"))?;
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
    // The cases are the template's: what is not the template's plugin has none.
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
