//! Finds or installs a compiler from Rust to `wasm32-unknown-unknown`: the active toolchain, if necessary with
//! a target from rustup, or else Debian's rustc, which builds the standard library from source. Prints one
//! line for each decision.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::workspace::Workspace;
use crate::{debian, process, rustup, system};

/// The target of guests. Without WASI, so that a plugin can import only the contract.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The compiler for guests.
#[derive(Debug)]
pub enum Toolchain {
    /// The toolchain that compiles everything else in the workspace.
    Active {
        /// Its folder.
        sysroot: PathBuf,
    },
    /// The system's rustc and cargo, with the standard library built from source.
    System {
        /// The `wasm-ld` to use.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Takes the first compiler that works. The last resort is to install Debian packages, if `may_install` is
    /// set and it is possible. The error is one line with the ways to get a compiler.
    pub fn find(workspace: &Workspace, may_install: bool) -> Result<Self> {
        let sysroot = rustup::sysroot(&workspace.root)?;
        if rustup::has_target(&sysroot, TARGET)? {
            process::note(&format!("compiler: the active rustc, which has {TARGET}"));
            return Ok(Self::Active { sysroot });
        }
        match rustup::add_target(&workspace.root, &sysroot, TARGET, &workspace.cache) {
            Ok(()) if rustup::has_target(&sysroot, TARGET)? => {
                process::note(&format!("compiler: the active rustc; rustup installed {TARGET}"));
                return Ok(Self::Active { sysroot });
            }
            Ok(()) => process::note("rustup installed a target that the active rustc lacks"),
            Err(reason) => process::note(&format!("no {TARGET} from rustup: {reason}")),
        }
        Self::system(&oldest_rustc(workspace), may_install)
    }

    fn system(oldest: &str, may_install: bool) -> Result<Self> {
        let found = system::linker(oldest).or_else(|missing| {
            if may_install && debian::can_install() {
                debian::install(&missing).with_context(|| no_way(&missing))?;
            }
            system::linker(oldest).map_err(|missing| anyhow!(no_way(&missing)))
        });
        let linker = found?;
        let version = system::version_of(system::RUSTC).unwrap_or_default();
        process::note(&format!(
            "compiler: {} {version} with {}, std built from source",
            system::RUSTC,
            linker.display()
        ));
        Ok(Self::System { linker })
    }

    /// A cargo command that compiles guests of a workspace. Variables of the outer cargo, flags for this machine, and
    /// configuration files except `home`'s do not reach it.
    pub fn cargo(&self, workspace: &Workspace, home: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(self.program("cargo"));
        command.arg(subcommand).arg("--manifest-path").arg(workspace.root.join("Cargo.toml"));
        // Cargo reads the configuration files of the folder that it starts in, and of those above.
        command.current_dir("/");
        for (name, _) in env::vars_os().filter(|(name, _)| is_inherited(name)) {
            command.env_remove(name);
        }
        command.env("CARGO_HOME", home).env("RUSTC", self.program("rustc"));
        // Empty is a value: no configuration file comes after it.
        for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env(name, "");
        }
        match self {
            // What is rustup's proxy must start the toolchain that runs this program.
            Self::Active { .. } => command
                .envs(env::var_os("RUSTUP_TOOLCHAIN").map(|name| ("RUSTUP_TOOLCHAIN", name)))
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "rust-lld"),
            Self::System { linker } => command
                .env("PATH", system_path_first(env::var_os("PATH")))
                // Building the standard library requires options that a stable cargo hides.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker),
        };
        command
    }

    /// The path of `cargo` or `rustc`. A toolchain's own, and not rustup's proxy, which would choose a toolchain by the
    /// folder that it starts in.
    fn program(&self, name: &str) -> PathBuf {
        match self {
            Self::Active { sysroot } => {
                let own = sysroot.join("bin").join(name);
                if own.is_file() { own } else { name.into() }
            }
            Self::System { .. } if name == "rustc" => system::RUSTC.into(),
            Self::System { .. } => system::CARGO.into(),
        }
    }

    /// Additional arguments of `cargo build`.
    pub fn build_arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Active { .. } => &[],
            Self::System { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }

    /// A text that changes when the compiler changes.
    pub fn identity(&self) -> Result<String> {
        process::output(Command::new(self.program("rustc")).arg("-vV"))
    }
}

/// The newest `rust-version` of all packages of the workspace.
fn oldest_rustc(workspace: &Workspace) -> String {
    let versions = workspace.packages.iter().filter_map(|package| package.rust_version.as_deref());
    versions.max_by_key(|version| system::numbers(version)).unwrap_or("1.85").to_owned()
}

fn no_way(missing: &[&str]) -> String {
    format!(
        "nothing here compiles Rust to {TARGET}; get it with `rustup target add {TARGET}`, or on \
         Debian as root by `{}`",
        debian::advice(missing)
    )
}

/// Cargo takes the first `rustc` on the `PATH`, and rustup's proxy usually comes before /usr/bin.
fn system_path_first(path: Option<OsString>) -> OsString {
    let mut first = OsString::from("/usr/bin");
    if let Some(path) = path {
        first.push(":");
        first.push(path);
    }
    first
}

/// Whether a variable must not reach a build of guests: variables that the outer cargo set, and compiler
/// flags for this machine. Variables about registries stay.
fn is_inherited(name: &OsStr) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    let Some(name) = name.to_str() else {
        return false;
    };
    if KEPT.iter().any(|kept| name.starts_with(kept)) {
        return false;
    }
    name == "CARGO"
        || name.starts_with("CARGO_")
        || name.starts_with("RUSTC")
        || matches!(
            name,
            "RUSTDOC"
                | "RUSTFLAGS"
                | "RUSTDOCFLAGS"
                | "RUSTUP_TOOLCHAIN"
                | "OUT_DIR"
                | "LD_LIBRARY_PATH"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_cargo_does_not_reach_the_guests() {
        let removed = |name: &str| is_inherited(OsStr::new(name));
        for name in [
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_PROFILE_RELEASE_LTO",
        ] {
            assert!(removed(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR", "PATH", "RUST_BACKTRACE"]
        {
            assert!(!removed(name), "{name}");
        }
    }

    #[test]
    fn the_systems_compiler_comes_first_on_the_path() {
        assert_eq!(system_path_first(Some("/a:/b".into())), "/usr/bin:/a:/b");
        assert_eq!(system_path_first(None), "/usr/bin");
    }

    #[test]
    fn the_message_names_both_ways() {
        let message = no_way(&["rustc-web", "lld-22"]);
        assert!(message.contains("rustup target add wasm32-unknown-unknown"), "{message}");
        assert!(message.contains("apt-get install --no-install-recommends rustc-web lld-22"));
    }
}
