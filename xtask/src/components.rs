//! Installs the programs of `components.txt`, which tests and benchmarks run against. A program that cannot be
//! installed is not an error: a `skipped:` line reports it, and everything else is still tested.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keepgate_builder::workspace::{self, Workspace};
use keepgate_builder::{debian, process};

/// The programs, where they come from, and the pinned versions.
const LIST: &str = include_str!("../components.txt");

/// A program and the Debian package that has it.
struct DebianProgram {
    name: &'static str,
    package: &'static str,
}

/// A program in a Go module.
#[derive(Clone, Copy)]
pub(crate) struct GoProgram {
    /// The name of the installed file.
    name: &'static str,
    pub(crate) module: &'static str,
    /// Relative to the module, with a leading slash; empty for the root of the module.
    package: &'static str,
    pub(crate) version: &'static str,
}

/// A program of a crate.
#[derive(Clone, Copy)]
struct CargoProgram {
    /// The name of the crate and of the program.
    name: &'static str,
    version: &'static str,
    /// The crate's features that the program needs.
    features: &'static str,
}

/// The words of the list's lines, without comments and empty lines.
fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    let kept = LIST.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    kept.map(|line| line.split_whitespace().collect())
}

fn debian_programs() -> impl Iterator<Item = DebianProgram> {
    lines().filter_map(|words| match words[..] {
        ["debian", name, package] => Some(DebianProgram { name, package }),
        _ => None,
    })
}

fn go_programs() -> impl Iterator<Item = GoProgram> {
    lines().filter_map(|words| match words[..] {
        ["go", name, module, package, version] => {
            let package = if package == "." { "" } else { package };
            Some(GoProgram { name, module, package, version })
        }
        _ => None,
    })
}

fn cargo_programs() -> impl Iterator<Item = CargoProgram> {
    lines().filter_map(|words| match words[..] {
        ["cargo", name, version, features] => Some(CargoProgram { name, version, features }),
        _ => None,
    })
}

/// The Go program of this name.
pub(crate) fn go_program(name: &str) -> Result<GoProgram, String> {
    let found = go_programs().find(|program| program.name == name);
    found.ok_or_else(|| format!("xtask/components.txt has no Go program {name:?}"))
}

impl GoProgram {
    /// The package with its version, in Go's syntax.
    fn pinned(&self) -> String {
        format!("{}{}@{}", self.module, self.package, self.version)
    }
}

/// Time to build one program.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Installs what is missing. Returns a `skipped:` line for each program that cannot be installed.
pub(crate) fn install(workspace: &Workspace) -> Vec<String> {
    let mut skipped = from_debian();
    let tools = workspace.tools();
    for program in go_programs() {
        if let Err(reason) = from_go(&program, &tools) {
            let (name, pinned, tools) = (program.name, program.pinned(), tools.display());
            skipped.push(format!(
                "skipped: checks with {name}: {reason}; build it with Go from {pinned} as \
                 {tools}/{name}"
            ));
        }
    }
    for CargoProgram { name, version, features } in cargo_programs() {
        if let Err(reason) = from_cargo(CargoProgram { name, version, features }, &tools) {
            let tools = tools.display();
            skipped.push(format!(
                "skipped: checks with {name}: {reason}; build it with `cargo install {name} --version {version} \
                 --features {features} --locked` and put it into {tools}"
            ));
        }
    }
    skipped.iter().for_each(|line| process::note(line));
    skipped
}

fn from_debian() -> Vec<String> {
    let missing = || debian_programs().filter(|program| process::find(program.name).is_none());
    let packages: Vec<&str> = missing().map(|program| program.package).collect();
    let mut reason = "not on this machine".to_owned();
    if !packages.is_empty()
        && debian::can_install()
        && let Err(error) = debian::install(&packages)
    {
        reason = format!("{error:#}").replace('\n', " ");
    }
    let line = |DebianProgram { name, package }| {
        let advice = debian::advice(&[package]);
        format!("skipped: checks with {name}: {reason}; get it with `{advice}` as root")
    };
    missing().map(line).collect()
}

/// Installs a Go program into `folder`, unless this version is there.
fn from_go(wanted: &GoProgram, folder: &Path) -> Result<(), String> {
    let (program, has_go) = (folder.join(wanted.name), process::find("go").is_some());
    let pinned = wanted.pinned();
    // Without go, the version can neither be determined nor replaced; tests with an older one are better
    // than none.
    if program.exists() && (!has_go || is_built_from(&program, &pinned)) {
        return Ok(());
    }
    if !has_go {
        return Err("go is not installed".to_owned());
    }
    process::note(&format!("building {pinned}, which can take several minutes"));
    let scratch = folder.join(".build").join(wanted.name);
    require(&scratch, wanted.module, wanted.version)?;
    let mut command = Command::new("go");
    command.args(["build", "-mod=mod", "-o"]).arg(folder.join(wanted.name));
    command.arg(format!("{}{}", wanted.module, wanted.package)).current_dir(&scratch);
    process::within(LIMIT, command)
}

/// Installs a crate's program into `folder`, unless this version is there.
fn from_cargo(wanted: CargoProgram, folder: &Path) -> Result<(), String> {
    let CargoProgram { name, version, features } = wanted;
    // Each version has a folder of its own, so that what is there is known without starting it.
    let root = folder.join(".build").join(format!("{name}-{version}"));
    let (built, program) = (root.join("bin").join(name), folder.join(name));
    if !built.is_file() {
        process::note(&format!("building {name} {version}, which can take several minutes"));
        let mut command = workspace::cargo("install");
        command.args([name, "--version", version, "--features", features, "--locked", "--root"]);
        command.arg(&root).arg("--target-dir").arg(root.join("target"));
        // Neither the workspace's toolchain file nor its configuration concerns it.
        command.current_dir("/");
        process::within(LIMIT, command)?;
        // Half a gigabyte that nobody needs any more; if it stays, only space is lost.
        let _ = std::fs::remove_dir_all(root.join("target"));
    }
    if std::fs::read_link(&program).is_ok_and(|target| target == built) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&program);
    std::os::unix::fs::symlink(&built, &program)
        .map_err(|error| format!("{}: {error}", program.display()))
}

/// Turns a folder into a Go module that only requires this version of another module, so that packages of
/// that module can be built and tested from there. `go install` would need the list of all versions, which
/// not every mirror has, and could not rename the program.
pub(crate) fn require(folder: &Path, module: &str, version: &str) -> Result<(), String> {
    let text = format!("module build\n\ngo 1.24\n\nrequire {module} {version}\n");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("go.mod"), text))
        .map_err(|error| format!("{}: {error}", folder.display()))
}

fn is_built_from(program: &Path, package: &str) -> bool {
    let said = process::output(Command::new("go").args(["version", "-m"]).arg(program));
    said.is_ok_and(|said| names_module(&said, package))
}

/// Whether the output of `go version -m` names the module and version of a package, `PATH@VERSION`.
fn names_module(said: &str, package: &str) -> bool {
    let Some((path, version)) = package.rsplit_once('@') else {
        return false;
    };
    said.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("mod")
            && words.next().is_some_and(|module| path.starts_with(module))
            && words.next() == Some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_tells_the_version_it_was_built_from() {
        let said = "/tools/peer: go1.26.8\n\tpath\texample.org/peer/cmd/peer\n\
                    \tmod\texample.org/peer\tv1.2.0\th1:abc=\n\tdep\tx\tv1.3.0\th1:abc=\n";
        assert!(names_module(said, "example.org/peer/cmd/peer@v1.2.0"));
        assert!(!names_module(said, "example.org/peer/cmd/peer@v1.3.0"));
        assert!(!names_module(said, "example.org/other@v1.2.0"));
    }

    #[test]
    fn the_list_is_read_whole() {
        for words in lines() {
            assert!(
                matches!(words[..], ["debian", _, _] | ["go", _, _, _, _] | ["cargo", _, _, _]),
                "not a line of components.txt: {words:?}"
            );
        }
        for program in go_programs() {
            assert!(program.version.starts_with('v'), "{} is not pinned", program.name);
            let hides = debian_programs().any(|other| other.name == program.name);
            assert!(!hides, "{} would be confused with Debian's", program.name);
        }
        assert!(go_program("restic-new").is_ok() && go_program("restic").is_err());
    }
}
