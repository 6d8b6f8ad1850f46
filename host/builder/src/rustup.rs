//! The active toolchain, and installing targets with rustup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::process;

const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of the toolchain that is active in the folder of a project: a file `rust-toolchain.toml` there, or above,
/// may name one.
pub fn sysroot(project: &Path) -> Result<PathBuf> {
    let mut command = Command::new("rustc");
    command.args(["--print", "sysroot"]).current_dir(project);
    Ok(process::output(&mut command)?.trim_end().into())
}

/// Whether a toolchain has the standard library of a target.
pub fn has_target(sysroot: &Path, target: &str) -> Result<bool> {
    let folder = sysroot.join("lib/rustlib").join(target).join("lib");
    let Ok(entries) = folder.read_dir() else {
        return Ok(false);
    };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Adds a target to the toolchain that is active in the folder of a project with rustup. A failure is remembered for a day,
/// so that builds on a machine that cannot reach rustup's server do not wait for it each time.
pub fn add_target(
    project: &Path,
    sysroot: &Path,
    target: &str,
    cache: &Path,
) -> Result<(), String> {
    if process::find("rustup").is_none() {
        return Err("rustup is not installed".to_owned());
    }
    let memory = cache.join("rustup-failure");
    let toolchain = sysroot.display().to_string();
    if let Some(reason) = remembered(&memory, &toolchain, SystemTime::now()) {
        return Err(format!("{reason} (next try when {} is a day old)", memory.display()));
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", target]).env("RUST_BACKTRACE", "0").current_dir(project);
    let result = process::within(LIMIT, command);
    match &result {
        // If this cannot be saved, the next run only waits once more.
        Err(reason) => drop(
            fs::create_dir_all(cache)
                .and_then(|()| fs::write(&memory, format!("{toolchain}\n{reason}\n"))),
        ),
        Ok(()) => drop(fs::remove_file(&memory)),
    }
    result
}

/// The reason if rustup failed for this toolchain less than a day before `now`.
fn remembered(memory: &Path, toolchain: &str, now: SystemTime) -> Option<String> {
    let age = now.duration_since(memory.metadata().ok()?.modified().ok()?).unwrap_or_default();
    let text = fs::read_to_string(memory).ok()?;
    let (of, reason) = text.split_once('\n')?;
    (of == toolchain && age < PAUSE).then(|| reason.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered_for_a_day_and_for_one_toolchain() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("failure");
        let now = SystemTime::now();
        assert_eq!(remembered(&memory, "/stable", now), None);
        fs::write(&memory, "/stable\ncould not reach the server\n").unwrap();
        let reason = Some("could not reach the server".to_owned());
        assert_eq!(remembered(&memory, "/stable", now), reason);
        assert_eq!(remembered(&memory, "/other", now), None);
        assert_eq!(remembered(&memory, "/stable", now + PAUSE * 2), None);
    }
}
