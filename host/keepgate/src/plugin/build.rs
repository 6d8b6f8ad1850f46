//! `keepgate plugin build`: from a folder of sources to a component in it, by whatever compiler is
//! here. Where there is none, one line says how to get it: nothing is installed that belongs to the
//! system.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use keepgate_builder::component::{Builder, Settings, core_file};
use keepgate_builder::workspace::{Package, Workspace};
use keepgate_builder::{files, process};
use keepgate_runtime::Inspection;

use super::language::Language;
use super::size;

/// Everything but a plugin's own crate is compiled once for all plugins on a machine.
const SETTINGS: Settings =
    Settings { folder: "plugin-target", profile: "release", locked: false, may_install: false };

/// Builds a plugin, and says where it is.
#[expect(clippy::print_stdout, reason = "this is a command's output")]
pub(crate) fn run(folder: &Path) -> Result<()> {
    let component = match Language::of(folder) {
        Some(Language::Rust) => rust(folder)?,
        Some(language) => bail!(language.missing()),
        None => bail!(
            "{} has no sources of a plugin: no Cargo.toml; `keepgate plugin new` makes some",
            folder.display()
        ),
    };
    let bytes = super::read(&component)?;
    let seen = Inspection::of(&bytes);
    println!("{}: {}", component.display(), size(seen.size));
    if let Some(why) = seen.refusal {
        bail!("{}: {why}", component.display());
    }
    match seen.differences.first() {
        Some(difference) => bail!("{}: {difference}", component.display()),
        None => Ok(()),
    }
}

/// The component of a crate; the path of its file.
fn rust(folder: &Path) -> Result<PathBuf> {
    if process::find("cargo").is_none() {
        bail!("there is no cargo here; get Rust by https://rustup.rs, 1.95 or newer");
    }
    let workspace = Workspace::load_from(folder)?;
    let package = package(&workspace, folder)?;
    let library = package.targets.iter().find(|target| target.is_cdylib && !target.is_example);
    let library = library.ok_or_else(|| {
        anyhow!("{} is no plugin: its [lib] needs crate-type = [\"cdylib\"]", package.name)
    })?;
    let builder = Builder::new(&workspace, SETTINGS)?;
    builder.compile_library(package)?;
    let component = builder
        .component(&core_file(&library.name))
        .with_context(|| format!("{} does not make a component", package.name))?;
    let file = folder.join(format!("{}.wasm", package.name));
    files::replace(&file, &component).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// The package whose folder this is.
fn package<'a>(workspace: &'a Workspace, folder: &Path) -> Result<&'a Package> {
    let wanted = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let is_it = |package: &&Package| package.folder.canonicalize().is_ok_and(|is| is == wanted);
    workspace.packages.iter().find(is_it).ok_or_else(|| {
        let folder = folder.display();
        anyhow!("{folder} is no package but a workspace; name the folder of one of its packages")
    })
}
