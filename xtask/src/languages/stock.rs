//! The components in these languages that the tests use: both templates, and a plugin of each language
//! that does what goes wrong. They are built again only when what they are made of changes, since
//! Python takes some ten seconds of computing each time.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Language, Toolchain, project};
use keepgate_builder::process::note;

/// A component: its name, its language, and the main file that takes the place of the template's.
type Stock = (&'static str, Language, Option<&'static str>);

const STOCK: [Stock; 4] = [
    ("archive-js", Language::JavaScript, None),
    ("archive-py", Language::Python, None),
    (
        "faults-js",
        Language::JavaScript,
        Some(include_str!("../../../tests/guests/languages/faults.js")),
    ),
    (
        "faults-py",
        Language::Python,
        Some(include_str!("../../../tests/guests/languages/faults.py")),
    ),
];

/// The files that [`build`] makes in a folder.
pub(crate) fn stock_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    STOCK.into_iter().map(move |(name, ..)| folder.join(format!("{name}.wasm")))
}

/// Builds them into `output`, by way of `scratch`, where their projects stay for people to look at.
/// Returns a `skipped:` line for each language that nothing on this machine can build.
pub(crate) fn build(cache: &Path, scratch: &Path, output: &Path) -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    for language in Language::ALL {
        let toolchain = match Toolchain::find(language, cache) {
            Ok(toolchain) => toolchain,
            Err(error) => {
                let why = format!("{error:#}").replace('\n', " ");
                let line = format!("skipped: checks of plugins in {}: {why}", language.name());
                note(&line);
                skipped.push(line);
                continue;
            }
        };
        for (name, _, main) in STOCK.into_iter().filter(|(_, of, _)| *of == language) {
            build_one(&toolchain, language, (name, main), scratch, output)
                .with_context(|| format!("{name} cannot be built"))?;
        }
    }
    Ok(skipped)
}

fn build_one(
    toolchain: &Toolchain,
    language: Language,
    (name, main): (&str, Option<&str>),
    scratch: &Path,
    output: &Path,
) -> Result<()> {
    let component = output.join(format!("{name}.wasm"));
    let stamp = scratch.join(format!("{name}.made-of"));
    let parts = identity(toolchain, language, main);
    let is_made = || fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == parts);
    let change = if component.exists() && is_made() {
        "unchanged"
    } else {
        let folder = scratch.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        project::create(language, &folder, name)?;
        if let Some(main) = main {
            fs::write(folder.join(language.main_file()), main)?;
        }
        toolchain.build(&folder, &component)?;
        fs::write(&stamp, parts)?;
        "written"
    };
    let size = component.metadata()?.len().div_ceil(1024);
    note(&format!("{}: {size} KiB, {change}", component.display()));
    Ok(())
}

fn identity(toolchain: &Toolchain, language: Language, main: Option<&str>) -> String {
    let mut hasher = DefaultHasher::new();
    main.hash(&mut hasher);
    project::parts(language).for_each(|text| text.hash(&mut hasher));
    format!("{} {:016x}\n", toolchain.version(), hasher.finish())
}
