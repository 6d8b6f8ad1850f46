//! The real programs that tests and benches run against. What cannot be had on this machine is
//! told in a visible `skipped:` line and counted, never an error: the rest is still tested.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keepgate_builder::workspace::Workspace;
use keepgate_builder::{debian, process};

/// Programs and the Debian packages that bring them.
const FROM_DEBIAN: [(&str, &str); 9] = [
    ("restic", "restic"),
    ("rclone", "rclone"),
    ("htpasswd", "apache2-utils"),
    ("curl", "curl"),
    ("minisign", "minisign"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    // Makes single system calls fail, or stop the process there.
    ("strace", "strace"),
    ("setpriv", "util-linux"),
];

/// restic's module and its newest version. Its tests come from the same place: see `suite.rs`.
pub(crate) const RESTIC: (&str, &str) = ("github.com/restic/restic", "v0.19.1");

/// An etcd of today; Debian's is 3.4.
const ETCD: &str = "v3.6.16";

/// Programs that only Go's own tools bring, pinned. Those that Debian has too are named otherwise
/// than Debian's: tests run with both.
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

/// A program of a Go module.
struct GoProgram {
    /// The name under which tests and benches find it.
    name: &'static str,
    module: &'static str,
    /// Below the module, with a slash before it; empty where it is the module's own.
    package: &'static str,
    version: &'static str,
}

impl GoProgram {
    /// The package with its version, as Go writes it.
    fn pinned(&self) -> String {
        format!("{}{}@{}", self.module, self.package, self.version)
    }
}

const GO_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Installs what is missing and can be installed; returns a `skipped:` line for each of the rest.
pub(crate) fn install(workspace: &Workspace) -> Vec<String> {
    let mut skipped = from_debian();
    let tools = workspace.tools();
    for program in FROM_GO {
        if let Err(reason) = from_go(&program, &tools) {
            let (name, pinned, tools) = (program.name, program.pinned(), tools.display());
            skipped.push(format!(
                "skipped: checks with {name}: {reason}; get it by Go, built from {pinned}, as \
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
        format!("skipped: checks with {name}: {reason}; get it by `{advice}` as root")
    };
    missing().map(line).collect()
}

/// Installs a Go program into `folder` unless this very version is there.
fn from_go(wanted: &GoProgram, folder: &Path) -> Result<(), String> {
    let (program, has_go) = (folder.join(wanted.name), process::find("go").is_some());
    let pinned = wanted.pinned();
    // Without go an older one can neither be told nor replaced; its tests are better than none.
    if program.exists() && (!has_go || is_built_from(&program, &pinned)) {
        return Ok(());
    }
    if !has_go {
        return Err("there is no go to build it with".to_owned());
    }
    process::note(&format!("building {pinned}, which can take some minutes"));
    let scratch = folder.join(".build").join(wanted.name);
    require(&scratch, wanted.module, wanted.version)?;
    let mut command = Command::new("go");
    command.args(["build", "-mod=mod", "-o"]).arg(folder.join(wanted.name));
    command.arg(format!("{}{}", wanted.module, wanted.package)).current_dir(&scratch);
    process::within(GO_LIMIT, command)
}

/// Makes a folder into a Go module that only requires this version of another module, whose packages
/// can then be built and tested from there. `go install` would ask for the list of all versions,
/// which not every mirror has, and could not give the program another name.
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

/// Whether `go version -m` tells of the module and version of a package, `PATH@VERSION`.
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
        assert!(!FROM_GO.iter().any(hides), "it would be taken for Debian's");
    }
}
