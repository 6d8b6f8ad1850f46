//! Installs the programs that tests and benchmarks run against. A program that cannot be installed is not an
//! error: a `skipped:` line reports it, and everything else is still tested.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keepgate_builder::workspace::Workspace;
use keepgate_builder::{debian, process};

/// Programs and their Debian packages.
const FROM_DEBIAN: [(&str, &str); 9] = [
    ("restic", "restic"),
    ("rclone", "rclone"),
    ("htpasswd", "apache2-utils"),
    ("curl", "curl"),
    ("minisign", "minisign"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    // Makes single system calls fail, or stops the process there.
    ("strace", "strace"),
    ("setpriv", "util-linux"),
];

/// restic's Go module and its newest version. `suite.rs` takes its tests from there.
pub(crate) const RESTIC: (&str, &str) = ("github.com/restic/restic", "v0.19.1");

/// A current etcd; Debian's is 3.4.
const ETCD: &str = "v3.6.16";

/// Programs that are built with Go, pinned. Those that Debian has as well get other names than there, since
/// tests use both.
const FROM_GO: [GoProgram; 5] = [
    GoProgram {
        name: "rest-server",
        module: "github.com/restic/rest-server",
        package: "/cmd/rest-server",
        version: "v0.14.0",
    },
    GoProgram { name: "restic-new", module: RESTIC.0, package: "/cmd/restic", version: RESTIC.1 },
    GoProgram { name: "etcd-new", module: "go.etcd.io/etcd/server/v3", package: "", version: ETCD },
    GoProgram {
        name: "etcdctl-new",
        module: "go.etcd.io/etcd/etcdctl/v3",
        package: "",
        version: ETCD,
    },
    GoProgram {
        name: "etcdutl-new",
        module: "go.etcd.io/etcd/etcdutl/v3",
        package: "",
        version: ETCD,
    },
];

/// A program in a Go module.
struct GoProgram {
    /// The name of the installed file.
    name: &'static str,
    module: &'static str,
    /// Relative to the module, with a leading slash; empty for the root of the module.
    package: &'static str,
    version: &'static str,
}

impl GoProgram {
    /// The package with its version, in Go's syntax.
    fn pinned(&self) -> String {
        format!("{}{}@{}", self.module, self.package, self.version)
    }
}

const GO_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Installs what is missing. Returns a `skipped:` line for each program that cannot be installed.
pub(crate) fn install(workspace: &Workspace) -> Vec<String> {
    let mut skipped = from_debian();
    let tools = workspace.tools();
    for program in FROM_GO {
        if let Err(reason) = from_go(&program, &tools) {
            let (name, pinned, tools) = (program.name, program.pinned(), tools.display());
            skipped.push(format!(
                "skipped: checks with {name}: {reason}; build it with Go from {pinned} as \
                 {tools}/{name}"
            ));
        }
    }
    skipped.iter().for_each(|line| process::note(line));
    skipped
}

fn from_debian() -> Vec<String> {
    let missing = || FROM_DEBIAN.into_iter().filter(|(name, _)| process::find(name).is_none());
    let packages: Vec<&str> = missing().map(|(_, package)| package).collect();
    let mut reason = "not on this machine".to_owned();
    if !packages.is_empty()
        && debian::can_install()
        && let Err(error) = debian::install(&packages)
    {
        reason = format!("{error:#}").replace('\n', " ");
    }
    let line = |(name, package): (&str, &str)| {
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
    process::within(GO_LIMIT, command)
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
    fn every_go_program_is_pinned() {
        for program in FROM_GO {
            assert!(program.version.starts_with('v'), "{}", program.name);
        }
        let hides = |program: &GoProgram| FROM_DEBIAN.iter().any(|(name, _)| *name == program.name);
        assert!(!FROM_GO.iter().any(hides), "it would be confused with Debian's");
    }
}
