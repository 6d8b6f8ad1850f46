//! Paths of programs, what is skipped, figures. A new environment variable is added here and in
//! xtask's `environment`.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::program::Program;

fn variable(name: &str) -> PathBuf {
    let value = env::var_os(name);
    value.map_or_else(|| panic!("{name} is not set: run `cargo xtask test`"), PathBuf::from)
}

/// The `keepgate` program.
pub fn keepgate() -> PathBuf {
    variable("KEEPGATE_BIN")
}

/// The client of fest in `examples`.
pub fn fest() -> PathBuf {
    keepgate().with_file_name("fest")
}

/// The folder of the bundled components.
pub fn plugin_dir() -> PathBuf {
    variable("KEEPGATE_PLUGIN_DIR")
}

/// The bytes of a bundled component, such as `restic`.
pub fn plugin(name: &str) -> Vec<u8> {
    component(&plugin_dir(), name)
}

/// The path of a guest that not every machine can build, because it is in JavaScript or Python.
pub fn find_guest(name: &str) -> Option<PathBuf> {
    let file = variable("KEEPGATE_GUEST_DIR").join(format!("{name}.wasm"));
    file.is_file().then_some(file)
}

/// The bytes of a test guest: `hostile` or `mute`.
pub fn guest(name: &str) -> Vec<u8> {
    component(&variable("KEEPGATE_GUEST_DIR"), name)
}

fn component(folder: &Path, name: &str) -> Vec<u8> {
    let file = folder.join(format!("{name}.wasm"));
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", file.display()))
}

/// A program of this name: one that xtask installed, or one on the `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(variable("KEEPGATE_TOOLS"))
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The same; if it is missing, reports that `check` is skipped and how to get it.
pub fn find_for(name: &str, check: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(
            check,
            &format!("{name} is not installed; `cargo xtask test` installs it when run as root"),
        );
    }
    found
}

/// Reports that something is not checked, where people and xtask see it.
pub fn skip(what: &str, how_to_get_it: &str) {
    let line = format!("skipped: {what} ({how_to_get_it})");
    report(&line);
    if let Some(file) = env::var_os("KEEPGATE_SKIP_FILE") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        // Written in one call, so that lines of concurrent tests do not mix.
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Prints a line even if the test passes: figures are for people.
pub fn report(line: &str) {
    // The test harness captures `eprintln!`, but not this.
    let _ = io::stderr().write_all(format!("    {line}\n").as_bytes());
}

/// Held by tests that measure memory or time, so that they do not measure each other.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another test's failure does not matter here.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a command ended, and its output.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code, or the signal that killed it.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    command: String,
}

impl Finished {
    /// Its standard output. Panics if it failed.
    #[track_caller]
    pub fn success(self) -> String {
        let Self { status, stdout, stderr, command } = self;
        assert!(status.success(), "{command}: {status}\n{stdout}{stderr}");
        stdout
    }

    /// Its standard error. Panics if its exit code is another one.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        let Self { status, stdout, stderr, command } = self;
        assert_eq!(status.code(), Some(code), "{command}: {status}\n{stdout}{stderr}");
        stderr
    }
}

/// Runs a command to its end, with these bytes as its standard input. Panics, and kills it, if it takes
/// longer than `limit`.
pub fn run_with(command: Command, input: &[u8], limit: Duration) -> Finished {
    let words = format!("{command:?}");
    let mut program = Program::start_with(command, input);
    let status = program.wait(limit);
    Finished {
        status,
        stdout: program.stdout.text(),
        stderr: program.stderr.text(),
        command: words,
    }
}

/// Runs a command without input to its end, within three minutes.
pub fn run(command: Command) -> Finished {
    run_with(command, b"", Duration::from_secs(180))
}
