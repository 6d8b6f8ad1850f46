//! Finding `protoc`, and installing one if need be: the client of etcd compiles etcd's protocol with
//! it when it is built. Cargo finds by itself what the variable `PROTOC` or the `PATH` names, so it
//! is told only of one that we brought; a variable that changed from step to step might make it
//! build things twice.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow};

use keepgate_builder::workspace::{self, Workspace};
use keepgate_builder::{debian, process};

/// The second has the files of protobuf's own that others import, which the first only recommends.
const PACKAGES: [&str; 2] = ["protobuf-compiler", "libprotobuf-dev"];
/// A `protoc` in Rust, for those who cannot install packages. It takes what builds pass to Google's.
const PROTOX: (&str, &str) = ("protox", "0.10.0");

/// The `protoc` that cargo must be told of; none where it finds one by itself.
pub(crate) fn find(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let is_here = || env::var_os("PROTOC").is_some() || is_whole();
    if is_here() {
        return Ok(None);
    }
    let own = own_folder(&workspace.cache).join("bin").join(PROTOX.0);
    if own.is_file() {
        return Ok(Some(own));
    }
    if debian::can_install() {
        match debian::install(&PACKAGES) {
            Ok(()) if is_here() => return Ok(None),
            Ok(()) => process::note("Debian's packages are installed, but brought no protoc"),
            Err(error) => process::note(&format!("no protoc from Debian: {error:#}")),
        }
    }
    process::note(&format!("building {}, once for this machine", PROTOX.0));
    process::run(&mut install_command(&workspace.cache))
        .map_err(|error| anyhow!("{}\n({error:#})", no_way()))?;
    Ok(Some(own))
}

/// A cargo command of the workspace for what may compile the gateway: that takes `protoc`.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str) -> Result<Command> {
    let mut command = workspace.cargo(subcommand);
    command.envs(find(workspace)?.map(|path| ("PROTOC", path)));
    Ok(command)
}

/// Whether there is a `protoc` that finds protobuf's own files, which etcd's protocol imports.
fn is_whole() -> bool {
    let mut command = Command::new("protoc");
    command.args(["--descriptor_set_out=/dev/null", "google/protobuf/descriptor.proto"]);
    process::find("protoc").is_some() && process::output(&mut command).is_ok()
}

/// Where the one that we built lies; another version gets another folder.
fn own_folder(cache: &Path) -> PathBuf {
    cache.join(format!("{}-{}", PROTOX.0, PROTOX.1))
}

fn install_command(cache: &Path) -> Command {
    let mut command = workspace::cargo("install");
    command.args([PROTOX.0, "--version", PROTOX.1, "--features", "bin", "--locked", "--root"]);
    command.arg(own_folder(cache));
    // Built in a temporary folder: its parts are of no use to the workspace.
    command.current_dir("/").env_remove("CARGO_TARGET_DIR");
    command
}

fn no_way() -> String {
    format!(
        "the gateway is built with protoc, and there is none; any of these will do:\n  \
         {}   (as root, on Debian)\n  \
         PROTOC=/path/to/protoc in the environment, from \
         https://github.com/protocolbuffers/protobuf/releases or from\n  \
         cargo install {} --version {} --features bin --locked",
        debian::advice(&PACKAGES),
        PROTOX.0,
        PROTOX.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_lies_in_the_cache_and_is_pinned() {
        let words = process::words(&install_command(Path::new("/c")));
        assert!(words.ends_with("--locked --root /c/protox-0.10.0"), "{words}");
        assert!(words.contains("--version 0.10.0"), "{words}");
    }

    #[test]
    fn the_message_names_every_way() {
        let message = no_way();
        for way in ["apt-get install", "PROTOC=", "cargo install protox"] {
            assert!(message.contains(way), "{message}");
        }
    }

    #[test]
    fn one_that_was_built_is_told_to_cargo_only_where_there_is_no_other() {
        let cache = tempfile::tempdir().unwrap();
        let workspace = Workspace::sample(cache.path(), vec![]);
        let own = own_folder(&workspace.cache).join("bin");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join(PROTOX.0), "").unwrap();
        let has_another = env::var_os("PROTOC").is_some() || process::find("protoc").is_some();
        let expected = (!has_another).then(|| own.join(PROTOX.0));
        assert_eq!(find(&workspace).unwrap(), expected);
    }
}
