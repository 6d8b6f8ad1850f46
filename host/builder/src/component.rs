//! From a crate to a component: compiles it to a core module, in a target folder that all workspaces on this
//! machine share, and wraps that.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::{Package, Workspace};
use crate::{cargo_home, files, process};

/// Options of a [`Builder`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The target folder, relative to [`Workspace::cache`].
    pub folder: &'static str,
    /// A profile of the workspace's Cargo.toml.
    pub profile: &'static str,
    /// Fail rather than change Cargo.lock.
    pub locked: bool,
    /// Install Debian packages if there is no compiler for guests.
    pub may_install: bool,
}

/// Compiles guests of a workspace.
#[derive(Debug)]
pub struct Builder<'a> {
    workspace: &'a Workspace,
    settings: Settings,
    toolchain: Toolchain,
    target: PathBuf,
    /// The cargo home.
    home: PathBuf,
    /// Held while core modules are built and read, since builds of other workspaces would replace them.
    _lock: File,
}

impl<'a> Builder<'a> {
    /// Finds a compiler and locks the shared target folder, waiting for other builds.
    pub fn new(workspace: &'a Workspace, settings: Settings) -> Result<Self> {
        let toolchain = Toolchain::find(workspace, settings.may_install)?;
        let target = workspace.cache.join(settings.folder);
        fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
        let lock = files::lock(&target.join("xtask.lock"))?;
        let home = target.join("cargo-home");
        cargo_home::make(&home, &workspace.root)?;
        let builder = Self { workspace, settings, toolchain, target, home, _lock: lock };
        builder.forget_other_workspaces()?;
        Ok(builder)
    }

    /// Compiles targets of a package with a cargo command such as `build`.
    pub fn compile(&self, subcommand: &str, package: &Package, targets: &[&str]) -> Result<()> {
        let mut command = self.cargo(subcommand);
        command.args(["--package", &package.name]).args(targets);
        process::run(command.args(self.toolchain.build_arguments()))
    }

    /// Compiles only the `cdylib` of a package. If the `rlib` for native tests were built as well, the `cdylib`
    /// would not be optimised across crates and would be 50 % larger.
    pub fn compile_library(&self, package: &Package) -> Result<()> {
        self.compile("rustc", package, &["--lib", "--crate-type", "cdylib"])
    }

    /// Wraps a compiled core module; `core` is relative to the folder of target and profile.
    pub fn component(&self, core: &Path) -> Result<Vec<u8>> {
        encode(&self.target.join(TARGET).join(self.settings.profile).join(core))
    }

    /// All workspaces share one target folder, so that the standard library is built only once. But cargo
    /// gives a `cdylib` the same file name in every workspace, and would take one of another workspace or
    /// compiler for up to date. If another workspace used the folder last, this removes the crates of this
    /// workspace; the standard library and other crates stay.
    fn forget_other_workspaces(&self) -> Result<()> {
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
        let mut command = self.toolchain.cargo(self.workspace, &self.home, subcommand);
        command.args(["--profile", self.settings.profile, "--target", TARGET, "--target-dir"]);
        command.arg(&self.target).args(self.workspace.locked().filter(|_| self.settings.locked));
        command
    }
}

/// Wraps a core module, whose custom sections describe its world, into a component.
pub fn encode(core: &Path) -> Result<Vec<u8>> {
    let core = fs::read(core).with_context(|| core.display().to_string())?;
    ComponentEncoder::default().validate(true).module(&core)?.encode()
}

/// The file name that cargo gives a `cdylib`.
pub fn core_file(target: &str) -> PathBuf {
    format!("{}.wasm", target.replace('-', "_")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_world_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.wasm");
        fs::write(&path, b"not wasm").unwrap();
        assert!(encode(&path).is_err());
    }

    #[test]
    fn cargo_writes_dashes_as_underscores() {
        assert_eq!(core_file("eat-memory"), Path::new("eat_memory.wasm"));
    }
}
