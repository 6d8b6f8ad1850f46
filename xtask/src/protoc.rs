//! Finds or installs `protoc`, which a dependency of the gateway needs to compile its protocol. Cargo finds
//! one in `PROTOC` or on the `PATH` itself, so `PROTOC` is only set for one that was built here; a variable
//! that changes from step to step could cause needless rebuilds.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow};

use keepgate_builder::workspace::{self, Workspace};
use keepgate_builder::{debian, process};

/// The second has protobuf's own files, which others import and which the first only recommends.
const PACKAGES: [&str; 2] = ["protobuf-compiler", "libprotobuf-dev"];
/// A `protoc` in Rust, for users who cannot install packages. It accepts the arguments that builds pass to
/// Google's.
const PROTOX: (&str, &str) = ("protox", "0.10.0");

/// The `protoc` for cargo. `None` if cargo finds one itself.
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
            Ok(()) => {
                process::note("Debian's packages are installed, but contain no working protoc");
            }
            Err(error) => process::note(&format!("no protoc from Debian: {error:#}")),
        }
    }
    process::note(&format!("building {}, once for this machine", PROTOX.0));
    process::run(&mut install_command(&workspace.cache))
        .map_err(|error| anyhow!("{}\n({error:#})", no_way()))?;
    Ok(Some(own))
}

/// A cargo command that may compile the gateway, and therefore needs `protoc`.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str) -> Result<Command> {
    let mut command = workspace.cargo(subcommand);
    command.envs(find(workspace)?.map(|path| ("PROTOC", path)));
    Ok(command)
}

/// Whether there is a `protoc` that finds protobuf's own files.
fn is_whole() -> bool {
    let mut command = Command::new("protoc");
    command.args(["--descriptor_set_out=/dev/null", "google/protobuf/descriptor.proto"]);
    process::find("protoc").is_some() && process::output(&mut command).is_ok()
}

/// The folder of the one that is built here. Each version has its own.
fn own_folder(cache: &Path) -> PathBuf {
    cache.join(format!("{}-{}", PROTOX.0, PROTOX.1))
}

fn install_command(cache: &Path) -> Command {
    let mut command = workspace::cargo("install");
    command.args([PROTOX.0, "--version", PROTOX.1, "--features", "bin", "--locked", "--root"]);
    command.arg(own_folder(cache));
    // Built in a temporary folder, since the workspace does not need its parts.
    command.current_dir("/").env_remove("CARGO_TARGET_DIR");
    command
}

fn no_way() -> String {
    format!(
        "building the gateway needs protoc, which was not found; get it in one of these ways:\n  \
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
    fn protox_is_pinned_and_built_in_the_cache() {
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
    fn a_built_protoc_is_used_only_if_there_is_no_other() {
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
