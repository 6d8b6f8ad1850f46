//! Builds the guests of this workspace. Files are replaced atomically and only if their bytes change, so that
//! a running gateway reloads exactly what has changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use keepgate_builder::component::{Builder, Settings, core_file};
use keepgate_builder::process::{note, step};
use keepgate_builder::workspace::{Package, Target, Workspace};
use keepgate_builder::{files, sections};

use crate::languages;

/// All clones on a machine share one folder.
const SETTINGS: Settings =
    Settings { folder: "guest-target", profile: "guest", locked: true, may_install: true };
/// The package with the hostile guests of the tests.
const TEST_GUESTS: &str = "keepgate-guests";

/// One component to build.
#[derive(Debug, PartialEq, Eq)]
struct Guest {
    /// The name of its file, without `.wasm`.
    name: String,
    /// The folder of its crate.
    folder: PathBuf,
    /// The core module that cargo builds, relative to the folder of target and profile.
    core: PathBuf,
}

/// Builds every plugin of the workspace into [`Workspace::plugins`] and, on request, the guests of the tests
/// into [`Workspace::test_guests`].
pub(crate) fn build(workspace: &Workspace, with_test_guests: bool) -> Result<()> {
    step("plugins");
    let packages = plugin_packages(workspace);
    let plugins: Vec<_> = packages.iter().map(|package| plugin(package)).collect::<Result<_>>()?;
    ensure!(!plugins.is_empty(), "no plugin crate in {}", workspace.root.join("plugins").display());
    let builder = Builder::new(workspace, SETTINGS)?;
    for package in packages {
        builder.compile_library(package)?;
    }
    collect(&builder, &plugins, &workspace.plugins())?;
    if !with_test_guests {
        return Ok(());
    }

    step("test guests");
    let Some(package) = workspace.package(TEST_GUESTS) else {
        note(&format!("the workspace has no member {TEST_GUESTS}: nothing to build"));
        return Ok(());
    };
    let guests = test_guests(package)?;
    builder.compile("build", package, &["--examples"])?;
    collect(&builder, &guests, &workspace.test_guests())
}

/// The packages directly below plugins/.
fn plugin_packages(workspace: &Workspace) -> Vec<&Package> {
    let folder = workspace.root.join("plugins");
    let packages = workspace.packages.iter();
    packages.filter(|package| package.folder.parent() == Some(&folder)).collect()
}

fn plugin(package: &Package) -> Result<Guest> {
    let folder = package.folder.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        package.name == format!("keepgate-{folder}"),
        "the plugin in plugins/{folder} must be named keepgate-{folder}, not {}",
        package.name
    );
    let mut targets = package.targets.iter();
    let Some(library) = targets.find(|target| target.is_cdylib && !target.is_example) else {
        bail!("{} is not a component: its [lib] needs crate-type = [\"cdylib\"]", package.name);
    };
    Ok(Guest {
        name: folder.into_owned(),
        folder: package.folder.clone(),
        core: core_file(&library.name),
    })
}

fn test_guests(package: &Package) -> Result<Vec<Guest>> {
    let examples = package.targets.iter().filter(|target| target.is_example);
    let guest = |target: &Target| {
        ensure!(
            target.is_cdylib,
            "the test guest {} needs an [[example]] with crate-type = [\"cdylib\"]",
            target.name
        );
        let core = Path::new("examples").join(core_file(&target.name));
        Ok(Guest { name: target.name.clone(), folder: package.folder.clone(), core })
    };
    examples.map(guest).collect()
}

/// Writes the components of compiled guests to `folder`.
fn collect(builder: &Builder<'_>, guests: &[Guest], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut files = BTreeSet::new();
    for guest in guests {
        let mut component = builder
            .component(&guest.core)
            .with_context(|| format!("cannot make a component of {}", guest.name))?;
        sections::embed(&mut component, &guest.folder)?;
        let file = folder.join(format!("{}.wasm", guest.name));
        let changed = files::replace(&file, &component)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        let change = if changed { "written" } else { "unchanged" };
        let size = component.len().div_ceil(1024);
        note(&format!("{}: {size} KiB, {change}", file.display()));
        files.insert(file);
    }
    files.extend(languages::files(folder));
    files::remove_others(folder, &files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, folder: &str, targets: Vec<Target>) -> Package {
        Package { name: name.into(), folder: folder.into(), rust_version: None, targets }
    }

    fn target(name: &str, is_example: bool, is_cdylib: bool) -> Target {
        Target { name: name.into(), is_example, is_cdylib }
    }

    #[test]
    fn plugins_are_the_crates_directly_under_plugins() {
        let workspace = Workspace::sample(
            Path::new("/w"),
            vec![
                package("keepgate-restic", "/w/plugins/restic", vec![]),
                package("deep", "/w/plugins/restic/deep", vec![]),
                package("keepgate-store", "/w/host/store", vec![]),
            ],
        );
        let names: Vec<_> = plugin_packages(&workspace).iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["keepgate-restic"]);
    }

    #[test]
    fn a_plugin_is_named_after_its_folder() {
        let library = || vec![target("keepgate_data_backer", false, true)];
        let found = plugin(&package("keepgate-data-backer", "/w/plugins/data-backer", library()));
        let guest = Guest {
            name: "data-backer".into(),
            folder: "/w/plugins/data-backer".into(),
            core: "keepgate_data_backer.wasm".into(),
        };
        assert_eq!(found.unwrap(), guest);
        let error = plugin(&package("restic", "/w/plugins/restic", library())).unwrap_err();
        assert!(error.to_string().contains("keepgate-restic"), "{error}");
        let error = plugin(&package("keepgate-x", "/w/plugins/x", vec![])).unwrap_err();
        assert!(error.to_string().contains("cdylib"), "{error}");
    }

    #[test]
    fn test_guests_are_examples() {
        let targets = vec![target("lib", false, true), target("eat-memory", true, true)];
        let found = test_guests(&package(TEST_GUESTS, "/w/tests/guests", targets)).unwrap();
        let core = "examples/eat_memory.wasm".into();
        assert_eq!(
            found,
            [Guest { name: "eat-memory".into(), folder: "/w/tests/guests".into(), core }]
        );
        let targets = vec![target("loop", true, false)];
        let error = test_guests(&package(TEST_GUESTS, "/w/tests/guests", targets)).unwrap_err();
        assert!(error.to_string().contains("loop"), "{error}");
    }
}
