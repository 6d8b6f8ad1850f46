//! Installs Debian packages, if this is a Debian machine and the user is root. Nothing is ever removed: a
//! package that conflicts with an installed one is refused.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use crate::process;

/// Set once the package lists have been fetched; once per run is enough.
static LISTS_ARE_FRESH: AtomicBool = AtomicBool::new(false);

/// Whether packages can be installed without asking for permission.
pub fn can_install() -> bool {
    has_apt() && is_root()
}

/// The command for people to run as root.
pub fn advice(packages: &[&str]) -> String {
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Installs packages. Fetches the package lists first if the installation fails without.
pub fn install(packages: &[&str]) -> Result<()> {
    process::note(&format!("installing {}", packages.join(" ")));
    let known = process::output(&mut install_command(packages));
    if known.is_ok() || LISTS_ARE_FRESH.swap(true, Ordering::Relaxed) {
        return known.map(drop);
    }
    process::output(apt_get().arg("update"))?;
    process::output(&mut install_command(packages)).map(drop)
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends", "--no-remove"]);
    command.args(packages);
    command
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // Waits at most five minutes for another apt.
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn has_apt() -> bool {
    process::find("apt-get").is_some()
}

/// /proc/self belongs to the effective user. Without /proc there is no apt either.
#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ever_removed_and_nobody_is_asked() {
        let command = install_command(&["lld-22"]);
        let words = process::words(&command);
        assert!(words.contains("--no-remove") && words.contains("--yes"), "{words}");
        assert!(words.ends_with("lld-22"), "{words}");
        assert!(command.get_envs().any(|(name, _)| name == "DEBIAN_FRONTEND"));
    }

    #[test]
    fn the_advice_can_be_pasted() {
        assert_eq!(
            advice(&["restic", "curl"]),
            "apt-get install --no-install-recommends restic curl"
        );
    }
}
