//! `keepgate plugin`: becomes the program `keepgate-plugin`, which has the tools for plugin authors.
//! Arguments, exit code and signals pass through, since the process itself is replaced.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::output::note;

/// The name of its file.
const PROGRAM: &str = "keepgate-plugin";
/// The exit codes of shells for programs that are missing or cannot be started.
const MISSING: u8 = 127;
const NOT_STARTED: u8 = 126;

/// Becomes `keepgate-plugin`, found beside this program or else on the `PATH`. Returns only if that
/// fails; then the exit code.
pub(crate) fn run(arguments: &[OsString]) -> u8 {
    let beside = env::current_exe().map(|own| own.with_file_name(PROGRAM)).unwrap_or_default();
    let found = [beside.clone(), PathBuf::from(PROGRAM)];
    for program in found {
        let error = Command::new(&program).args(arguments).exec();
        if error.kind() != io::ErrorKind::NotFound {
            note!("keepgate: cannot start {}: {error}", program.display());
            return NOT_STARTED;
        }
    }
    note!(
        "keepgate: `keepgate plugin` needs the program {PROGRAM}, which is neither at {} nor on the \
         PATH; install it there, or build it from Keepgate's sources with \
         `cargo build --release --package {PROGRAM}`",
        beside.display()
    );
    MISSING
}
