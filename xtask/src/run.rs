//! `serve`, `plugin` and `bench`: build a program and replace this process by it. [`environment`] tells tests
//! and benchmarks where everything is.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use keepgate_builder::process;
use keepgate_builder::workspace::Workspace;

use crate::{components, guests, protoc};

/// The program that serves.
pub(crate) const GATEWAY: &str = "keepgate";
/// The program behind `keepgate plugin`.
pub(crate) const PLUGIN_TOOLS: &str = "keepgate-plugin";
/// The example of a client of fest.
pub(crate) const FEST: &str = "fest";
const BENCH: &str = "keepgate-bench";

/// Builds the plugins and the gateway and runs `keepgate serve` in the current folder.
pub(crate) fn serve(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    guests::build(workspace, false)?;
    build_program(workspace, GATEWAY)?;
    let mut command = Command::new(workspace.program(GATEWAY));
    command.arg("serve").args(arguments).env("KEEPGATE_PLUGIN_DIR", workspace.plugins());
    become_program(command)
}

/// Builds the plugin tools and runs `keepgate-plugin` in the current folder.
pub(crate) fn plugin(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    build_program(workspace, PLUGIN_TOOLS)?;
    let mut command = Command::new(workspace.program(PLUGIN_TOOLS));
    command.args(arguments).env("KEEPGATE_CACHE", &workspace.cache);
    become_program(command)
}

/// Builds everything, installs the programs to compare with and runs the benchmarks.
pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    ensure!(workspace.package(BENCH).is_some(), "the workspace has no package {BENCH}");
    guests::build(workspace, true)?;
    build_program(workspace, GATEWAY)?;
    build_program(workspace, BENCH)?;
    process::step("components");
    components::install(workspace);
    let mut command = Command::new(workspace.program(BENCH));
    command.args(arguments);
    environment(workspace, &mut command);
    become_program(command)
}

/// Builds a program of the workspace with `--release`. Each program is built by itself: if cargo built
/// several packages together, each would get the features that any of them asks for, and the gateway
/// would contain the test clock of the plugin tools.
pub(crate) fn build_program(workspace: &Workspace, package: &str) -> Result<()> {
    process::step(&format!("build {package}"));
    let mut command = protoc::cargo(workspace, "build")?;
    command.args(["--release", "--package", package]).args(workspace.locked());
    process::run(&mut command)
}

/// Builds all tests, and with them the other programs that tests start. Built by themselves, as users build them, these would
/// need all of the host compiled again, with other features: six minutes on two cores.
pub(crate) fn build_tests(workspace: &Workspace) -> Result<()> {
    process::step("build tests");
    let mut command = protoc::cargo(workspace, "build")?;
    command.args(["--release", "--workspace", "--tests", "--bin", PLUGIN_TOOLS, "--bin", FEST]);
    process::run(command.args(workspace.locked()))
}

/// Tells tests and benchmarks where the gateway, plugins, hostile guests and peers are.
pub(crate) fn environment(workspace: &Workspace, command: &mut Command) {
    command
        .env("KEEPGATE_BIN", workspace.program(GATEWAY))
        .env("KEEPGATE_PLUGIN_DIR", workspace.plugins())
        .env("KEEPGATE_GUEST_DIR", workspace.test_guests())
        .env("KEEPGATE_TOOLS", workspace.tools());
}

/// Replaces this process, so that signals reach the program and its exit code is ours.
#[cfg(unix)]
fn become_program(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    process::step(&process::words(&command));
    let error = command.exec();
    Err(error).with_context(|| process::words(&command))
}

#[cfg(not(unix))]
fn become_program(mut command: Command) -> Result<ExitCode> {
    process::step(&process::words(&command));
    let status = command.status().with_context(|| process::words(&command))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_missing_bench_is_reported_before_anything_is_built() {
        let workspace = Workspace::sample(Path::new("/nonexistent"), vec![]);
        let error = bench(&workspace, &[]).unwrap_err();
        assert!(error.to_string().contains("keepgate-bench"), "{error}");
    }

    /// The packages that a program is linked with and their features, one per line.
    fn dependencies(program: &str) -> String {
        let mut command = Workspace::load().unwrap().cargo("tree");
        command.args([
            "--package",
            program,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--no-dedupe",
        ]);
        process::output(command.args(["--format", "{p} {f}", "--locked", "--offline"])).unwrap()
    }

    #[test]
    fn the_gateway_contains_no_tools_for_authors_and_no_test_clock() {
        let has = |tree: &str, package: &str, feature: &str| {
            let of_package = |line: &&str| line.split(' ').next() == Some(package);
            tree.lines().filter(of_package).any(|line| line.contains(feature))
        };
        let unwanted = [("keepgate-builder", ""), ("keepgate-harness", ""), ("tokio", "test-util")];
        let (gateway, tools) = (dependencies(GATEWAY), dependencies(PLUGIN_TOOLS));
        assert!(has(&gateway, "tokio", "rt-multi-thread"), "{gateway}");
        for (package, feature) in unwanted {
            assert!(!has(&gateway, package, feature), "{package} {feature}");
            assert!(has(&tools, package, feature), "{package} {feature}");
        }
    }

    /// For an integration test, cargo would build the programs again, with the features of all packages
    /// that are tested, in place of those that were built before.
    #[test]
    fn cargo_test_does_not_replace_the_programs() {
        let workspace = Workspace::load().unwrap();
        for program in [GATEWAY, PLUGIN_TOOLS] {
            let tests = workspace.package(program).unwrap().folder.join("tests");
            assert!(!tests.exists(), "{} belongs into tests/", tests.display());
        }
    }

    #[test]
    fn tests_know_where_everything_is() {
        let workspace = Workspace::sample(Path::new("/w"), vec![]);
        let mut command = Command::new("true");
        environment(&workspace, &mut command);
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        let expected =
            ["KEEPGATE_BIN", "KEEPGATE_GUEST_DIR", "KEEPGATE_PLUGIN_DIR", "KEEPGATE_TOOLS"];
        assert_eq!(names, expected);
    }
}
