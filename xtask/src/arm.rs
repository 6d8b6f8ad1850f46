//! `arm`: builds the gateway for 64-bit ARM (Raspberry Pi, NAS) with Debian's cross compiler, starts it under
//! qemu's emulation, and uses it with this machine's restic. Not part of `test`: the build alone takes about ten
//! minutes. What cannot be installed is reported as `skipped:`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use keepgate_builder::workspace::Workspace;
use keepgate_builder::{debian, process, rustup};

use crate::{guests, protoc, run};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The compiler and linker for the parts in C.
const COMPILER: &str = "aarch64-linux-gnu-gcc";
/// Runs programs for ARM.
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross compiler has the C library that the gateway is linked with.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Programs, with Debian's packages that contain them.
const NEEDED: [(&str, &str); 4] = [
    (COMPILER, "gcc-aarch64-linux-gnu"),
    (COMPILER, "libc6-dev-arm64-cross"),
    (EMULATOR, "qemu-user"),
    ("restic", "restic"),
];

/// Builds the gateway and the plugins, and makes, checks and restores a backup.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "`arm` takes no arguments");
    if let Err(reason) = install(workspace) {
        process::note(&format!("skipped: the gateway on ARM: {reason}"));
        return Ok(ExitCode::SUCCESS);
    }
    guests::build(workspace, false)?;
    process::step(&format!("build {} for {TARGET}", run::GATEWAY));
    let mut command = protoc::cargo(workspace, "build")?;
    command.args(["--release", "--package", run::GATEWAY, "--target", TARGET]);
    command.args(workspace.locked());
    command
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER)
        .env("CC_aarch64_unknown_linux_gnu", COMPILER);
    process::run(&mut command)?;
    try_it(workspace)?;
    process::step("the gateway serves restic on ARM");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing. The error says what cannot be had, and how to get it.
fn install(workspace: &Workspace) -> Result<(), String> {
    let missing = || -> Vec<&str> {
        let missing = NEEDED.iter().filter(|(program, _)| process::find(program).is_none());
        missing.map(|(_, package)| *package).collect()
    };
    if !missing().is_empty()
        && debian::can_install()
        && let Err(error) = debian::install(&missing())
    {
        return Err(format!("{error:#}").replace('\n', " "));
    }
    if !missing().is_empty() {
        return Err(format!("get what it needs with `{}` as root", debian::advice(&missing())));
    }
    let in_words = |error: anyhow::Error| format!("{error:#}");
    let sysroot = rustup::sysroot(&workspace.root).map_err(in_words)?;
    if !rustup::has_target(&sysroot, TARGET).map_err(in_words)? {
        rustup::add_target(&workspace.root, &sysroot, TARGET, &workspace.cache).map_err(
            |reason| {
                format!(
                    "no {TARGET} from rustup: {reason}; get it with `rustup target add {TARGET}`"
                )
            },
        )?;
    }
    Ok(())
}

/// Serves a folder with the emulated gateway, and uses it with restic.
fn try_it(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target.join("arm");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let (data, restored) = (folder.join("data"), folder.join("restored"));
    fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
    process::step("start it under emulation");
    let gateway = Gateway::start(workspace, &data)?;
    let restic = |arguments: &[&str]| {
        let mut command = Command::new("restic");
        command.args(arguments).args(["--repo", &gateway.repository, "--no-cache"]);
        command.env("RESTIC_PASSWORD", "geheim");
        process::step(&process::words(&command));
        process::run(&mut command)
    };
    // Sources of this workspace, which is as good as any folder.
    let source = workspace.root.join("host/runtime");
    restic(&["init"])?;
    restic(&["backup", path(&source)?])?;
    restic(&["check", "--read-data"])?;
    restic(&["restore", "latest", "--target", path(&restored)?])?;
    let back = restored.join(source.strip_prefix("/").unwrap_or(&source));
    process::output(Command::new("diff").arg("--recursive").args([&source, &back]))
        .context("what was restored differs from what was backed up")?;
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The emulated gateway. Dropping this ends it.
struct Gateway {
    process: Child,
    /// In restic's syntax.
    repository: String,
}

impl Gateway {
    fn start(workspace: &Workspace, data: &Path) -> Result<Self> {
        let mut command = Command::new(EMULATOR);
        command.args(["-L", LIBRARIES]).arg(program(workspace));
        command.args(["rest-server", "--no-auth", "--listen", "127.0.0.1:0", "--path"]).arg(data);
        command.env("KEEPGATE_PLUGIN_DIR", workspace.plugins());
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let process = command.spawn().with_context(|| process::words(&command))?;
        let mut gateway = Self { process, repository: String::new() };
        let said = gateway.process.stderr.take().context("no pipe from the gateway")?;
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        for line in lines.by_ref() {
            process::note(&line);
            if let Some(address) = line.strip_prefix("start server on ") {
                gateway.repository = format!("rest:http://{address}/arm/");
                break;
            }
        }
        if gateway.repository.is_empty() {
            let status = gateway.process.wait()?;
            bail!("the gateway ended ({status}) before it served");
        }
        // Further output must not fill the pipe.
        thread::spawn(move || lines.for_each(|line| process::note(&line)));
        Ok(gateway)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program(workspace: &Workspace) -> PathBuf {
    workspace.target.join(TARGET).join("release").join(run::GATEWAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_no_arguments() {
        let workspace = Workspace::sample(Path::new("/nonexistent"), vec![]);
        let error = run(&workspace, &["now".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("no arguments"), "{error}");
    }

    #[test]
    fn the_program_is_the_cross_compiled_one() {
        let workspace = Workspace::sample(Path::new("/w"), vec![]);
        let expected = "/w/target/aarch64-unknown-linux-gnu/release/keepgate";
        assert_eq!(program(&workspace), Path::new(expected));
    }
}
