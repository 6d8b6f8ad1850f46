//! Spares address space where it is limited (`ulimit -v`, systemd's `LimitAS=`).
//!
//! glibc reserves 64 MiB for each thread that allocates, up to eight times the number of processors: on a
//! machine with many, more than such a limit allows before the first request. How many of these arenas there
//! are is read from the environment when a program starts, so this starts it again.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

/// glibc's variable.
const VARIABLE: &str = "MALLOC_ARENA_MAX";

/// Replaces this process by the same program with two arenas, if its address space is limited and the
/// operator has not chosen. If that fails, it goes on as it is. To be called before there are threads.
pub(crate) fn limit() {
    let chosen = env::var_os(VARIABLE).is_some() || env::var_os("GLIBC_TUNABLES").is_some();
    if chosen || getrlimit(Resource::As).current.is_none() {
        return;
    }
    let mut arguments = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) else { return };
    // Returns only if it fails: under an emulator, for example.
    let _ = Command::new(program).arg0(name).args(arguments).env(VARIABLE, "2").exec();
}
