//! From a crate to a component: compiled to a core module in a target folder that all workspaces on
//! this machine share, and wrapped in process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::{Package, Workspace};
use crate::{files, process};

/// How a [`Builder`] compiles.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The folder of what is compiled, below [`Workspace::cache`].
    pub folder: &'static str,
    /// The profile of the workspace's Cargo.toml.
    pub profile: &'static str,
    /// Fail rather than change Cargo.lock.
    pub locked: bool,
    /// Install Debian packages where nothing here compiles guests.
    pub may_install: bool,
}

/// Compiles guests of a workspace.
#[derive(Debug)]
pub struct Builder<'a> {
    workspace: &'a Workspace,
    settings: Settings,
    toolchain: Toolchain,
    target: PathBuf,
    /// Held as long as core modules are built and read: another workspace's build would replace them.
    _lock: File,
}

impl<'a> Builder<'a> {
    /// Finds a compiler and takes the shared target folder, waiting for others who build there.
    pub fn new(workspace: &'a Workspace, settings: Settings) -> Result<Self> {
        let toolchain = Toolchain::find(workspace, settings.may_install)?;
        let target = workspace.cache.join(settings.folder);
        fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
        let lock = files::lock(&target.join("xtask.lock"))?;
        let builder = Self { workspace, settings, toolchain, target, _lock: lock };
        builder.forget_other_workspaces()?;
        Ok(builder)
    }

    /// Compiles what `targets` names of a package; `subcommand` is a cargo command that builds.
    pub fn compile(&self, subcommand: &str, package: &Package, targets: &[&str]) -> Result<()> {
        let mut command = self.cargo(subcommand);
        command.args(["--package", &package.name]).args(targets);
        process::run(command.args(self.toolchain.build_arguments()))
    }

    /// Compiles a package's library alone. With its `rlib` beside it, which native tests need, the
    /// `cdylib` would not be optimised across crates and come out half as large again.
    pub fn compile_library(&self, package: &Package) -> Result<()> {
        self.compile("rustc", package, &["--lib", "--crate-type", "cdylib"])
    }

    /// The component of a core module that was compiled; `core` is below the folder of target and
    /// profile.
    pub fn component(&self, core: &Path) -> Result<Vec<u8>> {
        encode(&self.target.join(TARGET).join(self.settings.profile).join(core))
    }

    /// So that the standard library is built once, all workspaces share one target folder. But cargo
    /// gives a `cdylib` the same file name whichever workspace and compiler it comes from, and would
    /// take another one's for fresh. So whoever finds the folder used by another one has the
    /// workspace's own crates built again; the standard library and other crates stay.
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
        let mut command = self.toolchain.cargo(self.workspace, subcommand);
        command.args(["--profile", self.settings.profile, "--target", TARGET, "--target-dir"]);
        command.arg(&self.target).args(self.workspace.locked().filter(|_| self.settings.locked));
        command
    }
}

/// Wraps a core module, whose custom sections tell its world, into a component.
pub fn encode(core: &Path) -> Result<Vec<u8>> {
    let core = fs::read(core).with_context(|| core.display().to_string())?;
    ComponentEncoder::default().validate(true).module(&core)?.encode()
}

/// The file that cargo makes of a library or example that is a `cdylib`.
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
