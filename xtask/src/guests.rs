//! Building guests: each `cdylib` is compiled to a core module and wrapped into a component in
//! process. Files are replaced atomically and only when their bytes change, so that a running
//! gateway reloads exactly what changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use wit_component::ComponentEncoder;

use crate::process::{note, step};
use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::{Package, Target, Workspace};
use crate::{files, languages, process};

/// The profile of the workspace's Cargo.toml that guests are built with.
const PROFILE: &str = "guest";
/// The member that holds the hostile guests of the tests.
const TEST_GUESTS: &str = "keepgate-guests";

/// One component to build.
#[derive(Debug, PartialEq, Eq)]
struct Guest {
    /// The file it becomes, `NAME.wasm`.
    name: String,
    /// Where cargo leaves the core module, below the folder of target and profile.
    core: PathBuf,
}

/// Builds every plugin of the workspace into [`Workspace::plugins`] and, if they are asked for and
/// the workspace has them, the guests of the tests into [`Workspace::test_guests`].
pub(crate) fn build(workspace: &Workspace, with_test_guests: bool) -> Result<()> {
    step("plugins");
    let packages = plugin_packages(workspace);
    let plugins: Vec<_> = packages.iter().map(|package| plugin(package)).collect::<Result<_>>()?;
    ensure!(
        !plugins.is_empty(),
        "no plugin crate under {}",
        workspace.root.join("plugins").display()
    );
    let builder = Builder::new(workspace)?;
    for package in packages {
        // With its `rlib` beside it, which native tests need, the `cdylib` would not be optimised
        // across crates and come out half as large again.
        let library = ["--lib", "--crate-type", "cdylib"];
        builder.compile("rustc", package, &library)?;
    }
    builder.collect(&plugins, &workspace.plugins())?;
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
    builder.collect(&guests, &workspace.test_guests())
}

/// The members that lie directly under plugins/ and have a `cdylib`.
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
        bail!("{} is no component: its [lib] needs crate-type = [\"cdylib\"]", package.name);
    };
    Ok(Guest { name: folder.into_owned(), core: core_file(&library.name) })
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
        Ok(Guest { name: target.name.clone(), core })
    };
    examples.map(guest).collect()
}

fn core_file(target: &str) -> PathBuf {
    format!("{}.wasm", target.replace('-', "_")).into()
}

/// Wraps a core module, whose custom sections tell its world, into a component.
fn encode(core: &Path) -> Result<Vec<u8>> {
    let core = fs::read(core).with_context(|| core.display().to_string())?;
    ComponentEncoder::default().validate(true).module(&core)?.encode()
}

/// Compiles guests in the target folder that all clones on this machine share.
struct Builder<'a> {
    workspace: &'a Workspace,
    toolchain: Toolchain,
    target: PathBuf,
    /// Held as long as core modules are built and read: another clone's build would replace them.
    _lock: File,
}

impl<'a> Builder<'a> {
    fn new(workspace: &'a Workspace) -> Result<Self> {
        let toolchain = Toolchain::find(workspace)?;
        let target = workspace.cache.join("guest-target");
        fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
        let lock = files::lock(&target.join("xtask.lock"))?;
        let builder = Self { workspace, toolchain, target, _lock: lock };
        builder.forget_other_clones()?;
        Ok(builder)
    }

    /// Compiles what `targets` names of a package; `subcommand` is a cargo command that builds.
    fn compile(&self, subcommand: &str, package: &Package, targets: &[&str]) -> Result<()> {
        let mut command = self.cargo(subcommand);
        command.args(["--package", &package.name]).args(targets);
        process::run(command.args(self.toolchain.build_arguments()))
    }

    /// Makes components of what was compiled, in `folder`.
    fn collect(&self, guests: &[Guest], folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let cores = self.target.join(TARGET).join(PROFILE);
        let mut files = BTreeSet::new();
        for guest in guests {
            let component = encode(&cores.join(&guest.core))
                .with_context(|| format!("{} does not make a component", guest.name))?;
            let file = folder.join(format!("{}.wasm", guest.name));
            let changed = files::replace(&file, &component)
                .with_context(|| format!("{} cannot be written", file.display()))?;
            let change = if changed { "written" } else { "unchanged" };
            let size = component.len().div_ceil(1024);
            note(&format!("{}: {size} KiB, {change}", file.display()));
            files.insert(file);
        }
        files.extend(languages::stock_files(folder));
        files::remove_others(folder, &files)
    }

    /// So that the standard library is built once, all clones on a machine share one target
    /// folder. But cargo gives a `cdylib` the same file name whichever clone and compiler it comes
    /// from, and would take another clone's for fresh. So whoever finds the folder used by another
    /// one has the workspace's own crates built again; the standard library and other crates stay.
    fn forget_other_clones(&self) -> Result<()> {
        let marker = self.target.join("xtask.owner");
        let us = format!("{}\n{}", self.workspace.root.display(), self.toolchain.identity()?);
        if fs::read_to_string(&marker).is_ok_and(|owner| owner == us) {
            return Ok(());
        }
        if self.target.join(TARGET).exists() {
            let mut command = self.cargo("clean");
            let packages = self.workspace.packages.iter();
            command.arg("--quiet").args(packages.flat_map(|package| ["--package", &package.name]));
            process::run(&mut command)?;
        }
        fs::write(&marker, us).with_context(|| marker.display().to_string())
    }

    fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.toolchain.cargo(self.workspace, subcommand);
        command.args(["--profile", PROFILE, "--target", TARGET, "--target-dir"]);
        command.arg(&self.target).args(self.workspace.locked());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tests::sample;

    fn package(name: &str, folder: &str, targets: Vec<Target>) -> Package {
        Package { name: name.into(), folder: folder.into(), rust_version: None, targets }
    }

    fn target(name: &str, is_example: bool, is_cdylib: bool) -> Target {
        Target { name: name.into(), is_example, is_cdylib }
    }

    #[test]
    fn plugins_are_the_crates_directly_under_plugins() {
        let workspace = sample(
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
        let guest = Guest { name: "data-backer".into(), core: "keepgate_data_backer.wasm".into() };
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
        assert_eq!(found, [Guest { name: "eat-memory".into(), core }]);
        let targets = vec![target("loop", true, false)];
        let error = test_guests(&package(TEST_GUESTS, "/w/tests/guests", targets)).unwrap_err();
        assert!(error.to_string().contains("loop"), "{error}");
    }

    #[test]
    fn a_module_without_a_world_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.wasm");
        fs::write(&path, b"not wasm").unwrap();
        assert!(encode(&path).is_err());
    }
}
