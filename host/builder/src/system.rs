//! The system's rustc and cargo, as packaged by Debian, and a linker for WebAssembly. They contain only the
//! source of the standard library for guests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// The system's compiler.
pub(crate) const RUSTC: &str = "/usr/bin/rustc";
/// The system's cargo.
pub(crate) const CARGO: &str = "/usr/bin/cargo";
const STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
/// Debian's linker for its rustc-web. Older ones work as well: 14, 16 and 19 were tried and produce the
/// same bytes.
const LLD_PACKAGE: &str = "lld-22";
const OLDEST_LLD: u32 = 14;

/// The linker if compiler and linker are complete, or else the Debian packages that are missing. `oldest` is
/// the minimum version of rustc for the workspace.
pub(crate) fn linker(oldest: &str) -> Result<PathBuf, Vec<&'static str>> {
    let new_enough =
        |program| version_of(program).is_some_and(|version| numbers(&version) >= numbers(oldest));
    let linker = installed_linker();
    let parts = [
        (new_enough(RUSTC), "rustc-web"),
        (new_enough(CARGO), "cargo-web"),
        (Path::new(STD).exists(), "rust-web-src"),
        (linker.is_some(), LLD_PACKAGE),
    ];
    let missing = || parts.into_iter().filter(|(here, _)| !here).map(|(_, package)| package);
    linker.filter(|_| missing().next().is_none()).ok_or_else(|| missing().collect())
}

/// The version of the system's rustc or cargo, for example `1.96.0`.
pub(crate) fn version_of(program: &str) -> Option<String> {
    let mut command = Command::new(program);
    // If it is rustup's proxy, it must not answer for the active toolchain.
    command.arg("--version").env_remove("RUSTUP_TOOLCHAIN");
    let said = process::output(&mut command).ok()?;
    said.split_whitespace().nth(1).map(str::to_owned)
}

/// `1.96.0-beta.1` as `[1, 96, 0]`, for comparing.
pub(crate) fn numbers(version: &str) -> Vec<u32> {
    let release = version.split('-').next().unwrap_or(version);
    release.split('.').map_while(|part| part.parse().ok()).collect()
}

fn installed_linker() -> Option<PathBuf> {
    let names = Path::new("/usr/bin").read_dir().ok()?.flatten();
    let names: BTreeSet<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    choose_linker(&names).map(|name| Path::new("/usr/bin").join(name))
}

/// The newest `wasm-ld-NN` that is not older than the versions that were tried.
fn choose_linker(names: &BTreeSet<String>) -> Option<&str> {
    let version = |name: &str| name.strip_prefix("wasm-ld-")?.parse::<u32>().ok();
    let versions = names.iter().filter_map(|name| Some((version(name)?, name.as_str())));
    versions.filter(|(version, _)| *version >= OLDEST_LLD).max().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_linker_is_taken_and_an_old_one_is_not() {
        let choose = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            choose_linker(&names).map(str::to_owned)
        };
        let all = ["wasm-ld-9", "wasm-ld-19", "wasm-ld-22", "wasm-ld", "ld.lld-23", "wasm-ld-x"];
        assert_eq!(choose(&all).as_deref(), Some("wasm-ld-22"));
        assert_eq!(choose(&["wasm-ld-13", "wasm-ld"]), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("1.96.0") >= numbers("1.95"));
        assert!(numbers("1.100.0-nightly") > numbers("1.95"));
        assert!(numbers("1.63.0") < numbers("1.95"));
        assert_eq!(numbers("1.96.0-beta.1"), [1, 96, 0]);
    }
}
